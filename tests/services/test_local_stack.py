"""The supervised stack: parts that die, supervisors that are killed, folders that are closed, two at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from infra.local import child, postgres
from infra.local.folder import Folder, StackError, create
from infra.local.stack import Stack, down, find, up
from infra.local.supervision import Process

PARTS = ("postgres", "valkey")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A name with characters that configuration files and shells treat in their own way."""
    return tmp_path / "data #1; 100%(x)s 'é"


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Stack]]:
    """``up`` of stacks that end with the test, however that ends."""
    started: list[Stack] = []

    def start(path: Path = folder, parts: tuple[str, ...] = PARTS, **options: Any) -> Stack:
        started.append(up(path, parts=parts, detach=False, **options))
        return started[-1]

    yield start
    for stack in started:
        down(stack.data_dir)
        if stack.supervisor is not None:
            stack.supervisor.wait()


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def processes(folder: Path) -> dict[str, int]:
    names = ("supervisord", *PARTS)
    found = {name: child.recorded(folder / "run", name) for name in names}
    return {name: pid for name, pid in found.items() if pid is not None}


def answers(stack: Stack) -> bool:
    with contextlib.suppress(psycopg.OperationalError, redis.ConnectionError):
        with psycopg.connect(stack.environment["DATABASE_URL"], connect_timeout=2) as connection:
            connection.execute("SELECT '[1,2]'::vector")
        with redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
            return bool(client.ping())
    return False


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
    assert lines[0] == "ended what an interrupted run had left"
    assert stack.parts()[0].pid != outlived.pid


def test_down_ends_every_process_and_up_finds_what_was_kept(folder: Path, start: Callable[..., Stack]) -> None:
    stack = start()
    with psycopg.connect(stack.environment["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    pids = processes(folder)

    assert down(folder)

    assert not any(child.identity(pid) for pid in pids.values())
    assert not list((folder / "run").glob("*.pid"))
    assert not down(folder)
    assert find(folder) is None
    again = start()
    with psycopg.connect(again.environment["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_up_on_a_running_stack_returns_it_and_refuses_parts_that_it_lacks(folder: Path, start: Callable[..., Stack]) -> None:
    stack = start(parts=("valkey",))
    pids = processes(folder)
    lines: list[str] = []
    assert start(parts=("valkey",), on_progress=lines.append).environment == stack.environment
    assert lines == [f"already running in {folder}"]
    assert processes(folder) == pids
    with pytest.raises(StackError, match="without postgres"):
        start()


def test_two_ups_at_once_start_one_stack(folder: Path) -> None:
    code = "import sys, pathlib; from infra.local.stack import up; up(pathlib.Path(sys.argv[1]), parts=('valkey',))"
    root = Path(child.__file__).parents[2]
    try:
        runs = [subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=root) for _ in range(2)]
        assert [run.wait(60) for run in runs] == [0, 0]
        stack = find(folder)
        assert stack is not None
        [part] = stack.parts()
        assert part.pid == processes(folder)["valkey"]
    finally:
        down(folder)


def test_a_folder_can_be_made_by_several_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def make(number: int) -> None:
        together.wait(10)
        create(tmp_path / str(number) / "data")

    with ThreadPoolExecutor(8) as pool:
        for number in range(50):
            list(pool.map(make, [number] * 8))


def test_two_folders_have_stacks_side_by_side_and_a_taken_port_is_left_alone(
    folder: Path, tmp_path: Path, start: Callable[..., Stack]
) -> None:
    first = start(parts=("valkey",))
    other = tmp_path / "other"
    start(other, ("valkey",))
    down(other)
    # The second folder remembers a port that the first has meanwhile.
    remembered = Folder.load(other)
    remembered.ports["valkey"] = Folder.load(folder).ports["valkey"]
    remembered.save()
    second = start(other, ("valkey",))
    assert second.environment["REDIS_URL"] != first.environment["REDIS_URL"]
    for stack in (first, second):
        with redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
            assert client.ping()


def test_a_part_that_can_not_start_is_an_error_that_shows_its_log_and_leaves_nothing(
    folder: Path, start: Callable[..., Stack]
) -> None:
    start(parts=("valkey",))
    down(folder)
    [log] = (folder / "valkey" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"this is no append-only file\n" * 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.local.stack.START", 2.5)
        with pytest.raises(StackError, match=r"(?s)'valkey' did not answer.*Bad file format"):
            start(parts=("valkey",))
    assert processes(folder) == {}


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change to another user")
def test_under_root_a_closed_parent_folder_works_and_its_mode_stays(tmp_path: Path, start: Callable[..., Stack]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    stack = start(closed / "d")
    assert answers(stack)
    status = Path(f"/proc/{processes(closed / 'd')['postgres']}/status").read_text()
    uid = status.partition("Uid:")[2].split()[0]
    assert uid != "0"
    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change to another user")
def test_under_root_without_the_capabilities_the_error_names_the_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    code = (
        "import sys, pathlib; from infra.local.stack import StackError, up\n"
        "try: up(pathlib.Path(sys.argv[1]), parts=('postgres',))\n"
        "except StackError as error: print(error)"
    )
    root = Path(postgres.__file__).parents[2]
    command = ["setpriv", "--bounding-set", "-dac_read_search,-dac_override", sys.executable, "-c", code, str(closed / "d")]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "refuses to run as root" in output
    assert "can't get at /" in output
    assert processes(closed / "d") == {}


def test_secrets_are_readable_by_their_owner_only(folder: Path, start: Callable[..., Stack]) -> None:
    stack = start(parts=("valkey",))
    secret = stack.environment["REDIS_URL"].partition("://:")[2].partition("@")[0]
    holders = [path for path in folder.rglob("*") if path.is_file() and secret in path.read_text(errors="replace")]
    assert folder / "stack.json" in holders
    assert {path.stat().st_mode & 0o077 for path in holders} == {0}
    arguments = Path(f"/proc/{processes(folder)['valkey']}/cmdline").read_text()
    assert secret not in arguments
