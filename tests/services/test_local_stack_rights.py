"""The local stack: closed folders, other users, secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from infra.local import postgres
from infra.local.folder import Folder, StackError, create
from infra.local.stack import Stack
from tests.support.local_stack import answers, processes


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


def test_a_user_without_a_name_is_told_what_postgresql_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "d")

    def unknown(user: int) -> NoReturn:
        raise KeyError(user)

    monkeypatch.setattr(postgres.os, "geteuid", lambda: 12345)
    monkeypatch.setattr(postgres.pwd, "getpwuid", unknown)
    with pytest.raises(StackError, match="user 12345, who has no name: add a line for it to /etc/passwd"):
        postgres.prepare(Folder.load(tmp_path / "d"))


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
