"""Ask for documents again: the UPDATE behind replay."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, case, func, null, select, update

from worker.domain.document import TERMINAL, TRANSITIONS, Status
from worker.store.lease_statements import in_seconds
from worker.store.models import Document

if any(Status.PENDING not in TRANSITIONS[status] for status in TERMINAL):
    raise RuntimeError("a terminal document must be able to become PENDING again")


def choose(connection: Connection, condition: ColumnElement[bool], after: UUID | None, limit: int) -> list[UUID]:
    """The next ``limit`` documents that meet the condition, by id."""
    statement = select(Document.id).where(condition).order_by(Document.id).limit(limit)
    if after is not None:
        statement = statement.where(Document.id > after)
    return [row.id for row in connection.execute(statement)]


def want_again(
    connection: Connection, ids: Sequence[UUID], *, queued: bool, requeue_after: float
) -> Sequence[Row[UUID, str, int, bool]]:
    """Raise the wanted generation of these documents, unless one is wanted already that nobody has taken on.

    A terminal one becomes PENDING: with ``queued``, the caller sends its wake-up now; else it is due at once, and the
    dispatcher sends it when there is room. Gives rows of (id, key, desired_generation, woken by the caller).
    """
    # Locked in the order in which events lock them, so that a replay and a batch of events can't wait for each other.
    connection.execute(select(Document.id).where(Document.id.in_(ids)).order_by(Document.bucket, Document.key).with_for_update())
    idle = Document.status.in_(TERMINAL)
    due = in_seconds(requeue_after) if queued else func.now()
    return connection.execute(
        update(Document)
        .where(Document.id.in_(ids), Document.status != Status.DELETED)
        .values(
            desired_generation=case(
                (Document.desired_generation == Document.generation, Document.generation + 1),
                else_=Document.desired_generation,
            ),
            status=case((idle, Status.PENDING), else_=Document.status),
            due_at=case((idle, due), else_=Document.due_at),
            queued=case((idle, queued), else_=Document.queued),
            error_code=case((idle, null()), else_=Document.error_code),
            error=case((idle, null()), else_=Document.error),
            attempts=0,
            lease_losses=0,
            force=True,
            updated_at=func.now(),
        )
        .returning(
            Document.id,
            Document.key,
            Document.desired_generation,
            (Document.queued & (Document.status == Status.PENDING)).label("woken"),
        )
    ).all()
