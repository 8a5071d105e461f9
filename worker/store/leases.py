"""A stage's hold on a document: claim, renew, fence, and the ways to end it.

Every status change here is one UPDATE that compares (status, generation, lease token) and sets the new state; when it
matches no row, somebody else holds the document and ``LeaseLost`` is raised. Moves are checked against
``worker.domain.document.TRANSITIONS``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Update,
    and_,
    case,
    func,
    null,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from worker.contract import Stage
from worker.domain.document import HAND_BACK, TERMINAL, Status, check_transition
from worker.domain.errors import LeaseLost
from worker.store.lease_statements import CLAIM, FENCE, REMOVED, claiming, in_seconds
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


def _held(lease: Lease) -> ColumnElement[bool]:
    return and_(
        Document.id == lease.document_id,
        Document.generation == lease.generation,
        Document.lease_token == lease.token,
        Document.status == lease.status,
    )


def renew(connection: Connection, lease: Lease, lease_seconds: float) -> None:
    """Push the lease's end forward.

    Raises:
        LeaseLost: it has been taken away, or the object was removed meanwhile and the work is in vain.
    """
    row = connection.execute(
        update(Document).where(_held(lease)).values(due_at=in_seconds(lease_seconds)).returning(REMOVED.label("removed"))
    ).one_or_none()
    if row is None:
        raise LeaseLost()
    if row.removed:
        raise LeaseLost(_IN_VAIN)


def fence(connection: Connection, lease: Lease) -> None:
    """Lock the row for the rest of this transaction; every writing transaction begins with this.

    Raises:
        LeaseLost: the lease is not held any more, or the object was removed meanwhile; the transaction must write nothing.
    """
    values = {"held_id": lease.document_id, "generation": lease.generation, "token": lease.token, "status": lease.status}
    row = connection.execute(FENCE, values).one_or_none()
    if row is None:
        raise LeaseLost()
    if row.removed:
        raise LeaseLost(_IN_VAIN)


def _end(connection: Connection, lease: Lease, statement: Update) -> Any:
    """Run the UPDATE of the held row, and give the row as it is after it."""
    result: CursorResult[Any] = connection.execute(
        statement.where(_held(lease)).returning(Document.status, Document.desired_generation, Document.queued)
    )
    row = result.one_or_none()
    if row is None:
        raise LeaseLost()
    return row


def hand_on(connection: Connection, lease: Lease, requeue_after: float, etag: str, **facts: Any) -> Ended:
    """EXTRACTING -> EXTRACTED: the chunks are stored, and the embedding stage is to be woken.

    A hint that came meanwhile and names the very ``etag`` that was read asks for nothing more: one upload may send two
    events, and the second must not cost a second run.
    """
    status = check_transition(lease.status, Status.EXTRACTED)
    _end(
        connection,
        lease,
        update(Document).values(
            status=status,
            lease_token=None,
            queued=True,
            due_at=in_seconds(requeue_after),
            desired_generation=case(
                (and_(Document.hint_etag == etag, ~Document.hint_removed, ~Document.force), lease.generation),
                else_=Document.desired_generation,
            ),
            attempts=0,
            error_code=None,
            error=None,
            updated_at=func.now(),
            etag=etag,
            **facts,
        ),
    )
    return Ended(status, lease.generation)


def finish(connection: Connection, lease: Lease, status: Status, requeue_after: float, **facts: Any) -> Ended:
    """End in a terminal status; if a newer generation is wanted, the row is PENDING at once instead.

    ``facts`` are columns of ``documents`` to set. ``force`` is kept where a newer generation is wanted.
    """
    if status not in TERMINAL:
        raise ValueError(f"{status} is not terminal")
    check_transition(lease.status, status)
    again = check_transition(lease.status, Status.PENDING)
    newer = Document.desired_generation > lease.generation
    row = _end(
        connection,
        lease,
        update(Document).values(
            {
                "status": case((newer, again), else_=status),
                "due_at": case((newer, in_seconds(requeue_after)), else_=null()),
                "queued": newer,
                "force": and_(Document.force, newer),
                "lease_token": None,
                "lease_losses": 0,
                "updated_at": func.now(),
                **facts,
            }
        ),
    )
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
        update(Document).values(
            status=case((REMOVED, again), else_=waits),
            lease_token=None,
            queued=queued,
            due_at=in_seconds(after),
            attempts=Document.attempts + (1 if spend else 0),
            error_code=error_code,
            error=error,
            updated_at=func.now(),
        ),
    )
    return Ended(Status(row.status), row.desired_generation if queued else None)
