"""A key that changes faster than it can be read: its holder finishes what it has, so something newer is served all the time."""

from __future__ import annotations

import subprocess
import time
from itertools import pairwise

import psycopg
import pytest

from tests.conftest import wait_until
from tests.support import events, truth
from tests.support.faults import Fault
from tests.support.provider import Provider
from worker.settings import Settings

KEY = "hot/counter.txt"
EVERY = 0.2  # seconds between two overwrites
# Serving may stand still for this many times the length of a run.
RUNS = 3

_SERVED = (
    "SELECT d.active_generation, split_part(g.text, ' ', 2)::int FROM documents d"
    " JOIN generations g ON g.document_id = d.id AND g.generation = d.active_generation WHERE d.key = %s"
)


@pytest.mark.fault("hot key", "served generations advance all the time; the last content is INDEXED at the end")
@pytest.mark.timeout(240)
def test_a_key_that_changes_faster_than_it_is_read_is_served_all_the_time(
    fault: Fault, settings: Settings, provider: Provider, worker: subprocess.Popen[bytes]
) -> None:
    overwrites = fault.size(40, 300)
    # Both pool processes have read something before the clock starts: the first document that one reads costs it its imports.
    events.upload(settings, {f"warm/{number}.txt": f"warm {number} up".encode() for number in range(8)})
    wait_until(lambda: truth.at_rest(settings.database_url), 30, "the worker is warm")
    provider.delay = float(fault.size(1, 2))
    began = time.monotonic()
    events.upload(settings, {KEY: b"number -1 of the counter"})
    wait_until(lambda: truth.at_rest(settings.database_url), 30, "the key is indexed")
    run = time.monotonic() - began
    served: list[tuple[float, int, int]] = []  # when it was first seen, the generation, the number in its text
    with psycopg.connect(settings.database_url, autocommit=True) as connection:

        def look() -> None:
            row = connection.execute(_SERVED, (KEY,)).fetchone()
            if row is not None and (not served or row[0] != served[-1][1]):
                served.append((time.monotonic(), *row))

        started = time.monotonic()
        for number in range(overwrites):
            events.upload(settings, {KEY: f"number {number} of the counter".encode()})
            look()  # also where the uploads come late, on a busy machine
            while time.monotonic() < started + (number + 1) * EVERY:
                look()
                time.sleep(0.02)
        ended = time.monotonic()

        def is_last() -> bool:
            look()
            return bool(served) and served[-1][2] == overwrites - 1 and truth.at_rest(settings.database_url)

        wait_until(is_last, RUNS * run + 5, "the last content is served")
    # What was there before the first overwrite is no advance.
    moments = [started, *(moment for moment, _, number in served if number >= 0 and moment <= ended), ended]
    longest = max(later - earlier for earlier, later in pairwise(moments))
    fault.figure("overwrites", overwrites)
    fault.figure("served", len(served))
    fault.figure("a run s", run)
    fault.figure("longest standstill s", longest)
    fault.figure("last content after s", served[-1][0] - ended)
    fault.require(longest <= RUNS * run, f"nothing newer was served for {longest:.1f} s, where a run takes {run:.1f} s")
    for (_, generation, number), (_, next_generation, next_number) in pairwise(served):
        fault.require(
            generation < next_generation and number < next_number,
            f"number {next_number} in generation {next_generation} was served after {number} in {generation}",
        )
    for violation in truth.violations(settings.database_url, settings.buckets[0]):
        fault.violation(violation)
