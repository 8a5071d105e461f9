"""The supervised stack: parts, supervisors and keepers that are killed or outlive one another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psycopg
import pytest
import redis

from infra.local import child
from infra.local.folder import create
from infra.local.stack import Stack, down, find
from infra.local.supervision import Process
from tests.support.local_stack import PARTS, answers, processes, until


def test_parts_that_are_killed_come_back_with_what_they_had(folder: Path, start: Callable[..., Stack]) -> None:
    stack = start()
    with psycopg.connect(stack.environment["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    with redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
        client.set("kept", "7")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        until(lambda: client.info("persistence")["aof_last_write_status"] == "ok")
        time.sleep(1.1)  # the append-only file is synced every second
    before = processes(folder)

    # Twice: the second time a part meets what its own crash left.
    for _ in range(2):
        for part in PARTS:
            os.kill(processes(folder)[part], signal.SIGKILL)
        until(lambda: answers(stack))

    after = processes(folder)
    assert after["supervisord"] == before["supervisord"]
    assert not {before[part] for part in PARTS} & {after[part] for part in PARTS}
    assert {part.name: (part.state, part.pid) for part in stack.parts()} == {part: ("RUNNING", after[part]) for part in PARTS}
    with psycopg.connect(stack.environment["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    with redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
        assert client.get("kept") == b"7"


def test_a_killed_supervisor_comes_back_with_every_part_and_what_they_had(folder: Path, start: Callable[..., Stack]) -> None:
    stack = start()
    with psycopg.connect(stack.environment["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    keeper = child.recorded(folder / "run", child.KEEPER)

    # Once in the first moments of its next life, when it has started some parts, and once together with all of them.
    for together in (False, False, True):
        pids = processes(folder)
        for pid in pids.values() if together else [pids["supervisord"]]:
            os.kill(pid, signal.SIGKILL)
        until(lambda pids=pids: processes(folder).get("supervisord") not in (None, pids["supervisord"]))
    until(lambda: len(processes(folder)) == 1 + len(PARTS) and answers(stack), 15)

    assert child.recorded(folder / "run", child.KEEPER) == keeper
    again = find(folder)
    assert again is not None
    assert again.environment == stack.environment
    with psycopg.connect(stack.environment["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    groups = processes(folder)
    assert down(folder)
    assert not any(child.group_members(group) for group in groups.values())


@pytest.mark.parametrize("with_supervisor", [False, True])
def test_a_killed_keeper_leaves_nothing_for_long_and_up_recovers_with_the_same_ports(
    folder: Path, start: Callable[..., Stack], with_supervisor: bool
) -> None:
    stack = start()
    pids = processes(folder)
    assert set(pids) == {"supervisord", *PARTS}
    keeper = child.recorded(folder / "run", child.KEEPER)
    assert keeper is not None

    os.kill(keeper, signal.SIGKILL)
    if with_supervisor:
        os.kill(pids["supervisord"], signal.SIGKILL)

    until(lambda: not any(child.identity(pid) for pid in pids.values()), 15)
    assert find(folder) is None
    again = start()
    assert again.environment == stack.environment
    assert answers(again)


def test_a_supervisor_that_is_told_to_end_stays_away(folder: Path, start: Callable[..., Stack]) -> None:
    stack = start(parts=("valkey",))

    os.kill(processes(folder)["supervisord"], signal.SIGTERM)

    until(lambda: not stack.is_running(), 15)
    assert processes(folder) == {}


def test_up_ends_a_part_that_outlived_its_supervisor(
    folder: Path, start: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local.supervision.PATIENCE", 0.5)
    create(folder)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    process = Process("valkey", [sys.executable, "-c", stubborn], {}, death_signal=0)
    (folder / "run" / "processes.json").write_text(json.dumps({"valkey": asdict(process)}))
    command = [sys.executable, "-I", "-S", child.__file__, str(folder / "run" / "processes.json"), "valkey"]
    with subprocess.Popen(command, start_new_session=True) as outlived:
        until(lambda: processes(folder) == {"valkey": outlived.pid})
        lines: list[str] = []

        stack = start(parts=("valkey",), on_progress=lines.append)

        assert outlived.wait() == -signal.SIGKILL
    assert lines[0] == "ended processes that an interrupted run had left"
    assert stack.parts()[0].pid != outlived.pid


def test_a_pid_of_another_process_is_never_signalled(folder: Path, start: Callable[..., Stack]) -> None:
    start(parts=("valkey",))
    down(folder)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        # As after a crash and the pid's second use: the number is there, the start time is another's.
        (folder / "run" / "valkey.start").write_text(f"{stranger.pid} an-earlier-boot 12345")
        start(parts=("valkey",))
        down(folder)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
