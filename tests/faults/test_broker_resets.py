"""The workers' connections to Redis are cut, and Redis itself is restarted, with tasks in flight."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.support import truth
from tests.support.documents import tell
from tests.support.faults import Fault
from tests.support.storm import Broker, Probe, UnhurriedProvider, prose, until, worker_on
from tests.support.workers import scalar
from worker.settings import Settings

CONSUMING = 10.0


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[Broker]:
    """A Valkey with an append-only file."""
    broker = Broker(tmp_path / "valkey", keeps=True)
    yield broker
    broker.close()


@pytest.fixture
def unhurried() -> Iterator[UnhurriedProvider]:
    provider = UnhurriedProvider()
    yield provider
    provider.close()


@pytest.mark.fault("broker resets", "consuming again <= 10 s each, 0 duplicate effects")
@pytest.mark.timeout(400)
def test_workers_consume_again_after_each_reset_of_the_broker(
    fault: Fault, settings: Settings, lasting: Broker, unhurried: UnhurriedProvider, tmp_path: Path
) -> None:
    """CLIENT KILL of every connection, and restarts of Valkey by SIGTERM and kill -9, each while a document is worked on.

    Consuming again: from the reset until the worker has run a message that was sent after it. Such a probe names no document, so
    it has no effect, and a row's second wake-up is not what is measured. No duplicate effects: each document was put once, so
    there is one generation of it, and each text was given to the provider once.
    """
    ours = dataclasses.replace(settings, redis_url=lasting.url)
    resets = ["cut"] * fault.size(4, 50) + ["stop", "kill"] * fault.size(1, 5)
    fault.random.shuffle(resets)
    s3, bucket = boto3.client("s3"), settings.buckets[0]
    probe = Probe(lasting.url)
    told = 0
    in_flight = 0
    waits: dict[str, list[float]] = {"cut": [], "restart": []}
    with worker_on(lasting, tmp_path / "worker.log", OPENAI_BASE_URL=unhurried.base_url) as worker, lasting.client() as client:
        for reset in resets:
            for _ in range(3):
                key = f"resets/{told:04}.txt"
                answer = s3.put_object(Bucket=bucket, Key=key, Body=prose(fault.random, 40).encode())
                tell(ours, key, etag=answer["ETag"].strip('"'))
                told += 1
            if until(lambda: _worked_on(settings) > 0, 5) is not None:
                in_flight += 1
            time.sleep(fault.random.uniform(0, 0.1))
            started = time.monotonic()
            if reset == "cut":
                fault.require(lasting.cut_connections() > 0, "there was no connection to cut")
            else:
                lasting.restart(signal.SIGTERM if reset == "stop" else signal.SIGKILL)
            name = "cut" if reset == "cut" else "restart"
            if probe.seconds_until_consumed(client, 3 * CONSUMING) is None:
                fault.violation(f"nothing was consumed {3 * CONSUMING:g} s after a {name}")
            waits[name].append(time.monotonic() - started)
        rested = until(lambda: truth.at_rest(settings.database_url), 60, 0.1)
        fault.require(worker.poll() is None, "the worker ended")
    probe.close()
    fault.figure("CLIENT KILLs", len(waits["cut"]))
    fault.figure("restarts", len(waits["restart"]))
    fault.figure("in flight at", f"{in_flight} of {len(resets)}")
    fault.figure("documents", told)
    for name, seconds in waits.items():
        fault.figure(f"worst s after a {name}", max(seconds))
        for late in (value for value in seconds if value > CONSUMING):
            fault.violation(f"consuming again {late:.1f} s after a {name}")
    fault.require(in_flight > len(resets) // 2, "hardly a task was in flight at a reset: nothing was tested")
    fault.require(rested is not None, "not at rest 60 s after the last reset")
    inputs = Counter(text for request in unhurried.requests for text in request)
    fault.figure("provider inputs", inputs.total())
    fault.require(inputs.total() == len(inputs), f"{inputs.total() - len(inputs)} texts were embedded twice")
    again = scalar(settings.database_url, "SELECT count(*) FROM documents WHERE (generation, desired_generation) <> (1, 1)")
    fault.require(again == 0, f"{again} documents have a second generation")
    for violation in truth.violations(settings.database_url, bucket):
        fault.violation(violation)


def _worked_on(settings: Settings) -> int:
    return int(str(scalar(settings.database_url, "SELECT count(*) FROM documents WHERE lease_token IS NOT NULL")))
