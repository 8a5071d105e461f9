"""One tick of the dispatcher: wake what is due, as far as the queues have room.

PostgreSQL decides what is due, Redis only how much fits. A wake-up that gets lost costs ``requeue_after`` seconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from worker import producer
from worker.contract import QUEUES, Stage, WakeUp
from worker.settings import Settings
from worker.store import due

_LIMIT = 1000
# Rows are taken in slices, each sent before the next is taken: one that is taken and not sent is due again only after
# ``requeue_after``. The budget is in seconds.
_SLICE, _BUDGET = 50, 2.5


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick did. ``ran`` is False where another dispatcher held the lock."""

    ran: bool
    lost_leases: int = 0
    woken: int = 0
    not_sent: int = 0


def tick(connection: Connection[Any], settings: Settings) -> Tick:
    """Run one tick on an open connection (not in autocommit mode).

    Raises:
        psycopg.OperationalError: the database is away.
        redis.RedisError: the queues can't be measured; lost leases have been ended all the same.
    """
    with connection.transaction():
        if not due.lock_tick(connection):
            return Tick(ran=False)
        due.end_frozen_sessions(connection)
        lost = due.end_lost_leases(connection, _LIMIT)
    lengths = producer.queue_lengths(settings)
    room = {stage: _room(stage, lengths, settings.low_water) for stage in (Stage.EXTRACT, Stage.EMBED)}
    woken = not_sent = 0
    deadline = time.monotonic() + _BUDGET
    while not not_sent and time.monotonic() < deadline:
        wake_ups: list[WakeUp] = []
        with connection.transaction():
            if not due.lock_tick(connection):
                return Tick(ran=woken > 0, lost_leases=lost, woken=woken)
            for stage in [Stage.EXTRACT] if due.gate_is_closed(connection) else [Stage.EXTRACT, Stage.EMBED]:
                if room[stage] > 0:
                    taken = due.take_due(connection, stage, min(room[stage], _SLICE), settings.requeue_after)
                    room[stage] -= len(taken)
                    wake_ups += [WakeUp(str(row.document_id), row.generation, row.stage) for row in taken]
        if not wake_ups:
            break
        not_sent = producer.send(wake_ups, settings)
        woken += len(wake_ups) - not_sent
    return Tick(ran=True, lost_leases=lost, woken=woken, not_sent=not_sent)


def _room(stage: Stage, lengths: dict[str, int], low_water: int) -> int:
    """How many wake-ups a stage's queue may take.

    What waits in the pipeline's first queue is on its way to extraction, so it counts there too. A tenth has room whatever
    waits before it: extraction must not stop for want of a consumer of another queue.
    """
    waiting = lengths[QUEUES[stage]]
    if stage is not Stage.EXTRACT:
        return low_water - waiting
    return max(low_water - waiting - lengths[QUEUES[Stage.PROCESS]], low_water // 10 - waiting)
