"""Hold a document for the length of a stage: renew the lease in the background, and end it whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from worker import producer, telemetry
from worker.contract import Stage, WakeUp
from worker.domain.document import WAITING_FOR
from worker.domain.errors import LeaseLost
from worker.services.heartbeat import Heartbeat
from worker.services.settling import settle
from worker.settings import Settings
from worker.store import leases
from worker.store.leases import Lease
from worker.store.session import statements, transaction

log = telemetry.get_logger(__name__)

# What this process holds now: one lease in a pool process, several in a pool of threads.
_in_hand: dict[UUID, tuple[Lease, Settings]] = {}
_ending = False
# Held for the moment between a claim and its entry here, so that none is overlooked.
_taking = threading.Lock()


def take(document_id: UUID, stage: Stage, settings: Settings) -> Lease | None:
    """Claim the document for ``held``; None where there is nothing to take, or this process is about to end."""
    with _taking:
        if _ending:
            return None
        with statements(settings.database_url) as connection:
            lease = leases.claim(connection, document_id, stage, settings.lease)
        if lease is not None:
            _in_hand[lease.token] = (lease, settings)
        return lease


def hand_back_all() -> tuple[int, int]:
    """Hand back every document that this process holds, for another worker to take on at once: this process is to end.

    Whoever still works on one finds its lease gone. Trouble is logged and never raised: then the lease runs out. Returns how
    many documents there were, and how many of them were handed back: one whose stage is just committing ends instead.
    """
    global _ending
    with _taking:
        _ending = True
        leases_in_hand = list(_in_hand.values())
    handed_back = 0
    for lease, settings in leases_in_hand:
        with telemetry.document_context(document_id=str(lease.document_id), generation=lease.generation):
            try:
                with transaction(settings.database_url) as connection:
                    ended = leases.hand_back(
                        connection, lease, after=settings.requeue_after, spend=False, error_code=None, error=None, queued=True
                    )
            except LeaseLost:
                continue
            except DBAPIError as error:
                log.warning("not handed back", extra={"reason": type(error).__name__})
                continue
            handed_back += 1
            log.info("handed back", extra={"status": ended.status.value})
            if ended.wake_generation is not None:
                wake_up = WakeUp(str(lease.document_id), ended.wake_generation, WAITING_FOR[ended.status])
                producer.send([wake_up], settings)
    return len(leases_in_hand), handed_back


@contextmanager
def held(lease: Lease, settings: Settings) -> Iterator[Heartbeat]:
    """Run a stage's block under the lease that ``take`` gave.

    An exception from it is written to the row and raised as ``StageFailed``.

    ``LeaseLost`` passes unchanged: the row is somebody else's, or its object is gone, and nothing may be written, except
    that a removal hint hands the document back at once.
    """
    heartbeat = Heartbeat(lease, settings)
    try:
        with heartbeat:
            yield heartbeat
    except LeaseLost:
        _hand_back_if_still_ours(lease, settings)
        raise
    # Everything else, MemoryError included: one that escapes a task ends the worker's main process (DESIGN.md).
    except Exception as error:
        try:
            failure = settle(lease, settings, error, heartbeat.read)
        except LeaseLost:
            _hand_back_if_still_ours(lease, settings)
            raise
        raise failure from error
    finally:
        _in_hand.pop(lease.token, None)


def _hand_back_if_still_ours(lease: Lease, settings: Settings) -> None:
    try:
        with transaction(settings.database_url) as connection:
            leases.hand_back(connection, lease, after=0, spend=False, error_code=None, error=None)
    except LeaseLost:
        log.info("lease lost", extra={"generation": lease.generation})
