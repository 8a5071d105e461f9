"""The data folder of a stack: who may write it, what happens when it is gone, and how it is deleted."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import child, keeper
from infra.local.folder import ENTRIES, Folder, StackError, create
from infra.local.stack import Stack, delete, down, find, up
from infra.local.supervision import STOP
from tests.support.local_stack import PARTS, answers, processes, until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("mode", [0o757, 0o777, 0o1777])
def test_a_folder_that_every_user_may_write_is_refused_with_the_command_that_mends_it(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    for use in (up, down, find):
        (folder / "run").mkdir(exist_ok=True)
        with pytest.raises(StackError, match=r"every user: run `chmod go-w '.*'` first"):
            use(folder)
    folder.chmod(0o755)
    create(folder)


@as_root
def test_a_folder_that_a_group_of_others_may_write_is_refused_and_one_of_the_user_s_own_group_is_not(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, -1, 65534)
    folder.chmod(0o770)
    with pytest.raises(StackError, match="may be written by the group"):
        create(folder)
    os.chown(folder, -1, 0)
    folder.chmod(0o770)
    create(folder)


@as_root
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, -1)
    with pytest.raises(StackError, match=r"belongs to the user nobody.*--data-dir, or take it over: `sudo chown -R root '"):
        up(folder)
    assert list(folder.iterdir()) == []


def test_a_file_is_refused_as_a_data_folder(folder: Path) -> None:
    folder.write_text("mine")
    with pytest.raises(StackError, match="is not a folder: choose another"):
        up(folder)
    assert folder.read_text() == "mine"


def test_a_folder_that_is_a_symbolic_link_is_refused_and_the_real_one_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "real")
    with pytest.raises(StackError, match=f"is a symbolic link.*--data-dir {tmp_path}/real"):
        up(folder)
    assert list((tmp_path / "real").iterdir()) == []


def test_a_parent_in_which_every_user_may_exchange_the_folder_is_refused_unless_its_sticky_bit_is_set(
    tmp_path: Path, open_umask: None
) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(StackError, match=r"parent may be written by every user, who could exchange the data folder"):
        create(parent / "data")
    parent.chmod(0o1777)
    create(parent / "data")
    assert (parent / "data").stat().st_mode & 0o022 == 0


def _gone(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what runs may write into it meanwhile, as for rm -rf


def _moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def _replaced(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    create(folder)


def _emptied(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@pytest.mark.parametrize("lose", [_gone, _moved, _replaced, _emptied])
def test_every_process_ends_when_the_folder_is_gone(
    folder: Path, start: Callable[..., Stack], lose: Callable[[Path], None]
) -> None:
    stack = start()
    first = child.recorded(folder / "run", child.KEEPER)
    assert first is not None
    everything = [first, *keeper.descendants(first)]
    assert len(everything) > 2 + len(PARTS)  # PostgreSQL has children of its own

    lose(folder)

    until(lambda: not any(child.identity(pid) for pid in everything), 60)
    assert stack.supervisor is not None
    assert stack.supervisor.wait(10) == 0
    stack.end()
    assert find(folder) is None
    assert not down(folder)
    assert not find(folder.with_name("elsewhere"))
    if lose is _moved:
        again = start(folder.with_name("elsewhere"))
        assert again.environment == stack.environment
        assert answers(again)


def test_a_stack_that_is_started_in_the_place_of_a_deleted_one_is_left_alone(folder: Path, start: Callable[..., Stack]) -> None:
    old = start()
    first = child.recorded(folder / "run", child.KEEPER)
    assert first is not None
    everything = [first, *keeper.descendants(first)]
    _gone(folder)
    shutil.rmtree(folder, ignore_errors=True)

    new = start()
    pids = processes(folder)
    until(lambda: not any(child.identity(pid) for pid in everything), 60)
    old.end()

    assert processes(folder) == pids
    assert answers(new)
    # What ended did not write into the new cluster.
    down(folder)
    assert answers(start())


def test_down_ends_at_once_what_runs_of_a_folder_that_was_deleted(folder: Path, start: Callable[..., Stack]) -> None:
    start()
    first = child.recorded(folder / "run", child.KEEPER)
    assert first is not None
    everything = [first, *keeper.descendants(first)]
    # As an older version, which looks at no folder, it would stay.
    os.kill(first, signal.SIGSTOP)
    _gone(folder)

    assert down(folder)

    until(lambda: not any(child.identity(pid) for pid in everything))
    assert not down(folder)


def test_the_keeper_finds_its_descendants_and_no_other_process() -> None:
    assert os.getppid() not in keeper.descendants(os.getpid())
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        assert pid in keeper.descendants(os.getpid())
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert pid not in keeper.descendants(os.getpid())


def test_delete_stops_the_stack_and_removes_all_that_it_wrote(folder: Path, start: Callable[..., Stack]) -> None:
    start()
    pids = processes(folder)
    assert set(pids) == {"supervisord", *PARTS}
    assert {entry.name for entry in folder.iterdir()} <= set(ENTRIES)

    assert delete(folder) == []

    assert not folder.exists()
    assert not any(child.identity(pid) for pid in pids.values())
    assert answers(start())


def test_delete_keeps_what_is_not_the_stack_s_and_refuses_a_folder_without_one(
    folder: Path, tmp_path: Path, start: Callable[..., Stack]
) -> None:
    start(parts=("valkey",))
    (folder / "my notes.txt").write_text("mine")
    (tmp_path / "mine too").mkdir()
    (tmp_path / "mine too" / "file").write_text("mine")
    shutil.rmtree(folder / "tmp")
    (folder / "tmp").symlink_to(tmp_path / "mine too")

    assert delete(folder) == ["my notes.txt"]

    assert [entry.name for entry in folder.iterdir()] == ["my notes.txt"]
    assert (tmp_path / "mine too" / "file").read_text() == "mine"
    for other in (folder, tmp_path, tmp_path / "none"):
        with pytest.raises(StackError, match="nothing was deleted"):
            delete(other)
    (tmp_path / "stack.json").write_text('{"not": "ours"}')
    with pytest.raises(StackError, match="nothing was deleted"):
        delete(tmp_path)


def test_an_up_that_waited_for_the_lock_of_a_folder_that_is_deleted_says_so(folder: Path) -> None:
    create(folder)
    with Folder.locked(folder):
        shutil.rmtree(folder)
    with pytest.raises(StackError, match="was deleted meanwhile"), Folder.locked(folder):
        pass


@pytest.mark.parametrize("name", [child.SUPERVISOR, "valkey"])
def test_a_stack_of_which_one_process_stands_still_is_stopped_as_any_other(folder: Path, name: str) -> None:
    stack = up(folder, parts=("valkey",))
    pid = child.recorded(Folder.load(folder).run, name)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    assert down(folder)
    assert time.monotonic() - began < STOP / 2
    assert stack.supervisor is not None
    stack.supervisor.wait()
    assert not processes(folder)
