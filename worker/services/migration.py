"""Bring the database to the newest schema, make the tables of the embedding profile and set the language."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from worker.settings import Settings
from worker.store import fillings, language, profiles
from worker.store.session import engine, transaction

_SCRIPTS = Path(__file__).parent.parent / "store" / "migrations"
# One migration at a time: `migrate` may be started by several deploys at once.
_MIGRATION_LOCK = 0x1E81_0002


@dataclass(frozen=True, slots=True)
class MigrationState:
    """``current`` is the revision of the database (None: empty), ``head`` the newest one that this code knows."""

    current: str | None
    head: str

    @property
    def up_to_date(self) -> bool:
        return self.current == self.head


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    # Alembic's default splits this option at spaces; a checkout may stand in a folder that has some.
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config


def state(settings: Settings) -> MigrationState:
    """Compare the database with the code."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("the package holds no migrations")
    with engine(settings.database_url).connect() as connection:
        return MigrationState(MigrationContext.configure(connection).get_current_revision(), head)


def migrate(settings: Settings) -> profiles.Profile:
    """Upgrade to the head revision; as long as nothing is served, let the profile serve that the settings name.

    Returns the one that serves. Running it again changes nothing: with documents in the index, another model is a matter of
    `lex-ingest model` (``worker.services.switching``).
    """
    settings.require("database_url")
    target = engine(settings.database_url)
    # Without a transaction of its own: one that only waits is ended after seconds.
    with target.connect().execution_options(isolation_level="AUTOCOMMIT") as guard:
        guard.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        try:
            with target.connect() as connection:
                command.upgrade(_config(connection), "head")
                connection.commit()
        finally:
            guard.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
    # Connections that were made before the extension was there don't know its types.
    target.dispose()
    with transaction(settings.database_url) as connection:
        language.set_to(connection, settings.text_search)
        named = (settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions)
        serving = profiles.serving(connection)
        if serving is not None and ((serving.provider, serving.model, serving.dimensions) == named or _anything(connection)):
            return serving
        profile = profiles.ensure(connection, *named, settings.vector_type)
        profiles.serve(connection, profile)
        if serving is not None:
            fillings.stop(connection, serving.id)
        return profile


def _anything(connection: Connection) -> bool:
    """Whether a document is served."""
    return bool(
        connection.execute(text("SELECT EXISTS (SELECT FROM documents WHERE active_generation IS NOT NULL)")).scalar_one()
    )
