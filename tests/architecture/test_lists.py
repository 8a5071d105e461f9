"""Lists that stand twice: one of the two changes, and these tests say so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import Connection, text

from worker.contract import FILL_TASK, QUEUES, TASK_NAMES, Stage
from worker.domain.document import HAND_BACK, TERMINAL, TRANSITIONS, WAITING_FOR, Status
from worker.settings import VARIABLES, Settings
from worker.store import filling_models, spending_models  # noqa: F401 - their tables are a part of the metadata
from worker.store.models import Base
from worker.store.session import engine

ROOT = Path(__file__).parents[2]

# Each row is one fact of a schema; the tables of embedding profiles and the ledger's days are made when they are needed.
_FACTS = """
    SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
           || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
           || coalesce(' collate ' || l.collname, '') || ' identity ' || a.attidentity::text
           || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    LEFT JOIN pg_collation l ON l.oid = a.attcollation AND l.collname <> 'default'
    WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
      AND c.relname !~ '^(embeddings_[0-9]+|events_.+|alembic_version)$'
    UNION ALL
    SELECT 'constraint ' || c.relname || '.' || k.conname || ' ' || pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relname !~ '^(embeddings_[0-9]+|events_.+|alembic_version)$'
    UNION ALL
    -- A parent's index says ONLY.
    SELECT 'index ' || replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relname !~ '^(embeddings_[0-9]+|events_.+|alembic_version)$'
"""


def facts(connection: Connection, schema: str) -> set[str]:
    connection.execute(text(f"SET LOCAL search_path = {schema}, public"))
    rows = connection.execute(text(_FACTS), {"schema": schema}).scalars()
    return {row.replace(f"{schema}.", "") for row in rows}


def test_the_models_and_the_migrations_make_the_same_tables(settings: Settings) -> None:
    with engine(settings.database_url).connect() as connection:
        migrated = facts(connection, "public")
        connection.execute(text("CREATE SCHEMA of_models"))
        connection.execute(text("SET LOCAL search_path = of_models, public"))
        Base.metadata.create_all(connection, checkfirst=False)
        of_models = facts(connection, "of_models")
        connection.rollback()
    assert migrated == of_models
    assert any(fact.startswith("column documents.due_at") for fact in migrated)


def test_queues_that_are_sent_to_are_queues_that_are_consumed() -> None:
    from worker.celery_app import app

    assert sorted(queue.name for queue in app.conf.task_queues) == sorted(QUEUES.values())
    assert set(QUEUES) == set(Stage)


def test_tasks_that_are_sent_are_tasks_that_are_registered() -> None:
    from worker.celery_app import app

    app.loader.import_default_modules()
    assert {name for name in app.tasks if not name.startswith("celery.")} == {*TASK_NAMES.values(), FILL_TASK}


def test_every_status_has_its_moves_and_is_reached() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert set().union(*TRANSITIONS.values()) == set(Status)
    assert set(WAITING_FOR) | set(HAND_BACK) | TERMINAL == set(Status)


def test_the_diagram_in_the_readme_shows_the_moves_of_the_table() -> None:
    (diagram,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", readme(), re.DOTALL)
    drawn = re.findall(r"^    ([A-Z_]+) --> ([A-Z_]+)$", diagram, re.MULTILINE)
    assert len(drawn) == len(set(drawn)) == len(diagram.splitlines()) - 1  # the first line is the way in
    assert set(drawn) == {(current.value, following.value) for current, many in TRANSITIONS.items() for following in many}


def readme() -> str:
    return (ROOT / "README.md").read_text()


def table_variables() -> set[str]:
    """The variables that stand in the first column of a table of the README."""
    return set(re.findall(r"^\|\s*`([A-Z][A-Z0-9_]+)`\s*\|", readme(), re.MULTILINE))


def program() -> Any:
    from infra.cli.main import app

    group = typer.main.get_command(app)
    assert hasattr(group, "commands")
    return group


def commands() -> Iterator[tuple[str, Any]]:
    yield from program().commands.items()


def test_every_setting_is_in_the_readme() -> None:
    assert set(VARIABLES) - table_variables() == set()


def test_every_variable_of_ours_in_the_readme_is_a_setting() -> None:
    of_commands = {
        variable
        for command in [program(), *(command for _, command in commands())]
        for parameter in command.params
        for variable in ([parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or [])
    }
    ours = {variable for variable in re.findall(r"\b[A-Z][A-Z0-9_]+\b", readme()) if variable.startswith("LEX_INGEST_")}
    assert ours - set(VARIABLES) - of_commands == set()
    assert ours


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_is_in_the_readme(name: str) -> None:
    assert re.search(rf"lex-ingest {re.escape(name)}\b", readme())


def test_every_command_in_the_readme_exists() -> None:
    named = set(re.findall(r"`lex-ingest ([a-z][a-z-]*)", readme())) | set(
        re.findall(r"^(?:\$ )?(?:\.venv/bin/)?lex-ingest ([a-z][a-z-]*)", readme(), re.MULTILINE)
    )
    assert named - {name for name, _ in commands()} == set()
