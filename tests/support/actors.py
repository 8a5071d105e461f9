"""Four threads in which keys change, events arrive, workers work and time passes, all at once."""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from handlers import s3_events
from tests.support import truth
from tests.support.chaos import DAMAGED, Bucket, Event, History, Mail, invocation
from worker.contract import Stage, WakeUp
from worker.services import intake
from worker.settings import Settings
from worker.store import due

THREADS = 4
LIFETIMES = 3  # how often time may run out for a key's holder while things happen: ten times would be a verdict
SOON = 3600.0  # seconds: nothing becomes due by itself, time passes only where the test says so

Wake = tuple[UUID, Stage]

_TIME_PASSES = """
    UPDATE documents SET due_at = now() - interval '1 second' WHERE id IN (
        SELECT id FROM documents WHERE key = ANY (%s) AND due_at IS NOT NULL ORDER BY bucket, key FOR UPDATE)
"""


class HandlerConnections(threading.local, intake._Connections):
    """A connection for each thread: a Lambda function takes one event at a time, and four at once are four processes."""


@dataclass
class World:
    """What the threads share: histories, events and wake-ups on their way, and what was counted."""

    histories: list[History]
    mail: Mail = field(default_factory=Mail)
    wakes: list[Wake] = field(default_factory=list)
    runs: list[Any] = field(default_factory=list)  # those that stand still between two of their steps
    lifetimes: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.keys = [history.key for history in self.histories]
        self.buckets = list({id(history.bucket): history.bucket for history in self.histories}.values())

    def pop(self, things: list[Any], choose: random.Random) -> Any:
        """One of the things at random, which nobody else has then; None if there are none."""
        with self.lock:
            return things.pop(choose.randrange(len(things))) if things else None

    def send(self, wake_ups: Sequence[WakeUp], _settings: Settings) -> int:
        """In place of ``producer.send``: the messages are ours to lose."""
        self.wakes += [(UUID(wake_up.document_id), Stage.EXTRACT) for wake_up in wake_ups]
        return 0

    def tick(self, rows: psycopg.Connection[Any], keys: Sequence[str]) -> None:
        """Whatever these keys wait for is over now; then the statements of the dispatcher's tick."""
        rows.execute(_TIME_PASSES, (list(keys),))
        self.counts["leases lost"] += due.end_lost_leases(rows, 1000)
        for stage in (Stage.EXTRACT, Stage.EMBED):
            self.wakes += [(row.document_id, stage) for row in due.take_due(rows, stage, 1000, SOON)]


_HEARD = """
    SELECT string_agg(concat_ws(' ', kind, coalesce(raw #>> '{s3,object,sequencer}', raw #>> '{detail,object,sequencer}'),
                                outcome, generation), ', ' ORDER BY id)
    FROM events WHERE bucket = %s AND starts_with(%s, key || ':')
"""


def differences(rows: psycopg.Connection[Any], bucket: Bucket, keys: Sequence[str]) -> list[str]:
    """Where the index is not what the bucket holds, and all that was heard of those keys."""
    bodies = bucket.current()
    bad = {key for key, body in bodies.items() if body.startswith(DAMAGED)}
    found = []
    for one in truth.differences(rows, bucket.name, bodies, bad, keys):
        (heard,) = rows.execute(_HEARD, (bucket.name, one)).fetchone() or ("nothing",)
        found.append(f"bucket {bucket.name}: {one}; heard: {heard}")
    return found


@dataclass
class Actor(ABC):
    """One of the threads. ``rows`` is a connection in autocommit mode."""

    world: World
    choose: random.Random
    rows: psycopg.Connection[Any]

    @abstractmethod
    def work(self, lost: float = 0.05) -> bool:
        """Do a piece of a worker's work; the share ``lost`` of it is never ended. False if there is none to do."""

    def live(self) -> None:
        """Until nothing happens in the buckets any more."""
        steps = [self.happen, self.deliver, self.work, self.let_time_pass]
        while self.world.histories:
            self.choose.choices(steps, (6, 1, 12, 0.7))[0]()

    def happen(self) -> None:
        history = self.world.pop(self.world.histories, self.choose)
        if history is None:
            return
        event = history.step(self.choose)
        if event is not None:
            self.world.mail.post(event, self.choose)
        if history.changes:
            self.world.histories.append(history)

    def deliver(self) -> bool:
        return self.hand_over(self.world.mail.take(self.choose.randint(1, 20), self.choose))

    def hand_over(self, events: Sequence[Event]) -> bool:
        """Call the handler. False if there are no events."""
        if events:
            answer = s3_events.lambda_handler(invocation(events, self.choose), None)
            assert answer == {"batchItemFailures": []}
        return bool(events)

    def let_time_pass(self) -> None:
        keys = [key for key in self.choose.sample(self.world.keys, 3) if self.world.lifetimes[key] < LIFETIMES]
        self.world.lifetimes.update(keys)
        self.world.tick(self.rows, keys)

    def settle(self) -> None:
        """Deliver what is on its way, and work until nothing is left to do."""
        while self.deliver() or self.work(lost=0):
            pass

    def repeat(self) -> None:
        """Old events once more, after all was at rest."""
        self.hand_over(self.world.mail.take_old(5))


Maker = Callable[[World, random.Random, psycopg.Connection[Any]], Actor]


class Crew:
    """The threads. ``play`` lets them live through some histories together."""

    def __init__(self, database_url: str, choose: random.Random) -> None:
        self._database_url, self._choose = database_url, choose
        self._pool = ThreadPoolExecutor(THREADS)
        self._rows = [psycopg.connect(database_url, autocommit=True) for _ in range(THREADS)]

    def play(self, world: World, make: Maker) -> list[str]:
        """Live, come to rest, hear of it again, come to rest: what is wrong at the first and at the second rest."""
        actors = [make(world, random.Random(self._choose.random()), rows) for rows in self._rows]
        self._all(Actor.live, actors)
        found = self._rest(world, actors)
        self._all(Actor.repeat, actors)
        return found + self._rest(world, actors)

    def _all(self, what: Callable[[Any], object], things: Sequence[Any]) -> None:
        list(self._pool.map(what, things))

    def _rest(self, world: World, actors: list[Actor]) -> list[str]:
        for _ in range(20):
            self._all(Actor.settle, actors)
            if truth.at_rest(self._database_url):
                return [one for bucket in world.buckets for one in differences(self._rows[0], bucket, world.keys)]
            world.tick(self._rows[0], world.keys)
        return [f"the histories from {world.keys[0]} on do not come to rest"]

    def close(self) -> None:
        everyone = threading.Barrier(THREADS)

        def close(rows: psycopg.Connection[Any]) -> None:
            everyone.wait()  # so that each thread closes the connection that its handler has made
            intake._connections.close()
            rows.close()

        self._all(close, self._rows)
        self._pool.shutdown()


@contextmanager
def crew(database_url: str, choose: random.Random) -> Iterator[Crew]:
    made = Crew(database_url, choose)
    try:
        yield made
    finally:
        made.close()
