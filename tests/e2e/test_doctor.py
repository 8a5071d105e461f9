"""A running stack of which one part is frozen or full: what ``doctor`` and ``ps`` say, and how long they take."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.local import child
from infra.local.folder import Folder
from tests.support.stack import PATIENT, environment, patient, until


@contextlib.contextmanager
def frozen(folder: Path, part: str) -> Iterator[int]:
    pid = child.recorded(folder / "run", part)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_sound_stack_has_nothing_bad_and_every_part_answers(folder: Path) -> None:
    found = patient(folder, "doctor")
    assert [row for row in found.values() if not row["ok"]] == []
    assert list(found) == [
        "disk", "supervisor", "postgres", "schema", "redis", "workers", "bucket", "events", "embeddings", "budget", "documents",
    ]  # fmt: skip
    parts = patient(folder, "ps")
    assert {row["state"] for row in parts.values()} == {"RUNNING"}
    assert all(row["pid"] and row["reason"] == "" for row in parts.values())


# Delays the import of Celery, so that a second thread that imports it at the same time gets an incomplete module. The embedder's
# thread would begin its import in the middle of the worker's.
SLOW_IMPORT = """
import importlib.abc, pathlib, sys, time
from infra.local import health, stack


class SlowImport(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "celery.local":  # which the package itself imports first
            time.sleep(1)


def stopped_late(folder, part):
    time.sleep(0.5 if part == "embedder" else 0)
    return ""


sys.meta_path.insert(0, SlowImport())
health.stopped = stopped_late
health.ANSWER, health.ALL = 10.0, 100.0
print(*(f"{row.name} {row.reason}" for row in health.ask(stack.find(pathlib.Path(sys.argv[1]))) if row.reason))
"""


def test_no_two_threads_import_celery_at_once(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW_IMPORT, str(folder)],
        capture_output=True, text=True, env=environment(), timeout=110, check=True,
    )  # fmt: skip
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("part", "blamed", "unchecked"),
    [
        ("postgres", {"postgres"}, {"schema", "embeddings", "budget", "documents"}),
        ("valkey", {"redis"}, {"workers"}),
        ("aws", {"bucket", "events"}, set()),
        ("embeddings", {"embeddings"}, set()),
        ("worker", {"workers"}, set()),
        ("embedder", {"workers"}, set()),
        ("events", {"events"}, set()),
    ],
)
def test_a_frozen_part_is_blamed_and_no_other(folder: Path, part: str, blamed: set[str], unchecked: set[str]) -> None:
    with frozen(folder, part) as pid:
        found, parts = patient(folder, "doctor"), patient(folder, "ps")
    assert {name for name, row in found.items() if not row["ok"]} == blamed | unchecked
    for name in blamed:
        assert f"its process is stopped, and `kill -CONT {pid}` continues it" in found[name]["found"]
        assert found[name]["advice"]
    assert all(found[name]["found"].startswith("not checked: ") for name in unchecked)
    assert parts[part]["state"] == "NOT ANSWERING"
    sound = {"RUNNING", "UNKNOWN"} if part == "valkey" else {"RUNNING"}
    assert [row for name, row in parts.items() if name != part and row["state"] not in sound] == []
    # None of these was set by the user of the stack.
    said = json.dumps(found)
    assert not any(name in said for name in ("DATABASE_URL", "REDIS_URL", "OPENAI_", "AWS_", "QUEUE_URL", "BUCKET"))


@pytest.mark.parametrize("name", [child.KEEPER, child.SUPERVISOR])
def test_a_frozen_supervisor_is_blamed_though_every_part_answers(folder: Path, name: str) -> None:
    with frozen(folder, name) as pid:
        found = patient(folder, "doctor")
    assert [row["name"] for row in found.values() if not row["ok"]] == ["supervisor"]
    assert found["supervisor"]["found"].startswith(f"{name} does not answer: its process is stopped, and `kill -CONT {pid}`")


@pytest.mark.parametrize("part", ["postgres", "valkey", "aws", "embeddings", "worker"])
def test_the_doctor_and_ps_are_done_within_their_limits_whatever_is_frozen(folder: Path, part: str) -> None:
    """7 and 6 seconds by the clock, and what it takes to start and end a process: a second, or many on a busy machine."""
    for command in ("doctor", "ps"):
        with frozen(folder, part):
            began = time.monotonic()
            rows = lines_of(folder, command)
            took = time.monotonic() - began
        assert rows
        assert took < 60


def lines_of(folder: Path, command: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.cli.main", command, "--json", "--data-dir", str(folder)],
        capture_output=True, text=True, env=environment(), timeout=110, check=False, cwd=folder.parent,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_full_valkey_is_blamed_and_not_the_workers(folder: Path) -> None:
    url = Folder.load(folder).environment["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        client.config_set("maxmemory", "1mb")
        try:
            found, parts = patient(folder, "doctor"), patient(folder, "ps")
        finally:
            client.config_set("maxmemory", "0")
    assert "the memory is full" in found["redis"]["found"]
    assert "raise maxmemory" in found["redis"]["advice"]
    assert found["workers"]["found"] == "not checked: redis must answer first"
    assert {name for name, row in found.items() if not row["ok"]} == {"redis", "workers"}
    assert parts["valkey"]["state"] == "NOT ANSWERING"
    assert {parts[name]["state"] for name in ("worker", "embedder")} == {"UNKNOWN"}
    # A worker that met the full server connects again after a pause.
    until(lambda: {row["state"] for row in patient(folder, "ps").values()} == {"RUNNING"}, 120)


def test_a_part_that_hangs_without_being_stopped_is_blamed_by_its_silence(folder: Path) -> None:
    """The workers' pool processes go on, and the children of the part too: only the part itself is asked."""
    code = PATIENT.replace("from infra.cli.main", "health.stopped = lambda folder, part: ''\nfrom infra.cli.main").replace(
        "10.0", "3.0"
    )
    with frozen(folder, "postgres"), frozen(folder, "aws"):
        done = subprocess.run(
            [sys.executable, "-c", code, "doctor", "--json", "--data-dir", str(folder)],
            capture_output=True, text=True, env=environment(), timeout=110, check=False, cwd=folder.parent,
        )  # fmt: skip
    found = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    for name in ("postgres", "bucket", "events"):
        assert "does not answer within 3 s" in found[name]["found"]
        assert "lex-ingest ps" in found[name]["advice"]
        assert ".log" in found[name]["advice"]
