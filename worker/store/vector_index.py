"""The HNSW index of each profile's vectors: built once there are enough, without stopping who writes.

Plain psycopg: the dispatcher runs it beside its ticks. Measured at 1536 dimensions: with the index in place 77 to 200 vectors a
second are written, without it thousands; building it takes about 2 ms a vector. So a profile that is filled before it serves is
indexed afterwards, and one with few vectors never: comparing 20,000 of them takes some ten milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql

# Vectors below which an exact search is as fast.
INDEX_FROM = 20_000

# Held by the session that builds: one index at a time, and one that nobody builds any more is known to be a ruin.
_BUILD_LOCK = 0x1E81_0005

_PROFILES = "SELECT id, storage FROM embedding_profiles WHERE serving OR %(id)s::int = id ORDER BY id"
_STATE = "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)"


@dataclass(frozen=True, slots=True)
class Built:
    """An index that was built. ``ruin``: what an interrupted build had left was removed first."""

    profile_id: int
    ruin: bool


def build_missing(connection: Connection[Any], m: int, ef_construction: int, profile_id: int | None = None) -> list[Built]:
    """Build the index of the profile that serves, and of ``profile_id``, where it is wanted and missing.

    ``connection`` must be in autocommit mode: CREATE INDEX CONCURRENTLY takes no transaction. ``m`` and ``ef_construction`` are
    pgvector's. Returns nothing where another session builds.

    Raises:
        psycopg.OperationalError: the database is away.
    """
    if not connection.autocommit:
        raise ValueError("the connection must be in autocommit mode")
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_BUILD_LOCK,)).fetchone()
    if not (row and row[0]):
        return []
    try:
        # It takes as long as it takes.
        connection.execute("SET statement_timeout = 0")
        profiles = connection.execute(_PROFILES, {"id": profile_id}).fetchall()
        return [built for id_, storage in profiles if (built := _build(connection, id_, storage, m, ef_construction))]
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", (_BUILD_LOCK,))


def is_needed(connection: Connection[Any], profile_id: int) -> bool:
    """Whether the profile has enough vectors for an index, and no whole one."""
    state = connection.execute(_STATE, (f"embeddings_{profile_id}_hnsw",)).fetchone()
    return not (state and state[0]) and _is_large(connection, profile_id)


def _is_large(connection: Connection[Any], profile_id: int) -> bool:
    table = sql.Identifier(f"embeddings_{profile_id}")
    statement = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) few").format(table, INDEX_FROM)
    row = connection.execute(statement).fetchone()
    return bool(row and row[0] >= INDEX_FROM)


def _build(connection: Connection[Any], profile_id: int, storage: str, m: int, ef_construction: int) -> Built | None:
    if not is_needed(connection, profile_id):
        return None
    table, index = sql.Identifier(f"embeddings_{profile_id}"), sql.Identifier(f"embeddings_{profile_id}_hnsw")
    ruin = connection.execute(_STATE, (f"embeddings_{profile_id}_hnsw",)).fetchone() is not None
    if ruin:
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(index))
    connection.execute(
        sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} USING hnsw (embedding {}) WITH (m = {}, ef_construction = {})").format(
            index, table, sql.Identifier(f"{storage}_cosine_ops"), m, ef_construction
        )
    )
    return Built(profile_id, ruin)
