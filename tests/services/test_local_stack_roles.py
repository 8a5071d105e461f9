"""The local database's roles: no superuser in DATABASE_URL, and clusters that had one there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.local import postgres
from infra.local.folder import LAYOUT, Folder
from infra.local.stack import Stack, StackError, down, find
from tests.support.local_stack import older, processes, until

# Of each kind one that a user may have made.
OBJECTS = """
CREATE SCHEMA theirs;
CREATE TABLE theirs."Odd name" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, day date);
CREATE TABLE parted (id serial, day date) PARTITION BY RANGE (day);
CREATE TABLE parted_2026 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE VIEW seen AS SELECT * FROM parted;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM parted;
CREATE SEQUENCE alone;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (a int, b int);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE FUNCTION twice(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1 * 2';
CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total(integer) (SFUNC = int4pl, STYPE = integer);
CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION search (COPY = english);
CREATE STATISTICS together ON id, day FROM parted;
INSERT INTO parted VALUES (DEFAULT, '2026-11-28');
INSERT INTO theirs."Odd name" (day) VALUES ('2026-11-26');
SELECT lo_create(4711);
"""
STRANGERS = """
SELECT 'relation', oid::regclass::text FROM pg_class WHERE relowner <> %(role)s::regrole AND oid >= 16384
UNION ALL SELECT 'function', oid::regprocedure::text FROM pg_proc WHERE proowner <> %(role)s::regrole AND oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
UNION ALL SELECT 'type', oid::regtype::text FROM pg_type WHERE typowner <> %(role)s::regrole AND oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid IN (pg_type.oid, pg_type.typelem) AND deptype = 'e')
UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspowner <> %(role)s::regrole AND oid >= 16384
UNION ALL SELECT 'configuration', cfgname FROM pg_ts_config WHERE cfgowner <> %(role)s::regrole AND oid >= 16384
UNION ALL SELECT 'dictionary', dictname FROM pg_ts_dict WHERE dictowner <> %(role)s::regrole AND oid >= 16384
UNION ALL SELECT 'statistics', stxname FROM pg_statistic_ext WHERE stxowner <> %(role)s::regrole
UNION ALL SELECT 'large object', oid::text FROM pg_largeobject_metadata WHERE lomowner <> %(role)s::regrole
"""


@pytest.fixture
def old(folder: Path) -> Iterator[Path]:
    """A folder as the code of 26 November made it: ``lex`` is the superuser, and ``stack.json`` knows no layout."""
    older(folder, parts=("postgres",))
    with session(Folder.load(folder)) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,)
        for statement in OBJECTS.split(";\n"):
            connection.execute(statement or "SELECT 1")
        connection.execute('CREATE DATABASE "another\'s one"')
    with session(Folder.load(folder), "another's one") as connection:
        connection.execute("CREATE TABLE there AS SELECT 1 AS number")
    yield folder
    down(folder)


def session(folder: Folder, database: str = postgres.DATABASE) -> psycopg.Connection[Any]:
    return psycopg.connect(postgres.url(folder, database), autocommit=True)


def test_the_role_of_the_clients_is_no_superuser_and_owns_its_database(folder: Path, start: Callable[..., Stack]) -> None:
    stack = start(parts=("postgres",))
    secrets = Folder.load(folder).secrets
    assert secrets["postgres"] != secrets["postgres-superuser"]
    assert secrets["postgres-superuser"] not in "".join(stack.environment.values())
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
        rights = (
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        )
        assert connection.execute(rights).fetchone() == (False,) * 5
        owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
        assert connection.execute(owner).fetchone() == ("lex",)
        connection.execute("CREATE TABLE own (embedding public.vector(2))")
        for statement in (
            "COPY own FROM PROGRAM 'echo'",
            "SELECT pg_read_file('/etc/passwd')",
            "CREATE ROLE another SUPERUSER",
            "ALTER SYSTEM SET log_statement = 'all'",
            "SET ROLE lex_superuser",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_schema_is_made_by_the_role_of_the_clients_alone(folder: Path, start: Callable[..., Stack]) -> None:
    stack = start(parts=("postgres",), migrate_database=True)
    with psycopg.connect(stack.environment["DATABASE_URL"]) as connection:
        assert connection.execute(STRANGERS, {"role": "lex"}).fetchall() == []
        assert (connection.execute("SELECT count(*) FROM documents").fetchone()) == (0,)


@pytest.mark.parametrize("running", [False, True])
def test_a_cluster_whose_clients_were_superuser_is_taken_over(old: Path, start: Callable[..., Stack], running: bool) -> None:
    before, pids = Folder.load(old), processes(old)
    assert find(old) is not None
    if not running:
        down(old)
    lines: list[str] = []

    stack = start(old, parts=("postgres",), on_progress=lines.append)

    assert any("older version" in line for line in lines) is running
    assert not set(pids.values()) & set(processes(old).values())
    assert Folder.load(old).layout == LAYOUT
    # The address that other clients have stays right.
    assert stack.environment["DATABASE_URL"] == before.environment["DATABASE_URL"]
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        assert connection.execute(STRANGERS, {"role": "lex"}).fetchall() == []
        databases = "SELECT datname FROM pg_database WHERE datdba = 'lex'::regrole ORDER BY 1"
        assert connection.execute(databases).fetchall() == [("another's one",), ("lex_ingest",)]
        roles = "SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1"
        assert connection.execute(roles).fetchall() == [("lex",), ("lex_superuser",)]
        assert connection.execute("SELECT id FROM parted").fetchall() == [(1,)]
        connection.execute("ALTER TABLE parted ADD COLUMN more text")
        connection.execute('DROP TABLE theirs."Odd name"')
    with session(Folder.load(old), "another's one") as connection:
        assert connection.execute(STRANGERS, {"role": "lex"}).fetchall() == []
    # The password that clients have had is no superuser's any more.
    folder = Folder.load(old)
    folder.secrets["postgres-superuser"] = folder.secrets["postgres"]
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(postgres.url(folder, role=postgres.SUPERUSER))
    # A second time there is nothing left to do.
    down(old)
    assert start(old, parts=("postgres",)).environment == stack.environment


@pytest.mark.parametrize("step", ["CREATE ROLE lex_takeover", "CREATE ROLE lex ", "ALTER ROUTINE"])
def test_a_takeover_that_was_interrupted_is_finished_by_the_next_up(
    old: Path, start: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    down(old)
    execute = psycopg.Connection.execute

    def interrupted(connection: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        result = execute(connection, query, *arguments, **options)
        if str(query).startswith(step):
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(old, parts=("postgres",))
    assert Folder.load(old).layout == 0
    stack = start(old, parts=("postgres",))
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
        assert connection.execute(STRANGERS, {"role": "lex"}).fetchall() == []
        assert connection.execute("SELECT id FROM parted").fetchall() == [(1,)]


def test_an_older_up_that_waits_in_front_is_ended_and_does_not_stop_the_new_stack(
    folder: Path, start: Callable[..., Stack]
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from infra.local import stack, supervision\n"
        "running = stack.up(Path(sys.argv[1]), parts=('valkey',), detach=False)\n"
        "while running.is_running(): time.sleep(0.05)\n"  # as the code of 26 November waits
        "stack.down(Path(sys.argv[1]))"
    )
    root = Path(postgres.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=root, env=dict(os.environ)) as front:
        until(lambda: Folder.load(folder).parts == ["valkey"], 60)
        forget(folder)
        start(parts=("valkey",))
        pids = processes(folder)
        assert front.wait(30) != 0
        assert set(pids) == {"supervisord", "valkey"}
        assert processes(folder) == pids


def forget(folder: Path) -> None:
    """Take out of ``stack.json`` what the code of 26 November did not write."""
    kept = json.loads((folder / "stack.json").read_text())
    del kept["layout"], kept["provider"]
    (folder / "stack.json").write_text(json.dumps(kept))


def test_a_folder_of_a_newer_version_is_refused(folder: Path, start: Callable[..., Stack]) -> None:
    start(parts=("valkey",))
    down(folder)
    kept = json.loads((folder / "stack.json").read_text())
    (folder / "stack.json").write_text(json.dumps(kept | {"layout": LAYOUT + 1}))
    with pytest.raises(StackError, match="A newer version of lex-ingest has made"):
        start(parts=("valkey",))
