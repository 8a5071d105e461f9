"""Every part of a running stack is killed again and again while the bucket changes."""

from __future__ import annotations

import collections
import json
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import psycopg
import pytest

from infra.local import stack
from infra.local.stack import Stack
from tests.support import truth
from tests.support.faults import FULL, Fault
from tests.support.storm import UnhurriedProvider, apply, changes, hopeless, kill_one, messages_in, until
from tests.support.workers import scalar

KINDS = ("worker", "embedder", "child", "valkey", "postgres", "events", "dispatcher")
# Seconds that a killed part may take to be there again, on a machine that does much else.
BACK = 30.0
REST = 60.0


@pytest.fixture
def unhurried() -> Iterator[UnhurriedProvider]:
    provider = UnhurriedProvider(seconds=0.05)
    yield provider
    provider.close()


@pytest.fixture
def whole_stack(tmp_path: Path, unhurried: UnhurriedProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """As ``lex-ingest up`` starts it, but with a provider of the tests; in full with the default times."""
    short = {} if FULL else {"LEX_INGEST_TICK": "0.5", "LEX_INGEST_REQUEUE_AFTER": "3", "LEX_INGEST_LEASE": "6"}
    for name in [name for name in os.environ if name.startswith(("LEX_INGEST_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    user = {
        "OPENAI_API_KEY": "test", "OPENAI_BASE_URL": unhurried.base_url, "LEX_INGEST_EMBEDDING_PROVIDER": "test",
        "LEX_INGEST_EMBEDDING_MODEL": "words", "LEX_INGEST_EMBEDDING_DIMENSIONS": "384",
        # Several chunks a document.
        "LEX_INGEST_CHUNK_SIZE": "600", "LEX_INGEST_CHUNK_OVERLAP": "60",
    }  # fmt: skip
    for name, value in {**user, **short}.items():
        monkeypatch.setenv(name, value)
    running = stack.up(tmp_path / "stack", provider="env", detach=False)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    # boto3's own session keeps the keys of the first stack that it was asked for.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    try:
        yield running
    finally:
        stack.down(running.data_dir)
        assert running.supervisor is not None
        running.supervisor.wait()


@pytest.mark.fault(
    "kill storm",
    "0 lost, 0 duplicate or orphan chunks, 0 stuck; every good document INDEXED (a FAILED one is a violation) <= 60 s after the"
    " last kill",
)
@pytest.mark.timeout(600)
def test_the_index_equals_the_bucket_after_every_part_was_killed_at_random(fault: Fault, whole_stack: Stack) -> None:
    """kill -9 of a part or of one of the worker's processes at random moments, while objects are put, overwritten and removed.

    At rest is: no event in the queue or in the pump's hands, and no document that waits for anything.
    """
    environment, run = whole_stack.environment, whole_stack.data_dir / "run"
    bucket, database_url = environment["BUCKET"], environment["DATABASE_URL"]
    planned = changes(fault.random, fault.size(40, 500), fault.size(20, 200), fault.size(10, 80))
    kinds = [*KINDS, *fault.random.choices(KINDS, k=fault.size(len(KINDS), 100) - len(KINDS))]
    fault.random.shuffle(kinds)
    killed: collections.Counter[str] = collections.Counter()
    moments = random.Random(fault.random.random())
    client = boto3.client("s3")
    last = time.monotonic()
    with ThreadPoolExecutor(1) as writer:
        for number, kind in enumerate(kinds):
            part = planned[len(planned) * number // len(kinds) : len(planned) * (number + 1) // len(kinds)]
            writing = writer.submit(apply, client, bucket, part)
            time.sleep(moments.uniform(0, fault.size(5, 24) / 10))
            if moments.random() < 0.15 and kill_one(moments, run, "sandbox", 0.5):
                killed["sandbox"] += 1
            if kind in ("worker", "child"):
                until(lambda: _worked_on(database_url), 1)  # or a small storm might meet idle processes only
            if kill_one(moments, run, kind, BACK):
                killed[kind] += 1
                last = time.monotonic()
            else:
                fault.violation(f"{kind} did not come back within {BACK:g} s")
            writing.result()

    def rests() -> bool:
        try:
            return messages_in(environment["QUEUE_URL"]) == 0 and truth.at_rest(database_url)
        except psycopg.OperationalError:
            return False  # PostgreSQL starts again

    rested = until(rests, REST - (time.monotonic() - last), 0.5)
    seconds = time.monotonic() - last
    fault.figure("kills", killed.total())
    fault.figure("of", " ".join(f"{kind}={number}" for kind, number in sorted(killed.items())))
    fault.figure("documents", len({change.key for change in planned}))
    fault.figure("removals", sum(change.body is None for change in planned))
    fault.figure("overwrites", sum(change.body is not None for change in planned) - len({change.key for change in planned}))
    fault.figure("at rest after s", seconds if rested is not None else f"more than {REST:g}")
    fault.require(rested is not None, f"not at rest {REST:g} s after the last kill")
    fault.require(messages_in(environment["QUEUE_URL"]) == 0, "events in the queue that nobody has settled")
    fault.require(messages_in(environment["DEAD_LETTER_QUEUE_URL"]) == 0, "events given up into the dead-letter queue")
    for violation in truth.violations(database_url, bucket, bad=hopeless(planned)):
        fault.violation(violation)
    fault.figure("hopeless", len(hopeless(planned)))
    for name, number in _told(whole_stack.data_dir / "log").items():
        fault.figure(name, number)
    for part in whole_stack.parts():
        fault.require(part.state == "RUNNING", f"{part.name} is {part.state} in the end")


def _worked_on(database_url: str) -> bool:
    try:
        return bool(scalar(database_url, "SELECT EXISTS (SELECT FROM documents WHERE lease_token IS NOT NULL)"))
    except psycopg.OperationalError:
        return False


def _told(log: Path) -> dict[str, int]:
    """What the worker's log says of leases that ran out and of attempts that were given back or spent."""
    found = {"lease losses": 0, "retries": 0, "verdicts": 0}
    for file in log.glob("worker.log*"):
        for line in file.read_text(errors="replace").splitlines():
            if not line.startswith("{"):
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut off by a kill
            found["lease losses"] += entry.get("lost_leases", 0)
            found["retries"] += entry.get("decision") == "Retry"
            found["verdicts"] += entry.get("decision") == "GiveUp"
    return found
