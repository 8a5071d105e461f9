"""The dispatcher's SQL: rows whose time has come. Plain psycopg, because a Lambda function runs it too.

All times are the database's. Every statement takes rows with ``FOR UPDATE SKIP LOCKED`` and moves ``due_at`` forward, so
that two dispatchers, or a dispatcher and a stage, never wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection

from worker.contract import Stage
from worker.domain.document import HAND_BACK, WAITING_FOR, Status, check_transition
from worker.domain.retrying import MAX_LEASE_LOSSES
from worker.store.driver import WORKER_APPLICATION

# Held for the length of one tick's transaction: one dispatcher at a time is enough.
_TICK_LOCK = 0x1E81_0003

_WAITING: dict[Stage, Status] = {stage: status for status, stage in WAITING_FOR.items()}
_FALL_BACK = " ".join(f"WHEN '{working}' THEN '{check_transition(working, waiting)}'" for working, waiting in HAND_BACK.items())
for _working in HAND_BACK:
    check_transition(_working, Status.FAILED)
    check_transition(_working, Status.PENDING)

# A lease that ran out: its worker has vanished. The document goes back to the status that waits, and is due at once;
# after too many losses it is the document that ends workers.
_LOST_LEASES = f"""
WITH lost AS (
UPDATE documents SET
    lease_token = NULL,
    lease_losses = lease_losses + 1,
    queued = false,
    status = CASE WHEN lease_losses + 1 >= {MAX_LEASE_LOSSES} AND desired_generation = generation THEN '{Status.FAILED}'
                  -- What ends workers may be the old content; of a removed object nothing more is to be paid for.
                  WHEN desired_generation > generation AND (hint_removed OR lease_losses + 1 >= {MAX_LEASE_LOSSES})
                  THEN '{Status.PENDING}'
                  ELSE CASE status {_FALL_BACK} END END,
    due_at = CASE WHEN lease_losses + 1 >= {MAX_LEASE_LOSSES} AND desired_generation = generation THEN NULL
                  ELSE now() - interval '1 millisecond' END,
    error_code = 'worker_lost',
    error = 'the worker that held this document vanished ' || (lease_losses + 1) || ' times',
    updated_at = now()
WHERE id IN (
    SELECT id FROM documents WHERE due_at < now() AND lease_token IS NOT NULL
    ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING id, status, active_generation
), unserved AS (
    -- What a document that is given up has stored so far will never be served.
    DELETE FROM generations USING lost
    WHERE lost.status = '{Status.FAILED}' AND generations.document_id = lost.id
      AND generations.generation IS DISTINCT FROM lost.active_generation
)
SELECT count(*) FROM lost
"""

# A process that was stopped in the middle of a COPY, or a host that froze, keeps its row locked, and no time limit of PostgreSQL
# ends a session that waits for the rest of a COPY. A worker's transactions take seconds; one that is this old and has PostgreSQL
# wait for it is not at work.
_FROZEN = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = %(name)s
  AND wait_event = 'ClientRead' AND xact_start < now() - make_interval(secs => %(seconds)s)
"""
_FROZEN_AFTER = 30.0

_TAKE_DUE = """
UPDATE documents SET
    queued = true,
    due_at = now() + make_interval(secs => %(requeue_after)s * (1 - random() / 4)),
    -- Since when it waits for a worker, however often one is called: `doctor` asks.
    updated_at = CASE WHEN queued THEN updated_at ELSE now() END
WHERE id IN (
    SELECT id FROM documents WHERE due_at < now() AND lease_token IS NULL AND status = %(status)s
    ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING id, desired_generation
"""

_CLOSED = "SELECT closed_until > now() FROM gates WHERE name = 'embedding'"


@dataclass(frozen=True, slots=True)
class Due:
    """A row that was taken: its stage is to be woken."""

    document_id: UUID
    generation: int
    stage: Stage


def lock_tick(connection: Connection[Any]) -> bool:
    """True if this transaction is the one dispatcher now."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_TICK_LOCK,)).fetchone()
    return bool(row and row[0])


def end_lost_leases(connection: Connection[Any], limit: int) -> int:
    """Take the lease from workers that let it run out. Returns how many there were."""
    row = connection.execute(_LOST_LEASES, {"limit": limit}).fetchone()
    return int(row[0]) if row else 0


def end_frozen_sessions(connection: Connection[Any]) -> int:
    """End the sessions of workers that hold a transaction open and do nothing. Returns how many there were."""
    row = connection.execute(_FROZEN, {"name": WORKER_APPLICATION, "seconds": _FROZEN_AFTER}).fetchone()
    return int(row[0]) if row else 0


def take_due(connection: Connection[Any], stage: Stage, limit: int, requeue_after: float) -> list[Due]:
    """Up to ``limit`` rows that wait for ``stage`` and are due.

    Each is due again ``requeue_after`` seconds from now, or up to a quarter of that earlier.
    """
    rows = connection.execute(
        _TAKE_DUE, {"status": _WAITING[stage].value, "limit": limit, "requeue_after": requeue_after}
    ).fetchall()
    return [Due(row[0], row[1], stage) for row in rows]


def gate_is_closed(connection: Connection[Any]) -> bool:
    """Whether the embedding stage is closed for all documents."""
    row = connection.execute(_CLOSED).fetchone()
    return bool(row and row[0])
