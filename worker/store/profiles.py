"""Embedding profiles, and the one typed vector table that each has.

One table a profile keeps the column typed (``vector(384)`` beside ``vector(1536)``) and gives each its own HNSW index.
One table with partial indexes was measured: a generic prepared plan ignores them (DESIGN.md).

A row is ``(text_sha256, embedding)``: the vector belongs to the text, whichever chunks have it (``worker.store.vectors``).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from worker.store.models import EmbeddingProfile

# Any constant will do, as long as nothing else in this database uses it: one process at a time makes tables.
_DDL_LOCK = 0x1E81_0001

_FILLED_UNTIL_NOW = """
INSERT INTO embedding_fillings (profile_id, filled_until, filled_at)
SELECT id, now(), now() FROM embedding_profiles WHERE serving
ON CONFLICT (profile_id) DO UPDATE SET filled_until = now(), filled_at = now(), rest_until = NULL, code = NULL, reason = NULL,
                                       budget = NULL
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """A provider's model at a number of dimensions. ``table`` holds its vectors: (text_sha256, embedding), of type ``storage``.

    ``serving`` and ``kept_filled`` are as of the moment at which it was read; ``worker.store.models`` says what they mean.
    """

    id: int
    provider: str
    model: str
    dimensions: int
    storage: str
    serving: bool = False
    kept_filled: bool = False
    base_url: str | None = None
    send_dimensions: bool = False

    @property
    def table(self) -> str:
        return f"embeddings_{self.id}"

    @property
    def index(self) -> str:
        return f"{self.table}_hnsw"

    @property
    def name(self) -> str:
        """How people name it: ``text-embedding-3-small`` of ``openai`` at 1536 is ``openai/text-embedding-3-small/1536``."""
        return f"{self.provider}/{self.model}/{self.dimensions}"


_COLUMNS = (
    EmbeddingProfile.id,
    EmbeddingProfile.provider,
    EmbeddingProfile.model,
    EmbeddingProfile.dimensions,
    EmbeddingProfile.storage,
    EmbeddingProfile.serving,
    EmbeddingProfile.kept_filled,
    EmbeddingProfile.base_url,
    EmbeddingProfile.send_dimensions,
)

# Made once: making a statement costs as much as running it.
_SERVING = select(*_COLUMNS).where(EmbeddingProfile.serving)


def find(connection: Connection, provider: str, model: str, dimensions: int) -> Profile | None:
    """The stored profile, or None before its table was made."""
    row = connection.execute(
        select(*_COLUMNS).where(
            EmbeddingProfile.provider == provider, EmbeddingProfile.model == model, EmbeddingProfile.dimensions == dimensions
        )
    ).one_or_none()
    return None if row is None else Profile(*row)


def serving(connection: Connection) -> Profile | None:
    """The profile that queries are answered from; None before the first ``migrate``."""
    row = connection.execute(_SERVING).one_or_none()
    return None if row is None else Profile(*row)


def before(connection: Connection) -> Profile | None:
    """The profile that served before the one that does; None where there was none, or it was dropped."""
    row = connection.execute(
        select(*_COLUMNS)
        .where(~EmbeddingProfile.serving, EmbeddingProfile.switched_at.is_not(None))
        .order_by(EmbeddingProfile.switched_at.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Profile(*row)


def every(connection: Connection) -> list[Profile]:
    """All of them, the oldest first."""
    return [Profile(*row) for row in connection.execute(select(*_COLUMNS).order_by(EmbeddingProfile.id))]


def serve(connection: Connection, profile: Profile) -> None:
    """Answer queries from this profile from the commit on. The one before is kept filled, so that the way back is open."""
    # What was served until now has its vectors: the filling goes on from here.
    connection.execute(text(_FILLED_UNTIL_NOW))
    connection.execute(
        update(EmbeddingProfile).where(EmbeddingProfile.serving).values(serving=False, kept_filled=True, switched_at=func.now())
    )
    connection.execute(
        update(EmbeddingProfile)
        .where(EmbeddingProfile.id == profile.id)
        .values(serving=True, kept_filled=False, switched_at=func.now())
    )


def ensure(
    connection: Connection,
    provider: str,
    model: str,
    dimensions: int,
    storage: str,
    base_url: str | None = None,
    send_dimensions: bool = False,
) -> Profile:
    """Return the profile, making its row and its table where they are missing. Safe to run at once by many.

    A profile that is there keeps the storage that it was made with. The index comes later (``worker.store.vector_index``).
    """
    connection.execute(select(func.pg_advisory_xact_lock(_DDL_LOCK)))
    connection.execute(
        insert(EmbeddingProfile)
        .values(
            provider=provider,
            model=model,
            dimensions=dimensions,
            storage=storage,
            base_url=base_url,
            send_dimensions=send_dimensions,
        )
        .on_conflict_do_nothing()
    )
    profile = find(connection, provider, model, dimensions)
    if profile is None:
        raise RuntimeError("the profile that was just inserted is not there")
    # The name is made of our own integer, and a type modifier can't be a bound parameter.
    connection.execute(
        text(
            f"CREATE TABLE IF NOT EXISTS {profile.table} ("
            f"text_sha256 bytea PRIMARY KEY, embedding {profile.storage}({profile.dimensions:d}) NOT NULL)"
        )
    )
    # Plain storage keeps the vector in the row: a search reads no TOAST table (pgvector README, "Performance").
    connection.execute(text(f"ALTER TABLE {profile.table} ALTER COLUMN embedding SET STORAGE PLAIN"))
    # An HNSW scan walks over dead vectors too, until a vacuum takes them out: after 5% of the rows, where the default is 20%.
    connection.execute(text(f"ALTER TABLE {profile.table} SET (autovacuum_vacuum_scale_factor = 0.05)"))
    return profile


def drop(connection: Connection, profile: Profile) -> None:
    """Drop its vectors and its row; its name stays, for the cost ledger tells of it.

    Raises:
        sqlalchemy.exc.OperationalError: somebody reads the table for longer than the transaction's ``lock_timeout``.
    """
    connection.execute(text(f"DROP TABLE {profile.table}"))
    connection.execute(
        text(
            "INSERT INTO dropped_profiles (profile_id, provider, model, dimensions) "
            "SELECT id, provider, model, dimensions FROM embedding_profiles WHERE id = :id"
        ),
        {"id": profile.id},
    )
    connection.execute(text("DELETE FROM embedding_profiles WHERE id = :id"), {"id": profile.id})
