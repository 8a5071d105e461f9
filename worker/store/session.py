"""Connections to PostgreSQL for the worker and the command line (the handler has its own, without SQLAlchemy).

Every transaction is short: none is open during a call to S3, a parser or a provider.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, LiteralString

from pgvector.psycopg import register_vector
from psycopg import Connection as PsycopgConnection
from psycopg import Error, InterfaceError, OperationalError, ProgrammingError
from psycopg.errors import UndefinedTable
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from worker.store.driver import KEEPALIVES, WORKER_APPLICATION

# A pooled connection that has rested for so many seconds is asked whether it is still there; one that breaks sooner than that is
# an error of its transaction, as one that breaks within it is.
_PINGED_AFTER = 1.0
_RETURNED = "returned_at"


def sqlalchemy_url(database_url: str) -> str:
    """SQLAlchemy's spelling of a libpq URL: it wants the driver named."""
    scheme, _, rest = database_url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgresql", "postgres") else database_url


@lru_cache(maxsize=4)
def _engine_of_process(database_url: str, process_id: int) -> Engine:
    engine = create_engine(
        sqlalchemy_url(database_url),
        # Enough for a pool of threads, which share them for milliseconds at a time. None is an overflow, which would be closed
        # at once: connecting, with its password, costs more than all that a document asks. The last used goes first.
        pool_size=12,
        max_overflow=0,
        pool_use_lifo=True,
        pool_recycle=1800,
        # An error's text is logged and stored in Redis: it must not quote what was written.
        hide_parameters=True,
        connect_args={
            **KEEPALIVES,
            "application_name": WORKER_APPLICATION,
            # Filters on the joined tables must not lose hits of the index scan (pgvector README, "Iterative Index Scans").
            # A search asks for up to 200 rows: looking at as many at a time finds nearly all of the nearest.
            "options": "-c hnsw.iterative_scan=strict_order -c hnsw.ef_search=200 -c idle_in_transaction_session_timeout=10000",
        },
    )

    def connected(connection: PsycopgConnection, _entry: ConnectionPoolEntry) -> None:
        try:
            register_vector(connection)
        except ProgrammingError:
            # The extension is not there before the first migration.
            connection.rollback()

    def returned(_connection: PsycopgConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info[_RETURNED] = time.monotonic()

    def taken(connection: PsycopgConnection, entry: ConnectionPoolEntry, _: object) -> None:
        # What ``pool_pre_ping`` does, but not for each of the several transactions of a document: those are milliseconds apart.
        if time.monotonic() - entry.info.get(_RETURNED, math.inf) > _PINGED_AFTER:
            try:
                engine.dialect.do_ping(connection)  # type: ignore[arg-type]  # psycopg's own type is not SQLAlchemy's protocol
            except Error as error:
                raise InvalidatePoolError() from error

    event.listen(engine, "connect", connected)
    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)
    return engine


def engine(database_url: str) -> Engine:
    """The engine of this process. A forked child gets its own, and never touches its parent's sockets."""
    return _engine_of_process(database_url, os.getpid())


def psycopg_below(connection: Connection) -> PsycopgConnection[Any]:
    """The driver's connection below SQLAlchemy's, inside the same transaction: COPY is the driver's own."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, PsycopgConnection):
        raise TypeError("the worker's engine must use psycopg")
    return driver


@contextmanager
def transaction(database_url: str) -> Iterator[Connection]:
    """A transaction: committed at the end of the block, rolled back on an exception."""
    with engine(database_url).begin() as connection:
        yield connection


@contextmanager
def statements(database_url: str) -> Iterator[Connection]:
    """Each statement of the block commits by itself: for one alone, which then is one exchange with PostgreSQL and not three."""
    with engine(database_url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def run_and_commit(connection: Connection, statement: LiteralString, parameters: Mapping[str, Any]) -> int:
    """Run a transaction's last statement, which gives one number, and commit, in one exchange with PostgreSQL.

    For rows that others wait for: whoever stands still in between, stopped or cut off, would hold them until PostgreSQL ends the
    session, and so would the next of its threads that got them. The parameters are written ``%(name)s``.

    Raises:
        psycopg.Error: nothing was committed; or, with the connection lost, perhaps it was.
    """
    driver = psycopg_below(connection)
    with driver.pipeline():
        cursor = driver.execute(statement, parameters)
        driver.commit()
    row = cursor.fetchone()
    return int(row[0]) if row else 0


@contextmanager
def snapshot(database_url: str) -> Iterator[Connection]:
    """A read-only transaction that sees one moment, for reads of several statements."""
    with (
        engine(database_url)
        .connect()
        .execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection,
        connection.begin(),
    ):
        yield connection


# Classes of SQLSTATE that tell of the server and not of what was asked (PostgreSQL manual, "PostgreSQL Error Codes"):
# connection exception, invalid transaction state, transaction rollback, insufficient resources, operator intervention.
_AWAY = frozenset({"08", "25", "40", "53", "57"})


def is_gone(error: BaseException) -> bool:
    """Whether a table is not there: that of a profile which was dropped meanwhile. A plan that knew it says it without a code."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, UndefinedTable) or (isinstance(cause, Error) and "could not open relation" in str(cause))


def is_away(error: BaseException) -> bool:
    """Whether PostgreSQL could not do its work, so that the error says nothing about the document."""
    if isinstance(error, PoolTimeout):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, Error):
        return False
    # Without a code the driver itself speaks: of a lost connection, or of a value that it can't send, which stays so.
    return isinstance(cause, OperationalError | InterfaceError) if cause.sqlstate is None else cause.sqlstate[:2] in _AWAY
