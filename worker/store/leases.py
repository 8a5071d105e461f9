"""A stage's hold on a document: claim, renew, fence, and the ways to end it.

Every status change here is one UPDATE that compares (status, generation, lease token) and sets the new state; when it
matches no row, somebody else holds the document and ``LeaseLost`` is raised. Moves are checked against
``worker.domain.document.TRANSITIONS``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, update
from sqlalchemy.sql.dml import ReturningUpdate

from worker.contract import Stage
from worker.domain.document import HAND_BACK, TERMINAL, Status, check_transition
from worker.domain.errors import LeaseLost
from worker.store.lease_statements import (
    CLAIM,
    ENDED,
    FENCE,
    HELD,
    RELYING_FENCE,
    REMOVED,
    claiming,
    fact,
    finishing,
    handing_on,
    in_seconds,
)
from worker.store.models import Document

_IN_VAIN = "the object was removed while it was worked on"


@dataclass(frozen=True, slots=True)
class Lease:
    """Proof of holding a document: whoever writes shows ``(document_id, generation, token)``."""

    document_id: uuid.UUID
    generation: int
    token: uuid.UUID
    status: Status
    bucket: str
    key: str
    attempts: int
    active_generation: int | None
    force: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """How a lease ended: the status now, and the generation to wake somebody for, where more is wanted."""

    status: Status
    wake_generation: int | None


def claim(connection: Connection, document_id: uuid.UUID, stage: Stage, lease_seconds: float) -> Lease | None:
    """Take the document on for ``stage``, or return None where there is nothing to take.

    A waiting row can be claimed when a wake-up was sent for it or its time has come; a row that waits for a retry can't
    be claimed early by a stray message, and none for the embedding stage while its gate is closed.
    """
    row = connection.execute(claiming(stage), {"claimed_id": document_id, "lease_seconds": lease_seconds}).one_or_none()
    if row is None:
        return None
    return Lease(
        row.id,
        row.generation,
        row.lease_token,
        CLAIM[stage][1],
        row.bucket,
        row.key,
        row.attempts,
        row.active_generation,
        row.force,
    )


def _shown(lease: Lease) -> dict[str, Any]:
    """The parameters of ``HELD``."""
    return {
        "held_id": lease.document_id,
        "held_generation": lease.generation,
        "held_token": lease.token,
        "held_status": lease.status,
    }


def renew(connection: Connection, lease: Lease, lease_seconds: float) -> None:
    """Push the lease's end forward.

    Raises:
        LeaseLost: it has been taken away, or the object was removed meanwhile and the work is in vain.
    """
    row = connection.execute(
        update(Document).where(HELD).values(due_at=in_seconds(lease_seconds)).returning(REMOVED.label("removed")),
        _shown(lease),
    ).one_or_none()
    if row is None:
        raise LeaseLost()
    if row.removed:
        raise LeaseLost(_IN_VAIN)


def fence(connection: Connection, lease: Lease, relying: bool = False) -> None:
    """Lock the row for the rest of this transaction; every writing transaction begins with this.

    ``relying``: and until its end nobody erases a vector, nor switches the profile that serves.

    Raises:
        LeaseLost: the lease is not held any more, or the object was removed meanwhile; the transaction must write nothing.
    """
    row = connection.execute(RELYING_FENCE if relying else FENCE, _shown(lease)).one_or_none()
    if row is None:
        raise LeaseLost()
    if row.removed:
        raise LeaseLost(_IN_VAIN)


def _end(connection: Connection, lease: Lease, statement: ReturningUpdate[*tuple[Any, ...]], **parameters: Any) -> Any:
    """Run the UPDATE of the held row, and give the row as it is after it."""
    row = connection.execute(statement, _shown(lease) | parameters).one_or_none()
    if row is None:
        raise LeaseLost()
    return row


def _as_parameters(facts: dict[str, Any]) -> dict[str, Any]:
    return {fact(name): value for name, value in facts.items()}


def hand_on(connection: Connection, lease: Lease, requeue_after: float, etag: str, **facts: Any) -> Ended:
    """EXTRACTING -> EXTRACTED: the chunks are stored, and the embedding stage is to be woken.

    A hint that came meanwhile and names the very ``etag`` that was read asks for nothing more: one upload may send two
    events, and the second must not cost a second run.
    """
    status = check_transition(lease.status, Status.EXTRACTED)
    statement = handing_on(tuple(facts))
    _end(connection, lease, statement, requeue_seconds=requeue_after, read_etag=etag, **_as_parameters(facts))
    return Ended(status, lease.generation)


def finish(
    connection: Connection, lease: Lease, status: Status, requeue_after: float, *, indexed: bool = False, **facts: Any
) -> Ended:
    """End in a terminal status; if a newer generation is wanted, the row is PENDING at once instead.

    ``facts`` are columns of ``documents`` to set, and their values; ``indexed`` sets ``indexed_at`` to now. ``force`` is kept
    where a newer generation is wanted.
    """
    if status not in TERMINAL:
        raise ValueError(f"{status} is not terminal")
    statement = finishing(lease.status, status, tuple(facts), indexed)
    row = _end(connection, lease, statement, requeue_seconds=requeue_after, **_as_parameters(facts))
    return Ended(Status(row.status), row.desired_generation if row.queued else None)


def hand_back(
    connection: Connection,
    lease: Lease,
    *,
    after: float,
    spend: bool,
    error_code: str | None,
    error: str | None,
    queued: bool = False,
) -> Ended:
    """Return the document to the status that waits for this stage, due again ``after`` seconds from now.

    ``spend`` counts this as one of the document's attempts; a clean shutdown, a closed gate and a service that is down
    don't.
    """
    waits = check_transition(lease.status, HAND_BACK[lease.status])
    # Nothing is to be embedded any more of an object that may be gone: whoever comes next looks at the bucket first.
    again = check_transition(lease.status, Status.PENDING)
    row = _end(
        connection,
        lease,
        update(Document)
        .where(HELD)
        .values(
            status=case((REMOVED, again), else_=waits),
            lease_token=None,
            queued=queued,
            due_at=in_seconds(after),
            attempts=Document.attempts + (1 if spend else 0),
            error_code=error_code,
            error=error,
            updated_at=func.now(),
        )
        .returning(*ENDED),
    )
    return Ended(Status(row.status), row.desired_generation if queued else None)
