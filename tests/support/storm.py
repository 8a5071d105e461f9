"""What the rows about killed parts share: a bucket that changes, the processes of a stack by kind, a broker of one's own."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import redis
from celery import Celery

from infra.local import child
from tests.support.faults import FULL
from tests.support.provider import Provider
from tests.support.valkey import start_valkey
from tests.support.workers import ROOT, children_of, end, start_worker
from worker.contract import CELERY_APP_NAME, QUEUES, Stage, WakeUp

# Given to a worker: in full the defaults of worker.settings, in the short form those of the tests' session.
TIMES = {"LEX_INGEST_TICK": "5", "LEX_INGEST_REQUEUE_AFTER": "8", "LEX_INGEST_LEASE": "30"} if FULL else {}
_WORDS = [
    *("harbour", "tide", "mill", "ledger", "copper", "orchard", "signal", "winter", "bridge", "lantern", "engine", "paper"),
    *("river", "glass", "market", "stone", "cable", "garden", "needle", "archive", "turbine", "meadow", "compass", "kettle"),
]
# In a message: its task id begins with the document's. A message in a worker's hands is quoted once more.
_TASK_ID = re.compile(rb'"id\\*": *\\*"([0-9a-f-]{36}):')
_PDF = ROOT / "infra" / "samples" / "documents" / "energy" / "tidal-array-field-report.pdf"


def prose(chance: random.Random, words: int) -> str:
    """Sentences that were never written before: each begins with a number of its own."""
    sentences = []
    for start in range(0, words, 12):
        line = " ".join(chance.choices(_WORDS, k=min(12, words - start)))
        sentences.append(f"Entry {chance.getrandbits(64):x} says: {line}.")
    return " ".join(sentences)


@dataclass(frozen=True)
class Change:
    """One call of an S3 client: ``body`` None removes the key. ``good`` tells whether the body can be indexed."""

    key: str
    body: bytes | None
    good: bool = True


def _body(chance: random.Random) -> tuple[bytes, bool]:
    kind = chance.random()
    if kind < 0.04:  # each of them ends in a typed status that is no success
        number = str(chance.getrandbits(64)).encode()
        bodies = (b"%PDF-1.7\nnothing that a PDF holds " + number, b"\x7fELF\x02\x01\x01" + bytes(64) + number, b"")
        return chance.choice(bodies), False
    if kind < 0.08:
        return _PDF.read_bytes() + b"\n%" + str(chance.getrandbits(64)).encode(), True
    return prose(chance, chance.randint(30, 150)).encode(), True


def changes(chance: random.Random, documents: int, overwrites: int, removals: int) -> list[Change]:
    """Puts of ``documents`` keys, mixed with overwrites (one in eight with the same bytes) and removals of what was put before.

    A key that was removed may be put again.
    """
    kinds = ["put"] * (documents - 1) + ["overwrite"] * overwrites + ["remove"] * removals
    chance.shuffle(kinds)
    last: dict[str, Change] = {}
    planned = []
    for kind in ["put", *kinds]:
        key = f"room {len(last) % 7}/document {len(last):04}+100% é.txt" if kind == "put" else chance.choice(list(last))
        if kind == "remove":
            change = Change(key, None)
        elif kind == "overwrite" and last[key].body is not None and chance.random() < 0.125:
            change = last[key]
        else:
            change = Change(key, *_body(chance))
        last[key] = change
        planned.append(change)
    return planned


def apply(client: Any, bucket: str, planned: Sequence[Change]) -> None:
    """Make the changes, as any S3 client does."""
    for change in planned:
        if change.body is None:
            client.delete_object(Bucket=bucket, Key=change.key)
        else:
            client.put_object(Bucket=bucket, Key=change.key, Body=change.body)


def hopeless(planned: Sequence[Change]) -> set[str]:
    """The keys that in the end hold what can't be indexed."""
    return {key for key, change in {change.key: change for change in planned}.items() if not change.good}


def messages_in(queue_url: str) -> int:
    """Messages in an SQS queue, those that somebody has received among them."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = boto3.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def processes_of(run: Path, kind: str) -> list[int]:
    """The living processes of that kind in the stack whose pid files are in ``run``.

    A part's name, or of the worker: ``child`` (of its pool), ``dispatcher``, ``sandbox`` (the servers and who reads for them).
    """
    name = "worker" if kind in ("child", "dispatcher", "sandbox") else kind
    pid = child.recorded(run, name)
    if pid is None or name == kind:
        return [] if pid is None else [pid]
    with contextlib.suppress(OSError):  # it ends while it is looked at
        found = children_of(pid)
        dispatchers = {pid for pid, command in found.items() if "worker.dispatcher" in command}
        if kind == "dispatcher":
            return sorted(dispatchers)
        pool = sorted(pid for pid, command in found.items() if pid not in dispatchers and "celery" in command)
        if kind == "child":
            return pool
        servers = [server for pid in pool for server in children_of(pid)]
        return servers + [reader for server in servers for reader in children_of(server)]
    return []


def kill_one(chance: random.Random, run: Path, kind: str, seconds: float) -> bool:
    """kill -9 one process of that kind, as soon as there is one. False where there was none for so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if pids := processes_of(run, kind):
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                return True
        time.sleep(0.02)
    return False


def until(condition: Callable[[], bool], seconds: float, pause: float = 0.05) -> float | None:
    """Seconds until the condition held, or None where it did not in time. A service that is away counts as no."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            return None
        time.sleep(pause)
    return time.monotonic() - started


class UnhurriedProvider(Provider):
    """Takes its time for each request, so that there is work in progress at any moment."""

    def __init__(self, seconds: float = 0.2) -> None:
        super().__init__(delay=seconds)


@dataclass
class Broker:
    """A Valkey of one's own on a port that stays; ``keeps`` tells whether it has an append-only file."""

    folder: Path
    keeps: bool
    process: subprocess.Popen[bytes] = field(init=False)
    port: int = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self._start(None)

    def _start(self, port: int | None) -> None:
        self.process, self.port = start_valkey(self.folder, port, "--appendonly", "yes" if self.keeps else "no")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def restart(self, how: signal.Signals) -> None:
        """End it by that signal, and start it again; it answers when this returns."""
        self.process.send_signal(how)
        self.process.wait()
        self._start(self.port)

    def cut_connections(self) -> int:
        """End the connections of all clients, subscribed ones too; how many there were."""
        with self.client() as client:
            return sum(int(client.execute_command("CLIENT", "KILL", "TYPE", kind)) for kind in ("normal", "pubsub"))  # type: ignore[no-untyped-call]  # redis-py types no free commands

    def messages(self) -> set[str]:
        """The ids of the documents that a message names, in a queue or in a worker's hands."""
        with self.client() as client, client.pipeline(transaction=False) as pipeline:
            for queue in QUEUES.values():
                pipeline.lrange(queue, 0, -1)
            pipeline.hvals("unacked")
            found = pipeline.execute()
        return {
            match.decode() for part in found for text in part for match in re.findall(rb'"id\\*": *\\*"([0-9a-f-]{36}):', text)
        }

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Probe:
    """Sends messages about documents that nobody knows, to see whether workers consume: each leaves a result, and no effect."""

    def __init__(self, url: str) -> None:
        self._app = Celery(CELERY_APP_NAME, broker=url, backend=url, set_as_current=False)
        self._app.conf.update(broker_connection_timeout=1, broker_transport_options={"socket_timeout": 1, "max_retries": 0})

    def seconds_until_consumed(self, client: redis.Redis, seconds: float, every: float = 0.25) -> float | None:
        """Send one now and another every so often until one of them was run; None where none was in time."""
        started = time.monotonic()
        keys: list[str] = []
        while time.monotonic() - started < seconds:
            if time.monotonic() - started >= len(keys) * every:
                wake_up = WakeUp(str(uuid4()), 1, Stage.EXTRACT)
                keys.append(f"celery-task-meta-{wake_up.task_id}")
                with contextlib.suppress(OSError, redis.RedisError):
                    self._app.send_task(
                        wake_up.task_name, (wake_up.document_id, 1), task_id=wake_up.task_id, queue=wake_up.queue, declare=[]
                    )
            with contextlib.suppress(redis.RedisError):
                if client.exists(*keys):
                    return time.monotonic() - started
            time.sleep(0.02)
        return None

    def close(self) -> None:
        self._app.close()


@contextlib.contextmanager
def worker_on(broker: Broker, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that consumes from that broker, for the length of a block."""
    process = start_worker(log, broker.folder.name, REDIS_URL=broker.url, **TIMES, **environment)
    probe = Probe(broker.url)
    try:
        with broker.client() as client:
            assert probe.seconds_until_consumed(client, 60, every=5) is not None, f"the worker does not consume: {log}"
        yield process
    finally:
        probe.close()
        end(process)
