"""Thousands of keys' lives, told by events that are lost, repeated, late and out of order, to workers that vanish midway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context

import pytest

from tests.conftest import empty_bucket
from tests.support.actors import crew
from tests.support.chaos import S3Bucket
from tests.support.chaos_shard import Shard, counted, database, handler_of, play, violations, worlds
from tests.support.faults import Fault
from tests.support.service_worker import frail, service_actors
from worker import producer
from worker.contract import WakeUp
from worker.settings import Settings


def conclude(fault: Fault, total: int, counts: Counter[str], found: list[str]) -> None:
    fault.figure("histories", total)
    for name, count in counts.items():
        fault.figure(name, count)
    fault.require(counts["leases lost"] + counts["crashes"] > 0, "no worker vanished")
    for violation in found:
        fault.violation(violation)


@pytest.mark.fault("event chaos", "0 differences from the model in 10,000 histories")
@pytest.mark.timeout(900)
def test_the_index_equals_the_bucket_whatever_becomes_of_the_events(fault: Fault, settings: Settings) -> None:
    total, processes = fault.size(200, 10_000), fault.size(1, 2)
    share = total // processes
    with ExitStack() as stack:
        shards = [
            Shard(stack.enter_context(database(settings, f"chaos_{number}")), fault.random.random(), number * share, share)
            for number in range(processes)
        ]
        if processes == 1:
            results = [play(shards[0])]
        else:
            with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
                results = list(pool.map(play, shards))
    conclude(fault, total, sum((counts for counts, _ in results), Counter()), [one for _, found in results for one in found])


@pytest.mark.fault("chaos over HTTP", "0 differences from the bucket in 200 histories, with the real pipeline")
@pytest.mark.timeout(400)
def test_the_real_pipeline_converges_on_a_real_bucket(fault: Fault, settings: Settings) -> None:
    total, plain, versions = fault.size(16, 200), settings.buckets[0], "versions"
    buckets = {plain: S3Bucket(plain, False), versions: S3Bucket(versions, True)}
    settings = replace(settings, buckets=tuple(buckets), log_level="CRITICAL")
    counts: Counter[str] = Counter()
    found: list[str] = []
    send = producer.send
    try:
        with handler_of(settings) as patch, crew(settings.database_url, fault.random) as threads, frail(patch):
            for world in worlds(buckets, 0, total, 20, fault.random):

                def send_and_tell(wake_ups: Sequence[WakeUp], of: Settings, tell=world.send) -> int:  # type: ignore[no-untyped-def]  # a bound method
                    return send(wake_ups, of) + tell(wake_ups, of)

                patch.setattr(producer, "send", send_and_tell)
                found += threads.play(world, service_actors(settings))
                counts += counted(world)
        found += violations(settings, {name: bucket.current() for name, bucket in buckets.items()})
    finally:
        empty_bucket(versions)
    conclude(fault, total, counts, found)
