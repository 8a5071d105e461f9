"""Connections without SQLAlchemy, and how soon any connection of the project notices that the other side is gone."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import Connection

# How PostgreSQL lists the sessions of SQLAlchemy's engine, which the stages write by.
WORKER_APPLICATION = "lex-ingest"

# Shared by whoever relies on vectors that stand until it commits, exclusive for whoever erases some or switches profiles
# (worker.store.vectors, worker.store.pruning).
VECTORS_LOCK = 0x1E81_0006

# libpq's parameters, in seconds but for tcp_user_timeout (milliseconds): PostgreSQL manual, "Database Connection Control
# Functions". Without them a server that vanishes silently is waited for by the kernel's defaults: two hours.
KEEPALIVES: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


def connect(database_url: str, application_name: str) -> Connection[Any]:
    """A connection for short work in the background. Every wait is bounded: one that hangs in a tick, say, would keep all other
    dispatchers from theirs.

    Raises:
        psycopg.OperationalError: the database is away.
    """
    return psycopg.connect(
        database_url,
        application_name=application_name,
        # No bitmap scans: on a table without statistics the planner would sort all due rows of a million by one (2 s a tick).
        options="-c statement_timeout=30s -c idle_in_transaction_session_timeout=10s -c enable_bitmapscan=off",
        **KEEPALIVES,
    )
