"""The statements of ``worker.store.leases`` that every document needs, made once: making one costs as much as running it."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Float, and_, bindparam, case, cast, exists, func, select, update
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.sql.elements import ColumnElement

from worker.contract import Stage
from worker.domain.document import Status, check_transition
from worker.store.models import EMBEDDING_GATE, Document, Gate

# Somebody said that the object was removed, and nobody has looked yet.
REMOVED = and_(Document.hint_removed, Document.desired_generation > Document.generation)

# What a stage claims, and what it makes of it.
CLAIM: dict[Stage, tuple[Status, Status]] = {
    Stage.EXTRACT: (Status.PENDING, check_transition(Status.PENDING, Status.EXTRACTING)),
    Stage.EMBED: (Status.EXTRACTED, check_transition(Status.EXTRACTED, Status.EMBEDDING)),
}


def in_seconds(seconds: float | BindParameter[float]) -> ColumnElement[Any]:
    """``now() + seconds`` by the database's clock, the only clock that decides."""
    return func.now() + cast(func.make_interval(0, 0, 0, 0, 0, 0, seconds), INTERVAL)


def gate_is_closed() -> ColumnElement[bool]:
    """Whether nobody may ask the embedding provider now (``worker.store.gates``)."""
    return exists().where(Gate.name == EMBEDDING_GATE, Gate.closed_until > func.now())


@cache
def claiming(stage: Stage) -> ReturningUpdate[*tuple[Any, ...]]:
    """Parameters: ``claimed_id``, a UUID, and ``lease_seconds``."""
    waiting, working = CLAIM[stage]
    generation = Document.desired_generation if stage is Stage.EXTRACT else Document.generation
    return (
        update(Document)
        .where(
            Document.id == bindparam("claimed_id"),
            Document.status == waiting,
            Document.lease_token.is_(None),
            Document.queued | (Document.due_at <= func.now()),
            *([~gate_is_closed()] if stage is Stage.EMBED else []),
        )
        .values(
            status=working,
            generation=generation,
            lease_token=func.gen_random_uuid(),
            due_at=in_seconds(bindparam("lease_seconds", type_=Float)),
            queued=False,
            # What failed was the generation before.
            attempts=case((generation > Document.generation, 0), else_=Document.attempts),
            lease_losses=case((generation > Document.generation, 0), else_=Document.lease_losses),
            updated_at=func.now(),
        )
        .returning(
            Document.id,
            Document.generation,
            Document.lease_token,
            Document.bucket,
            Document.key,
            Document.attempts,
            Document.active_generation,
            Document.force,
        )
    )


# Parameters: ``held_id``, ``generation``, ``token`` and ``status``, of the lease.
FENCE = (
    select(REMOVED.label("removed"))
    .where(
        Document.id == bindparam("held_id"),
        Document.generation == bindparam("generation"),
        Document.lease_token == bindparam("token"),
        Document.status == bindparam("status"),
    )
    .with_for_update()
)
