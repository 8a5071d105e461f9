"""Which profiles want a filler called, and the lock that lets one work on each. Plain psycopg: the dispatcher asks.

The lock belongs to a session, so a filler that is killed blocks nobody; one that is frozen is ended once it has been silent.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection

# With the profile's id as the second key.
_FILL_LOCK = 0x1E81_0007
# Seconds. A filler says something every second or so (``alive``).
_SILENT_AFTER = 60.0

# ``budget_run`` is over only by another `model backfill`.
RUN_SPENT = "budget_run"

_HELD = f"""
    locktype = 'advisory' AND classid = {_FILL_LOCK} AND objsubid = 2
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

# The newest of what is served, by one probe of ix_documents_served_since: with nothing new, that is all that is read.
_WANTED = f"""
SELECT profile.id FROM embedding_profiles profile LEFT JOIN embedding_fillings filling ON filling.profile_id = profile.id
WHERE profile.kept_filled AND NOT profile.serving
  AND (filling.rest_until IS NULL OR filling.rest_until <= now()) AND filling.code IS DISTINCT FROM '{RUN_SPENT}'
  AND (SELECT coalesce(indexed_at, created_at) FROM documents WHERE active_generation IS NOT NULL
       ORDER BY coalesce(indexed_at, created_at) DESC, id DESC LIMIT 1) > coalesce(filling.filled_until, '-infinity')
  AND profile.id NOT IN (SELECT objid::bigint FROM pg_locks WHERE {_HELD})
ORDER BY profile.id
"""

_END_SILENT = f"""
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE usename = current_user AND state_change < now() - make_interval(secs => %s) AND {_HELD}
"""

_FILLED = "SELECT p.id FROM embedding_profiles p JOIN embedding_fillings f ON f.profile_id = p.id WHERE p.kept_filled AND {}"


def wanted(connection: Connection[Any]) -> list[int]:
    """Ids of kept-filled profiles with something new to look at, that nobody fills now, and that do not rest."""
    connection.execute(_END_SILENT, (_SILENT_AFTER,))
    return [row[0] for row in connection.execute(_WANTED).fetchall()]


def whole(connection: Connection[Any]) -> list[int]:
    """Ids of kept-filled profiles whose filling has reached its end at least once: their index is worth building."""
    return [row[0] for row in connection.execute(_FILLED.format("f.filled_at IS NOT NULL").encode()).fetchall()]


def hold(connection: Connection[Any], profile_id: int) -> bool:
    """True if this session is the profile's one filler, until it ends. ``connection`` must be in autocommit mode."""
    # The server notices within half a minute that the filler's host has vanished.
    connection.execute("SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3")
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (_FILL_LOCK, profile_id)).fetchone()
    return bool(row and row[0])


def is_held(connection: Connection[Any], profile_id: int) -> bool:
    """Whether somebody fills the profile now."""
    row = connection.execute(f"SELECT EXISTS (SELECT FROM pg_locks WHERE objid = %s::bigint AND {_HELD})".encode(), (profile_id,))
    return bool((row.fetchone() or (False,))[0])


def alive(connection: Connection[Any]) -> None:
    """Say that the filler is at work.

    Raises:
        psycopg.OperationalError: the session was ended, and the lock with it: somebody else may fill by now.
    """
    connection.execute("SELECT 1")
