"""The supervised stack: up and down, two at once, folders and ports."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis

from infra.local import child
from infra.local.folder import Folder, StackError, create
from infra.local.stack import Stack, down, find
from tests.support.local_stack import processes


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
