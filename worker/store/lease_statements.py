"""The statements of ``worker.store.leases`` that every document needs, made once: making one costs as much as running it."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Float, and_, bindparam, case, cast, exists, func, null, select, update
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.sql.elements import ColumnElement

from worker.contract import Stage
from worker.domain.document import Status, check_transition
from worker.store.driver import VECTORS_LOCK
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


# Parameters, of the lease: ``held_id``, ``held_generation``, ``held_token``, ``held_status``.
HELD = and_(
    Document.id == bindparam("held_id"),
    Document.generation == bindparam("held_generation"),
    Document.lease_token == bindparam("held_token"),
    Document.status == bindparam("held_status"),
)
FENCE = select(REMOVED.label("removed")).where(HELD).with_for_update()
# It waits for whoever holds the vectors (``worker.store.vectors.hold``), so the statements after it see what that one did.
RELYING_FENCE = FENCE.add_columns(func.pg_advisory_xact_lock_shared(VECTORS_LOCK))
# What an end of a lease gives back: the row as it is after it.
ENDED = (Document.status, Document.desired_generation, Document.queued)


def fact(name: str) -> str:
    """The parameter that a column is set to."""
    return f"fact_{name}"


@cache
def finishing(working: Status, status: Status, facts: tuple[str, ...], indexed: bool) -> ReturningUpdate[*tuple[Any, ...]]:
    """Parameters: those of ``HELD``, ``requeue_seconds``, and ``fact`` of each of the columns ``facts``."""
    newer = Document.desired_generation > Document.generation
    return (
        update(Document)
        .where(HELD)
        .values(
            {
                "status": case((newer, check_transition(working, Status.PENDING)), else_=check_transition(working, status)),
                "due_at": case((newer, in_seconds(bindparam("requeue_seconds", type_=Float))), else_=null()),
                "queued": newer,
                "force": and_(Document.force, newer),
                "lease_token": None,
                "lease_losses": 0,
                "updated_at": func.now(),
                **({"indexed_at": func.now()} if indexed else {}),
                **{name: bindparam(fact(name)) for name in facts},
            }
        )
        .returning(*ENDED)
    )


@cache
def handing_on(facts: tuple[str, ...]) -> ReturningUpdate[*tuple[Any, ...]]:
    """Parameters: those of ``HELD``, ``requeue_seconds``, ``read_etag``, and ``fact`` of each of the columns ``facts``."""
    nothing_new = and_(Document.hint_etag == bindparam("read_etag"), ~Document.hint_removed, ~Document.force)
    return (
        update(Document)
        .where(HELD)
        .values(
            {
                "status": check_transition(Status.EXTRACTING, Status.EXTRACTED),
                "lease_token": None,
                "queued": True,
                "due_at": in_seconds(bindparam("requeue_seconds", type_=Float)),
                "desired_generation": case((nothing_new, Document.generation), else_=Document.desired_generation),
                "attempts": 0,
                "error_code": None,
                "error": None,
                "updated_at": func.now(),
                "etag": bindparam("read_etag"),
                **{name: bindparam(fact(name)) for name in facts},
            }
        )
        .returning(*ENDED)
    )
