"""Pruning and erasure: run by every dispatcher now and then, and for one key at once by ``purge``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import Connection

from worker import producer, telemetry
from worker.contract import QUEUES, FillProfile, Stage
from worker.settings import Settings
from worker.store import fill_calls, pruning

log = telemetry.get_logger(__name__)

_EVERY = 60.0
# Ticks between two looks at the profiles that are kept filled.
_FILL_TICKS = 2
_LIMIT = 500
# Seconds that one rule may take in a run: the dispatcher has a tick to do. What is left waits for the next run.
_BUDGET = 1.0


@dataclass(frozen=True, slots=True)
class Tidied:
    """How much each rule found; a partition counts as one."""

    tombstones: int
    events: int
    texts: int
    partitions_made: int
    partitions_dropped: int
    announcements: int


def tidy_if_due(connection: Connection[Any], settings: Settings) -> Tidied | None:
    """Prune, once a minute in the whole system; None where it is not due or another process does it.

    Raises:
        psycopg.OperationalError: the database is away.
    """
    with connection.transaction():
        if not pruning.claim_chore(connection, "prune", _EVERY):
            return None
    return tidy(connection, settings)


def call_fillers(connection: Connection[Any], settings: Settings) -> int:
    """Wake a filler for each profile that is kept filled and has something new, now and then in the whole system.

    Returns how many. None is sent while the queue is long: a message that waits there is enough.

    Raises:
        psycopg.OperationalError: the database is away.
        redis.RedisError: the queue can't be measured.
    """
    with connection.transaction():
        if not pruning.claim_chore(connection, "fill", _FILL_TICKS * settings.tick):
            return 0
        profiles = fill_calls.wanted(connection)
    if not profiles or producer.queue_lengths(settings)[QUEUES[Stage.EMBED]] > 2 * settings.low_water:
        return 0
    return len(profiles) - producer.send([FillProfile(number) for number in profiles], settings)


def tidy(connection: Connection[Any], settings: Settings) -> Tidied:
    """Apply every rule of ``worker.store.pruning`` now, in short transactions, each rule for about a second at most."""
    after = settings.erase_after
    tombstones = _repeat(connection, lambda: pruning.erase_tombstones(connection, after, _LIMIT))
    events = _repeat(connection, lambda: pruning.erase_events_of_no_document(connection, after, _LIMIT))
    texts = _repeat(connection, lambda: pruning.erase_vectors(connection, after, _LIMIT) or 0)
    announcements = _repeat(connection, lambda: pruning.give_up_announcements(connection, _LIMIT))
    try:
        with connection.transaction():
            made, dropped = pruning.keep_partitions(connection, datetime.now(UTC).date(), settings.ledger_days)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.CheckViolation):
        # Somebody reads the ledger, or an event came into the default partition meanwhile: there is a week's time.
        made = dropped = 0
    tidied = Tidied(tombstones, events, texts, made, dropped, announcements)
    if any((tombstones, events, texts, made, dropped, announcements)):
        log.info("pruned", extra={name: getattr(tidied, name) for name in Tidied.__slots__})
    return tidied


def _repeat(connection: Connection[Any], rule: Callable[[], int]) -> int:
    """Run the rule, a transaction each time, while it finds as much as it may take; returns how much in all."""
    total, end = 0, time.monotonic() + _BUDGET
    while True:
        with connection.transaction():
            found = rule()
        total += found
        if found < _LIMIT or time.monotonic() > end:
            return total
