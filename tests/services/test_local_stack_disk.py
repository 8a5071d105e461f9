"""The supervised stack on a disk that is full for a while: everything comes back without a command."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from supervisor import loggers

from infra.local import child
from infra.local import folder as files
from infra.local.folder import DiskSpace, StackError, disk_space
from infra.local.stack import Stack, down, up
from infra.local.supervisord import LossyFileHandler
from tests.support.local_stack import PARTS, answers, processes, until
from tests.support.small_disk import fill, free, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 250) as place:
        yield place


@pytest.fixture
def filled(disk: Path) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """A context in which the disk is kept full, also of what the parts give back."""

    @contextlib.contextmanager
    def filled() -> Iterator[None]:
        over = threading.Event()

        def keep() -> None:
            while not over.wait(0.05):
                fill(disk)

        fill(disk)
        thread = threading.Thread(target=keep)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            free(disk)

    return filled


def test_a_full_disk_stops_no_part_for_good(
    disk: Path, start: Callable[..., Stack], filled: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    stack = start(disk / "data")
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number, ''::text AS words")
    before = processes(disk / "data")

    with filled():
        # All that writes meets the full disk: PostgreSQL's log of changes, Valkey's file, a part that has to start.
        def refused() -> bool:
            try:
                with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True, connect_timeout=2) as connection:
                    connection.execute(
                        "INSERT INTO kept SELECT 8, repeat(md5(random()::text), 1000) FROM generate_series(1, 1000)"
                    )
            except psycopg.Error:
                return True
            return False

        until(refused, 60)
        for part in PARTS:
            os.kill(before[part], signal.SIGKILL)
        time.sleep(3)  # what starts meanwhile has to end, and to start again
        with pytest.raises(StackError, match=r"disk of the data folder .* is full: 0\.0 MB left \(at least 32 MB are needed\)"):
            up(disk / "data", parts=PARTS)
        assert stack.is_running()

    until(lambda: answers(stack), 90)
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
        assert connection.execute("SELECT number FROM kept WHERE number = 7").fetchone() == (7,)
        connection.execute("INSERT INTO kept VALUES (9)")

    def writes() -> bool:
        with contextlib.suppress(redis.ResponseError), redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
            return bool(client.set("kept", "7"))
        return False

    until(writes, 30)
    assert child.recorded(disk / "data" / "run", child.SUPERVISOR) == before["supervisord"]
    # Its log, and those of the parts, go on.
    written = (disk / "data" / "log" / "postgres.log").stat().st_size
    os.kill(processes(disk / "data")["postgres"], signal.SIGKILL)
    until(lambda: (disk / "data" / "log" / "postgres.log").stat().st_size > written)


def test_a_supervisor_that_is_killed_on_a_full_disk_comes_back_when_there_is_space(
    disk: Path, start: Callable[..., Stack], filled: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    stack = start(disk / "data")
    before = processes(disk / "data")
    with filled():
        os.kill(before["supervisord"], signal.SIGKILL)
        until(lambda: not any(child.identity(pid) for pid in before.values()), 60)
        time.sleep(2)
        assert stack.is_running()
    until(lambda: answers(stack), 90)
    assert down(disk / "data")


def test_a_full_disk_does_not_keep_a_stack_from_being_stopped(
    disk: Path, start: Callable[..., Stack], filled: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    start(disk / "data")
    pids = processes(disk / "data")
    with filled():
        assert down(disk / "data")
        assert not any(child.identity(pid) for pid in pids.values())
    assert answers(start(disk / "data"))


def test_a_supervisor_that_ends_by_itself_is_started_again_until_it_stays(folder: Path, start: Callable[..., Stack]) -> None:
    stack = start(parts=("valkey",))
    pid = processes(folder)["supervisord"]
    configuration = folder / "run" / "supervisord.conf"
    right = configuration.read_text()
    configuration.write_text("this is no configuration")
    os.kill(pid, signal.SIGKILL)
    # It ends with an exit code each time, and no part runs.
    log = folder / "log" / "supervisord.log"
    until(lambda: log.read_text().count("Error:") >= 2, 60)
    assert stack.is_running()

    configuration.write_text(right)

    def valkey_answers() -> bool:
        with contextlib.suppress(redis.ConnectionError), redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
            return bool(client.ping())
        return False

    until(valkey_answers, 60)
    assert down(folder)


def test_a_log_line_that_can_not_be_written_is_dropped_and_the_next_one_tried(tmp_path: Path) -> None:
    full = LossyFileHandler("/dev/full", "ab", 0, 0)
    missing = LossyFileHandler(str(tmp_path / "log" / "part.log"), "ab", 1000, 1)
    rotated = LossyFileHandler(str(tmp_path / "rotated.log"), "ab", 10, 1)
    record = loggers.LogRecord(loggers.LevelsByName.INFO, "a line\n")
    for handler in (full, missing, rotated):
        handler.emit(record)
        handler.emit(record)
    assert (tmp_path / "rotated.log.1").read_text() == "a line\na line\n"
    (tmp_path / "log").mkdir()
    missing.emit(record)
    assert (tmp_path / "log" / "part.log").read_text() == "a line\n"
    for handler in (missing, rotated):
        handler.close()
    full.stream.raw.close()  # or the rest of its buffer would be an error at the end of this process


def test_a_line_that_comes_while_a_full_log_is_put_aside_does_not_end_the_log(tmp_path: Path) -> None:
    handler = LossyFileHandler(str(tmp_path / "part.log"), "ab", 10, 1)
    record = loggers.LogRecord(loggers.LevelsByName.INFO, "a long line\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handler, "_rename", _no_space)
        handler.emit(record)
        handler.emit(record)
    handler.emit(record)
    handler.close()
    assert (tmp_path / "part.log.1").read_text() == "a long line\n" * 3


def _no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_part_waits_for_space_to_record_its_process(tmp_path: Path) -> None:
    """/dev/full stands for the file that can't be written."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "part.start").symlink_to("/dev/full")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import child, pathlib; child.record_with_space(pathlib.Path(sys.argv[2]), 'part')"  # fmt: skip  # noqa: E501 - one line of Python
    with subprocess.Popen([sys.executable, "-c", code, str(Path(child.__file__).parent), str(run)]) as waiting:
        time.sleep(1.5)
        assert waiting.poll() is None
        (run / "part.start").unlink()
        assert waiting.wait(30) == 0
    assert (run / "part.pid").read_text() == f"{waiting.pid}\n"


def test_a_disk_is_full_when_bytes_or_files_run_out() -> None:
    assert not DiskSpace(files.ENOUGH_BYTES, None).is_full
    assert str(DiskSpace(3_000_000_000, None)) == "3.0 GB left"
    assert DiskSpace(files.ENOUGH_BYTES - 1, None).is_full
    assert DiskSpace(3_000_000_000, 3).is_full
    assert str(DiskSpace(3_000_000_000, 3)) == "room for 3 more files (at least 200 are needed)"
    assert disk_space(Path("/proc")).files is None
