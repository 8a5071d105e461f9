"""Replay: have chosen documents read, chunked and embedded again, while the old version of each serves on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import and_

from worker import producer
from worker.contract import Stage, WakeUp
from worker.domain.document import Status
from worker.domain.scope import Scope
from worker.settings import Settings
from worker.store import wanted
from worker.store.models import Document
from worker.store.scoping import visible
from worker.store.session import transaction


@dataclass(frozen=True, slots=True)
class Replayed:
    """One document that was asked for again, and the generation that it will be."""

    document_id: UUID
    key: str
    generation: int


def replay(scope: Scope, settings: Settings, *, key: str | None = None, status: Status | None = None) -> Iterator[Replayed]:
    """Raise the wanted generation of the documents in the scope, in short transactions.

    A document that is DELETED stays so. One that is being worked on finishes first and is then done once more; asking
    again before that changes nothing. Only the first batch is woken at once: the dispatcher feeds the queues with the
    rest as they drain, so that a replay of a million documents is not a million messages.
    """
    condition = and_(visible(scope), Document.status != Status.DELETED)
    if key is not None:
        condition = and_(condition, Document.key == key)
    if status is not None:
        condition = and_(condition, Document.status == status)
    after: UUID | None = None
    while True:
        first = after is None
        with transaction(settings.database_url) as connection:
            ids = wanted.choose(connection, condition, after, settings.low_water)
            if not ids:
                return
            rows = wanted.want_again(connection, ids, queued=first, requeue_after=settings.requeue_after)
        producer.send([WakeUp(str(row[0]), row[2], Stage.PROCESS) for row in rows if row[3]], settings)
        yield from (Replayed(row[0], row[1], row[2]) for row in rows)
        after = ids[-1]
