"""The local stack as a user starts it: ``lex-ingest up``, ``ps``, ``env``, ``down``, and what survives between them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import child
from infra.local.parts import PARTS
from tests.support.stack import LEX, alive, best, environment, lex, lines, patient, statuses, until, upload

# Whole stacks are stopped and started again in each of these: a minute where the cores are shared.
pytestmark = pytest.mark.timeout(300)


def test_every_part_runs_with_a_pid_file_and_a_log(folder: Path) -> None:
    rows = list(patient(folder, "ps").values())
    assert [row["name"] for row in rows] == list(PARTS)
    assert [row for row in rows if row["state"] != "RUNNING"] == []
    for row in rows:
        assert row["uptime_s"] >= 0
        assert int((folder / "run" / f"{row['name']}.pid").read_text()) == row["pid"]
        assert (folder / "log" / f"{row['name']}.log").exists()
    assert "already running" in subprocess.run(
        [*LEX, "up", "--data-dir", str(folder)], capture_output=True, text=True, env=environment(), timeout=60, check=True
    ).stderr  # fmt: skip


def test_an_object_that_another_client_puts_is_found_by_meaning_though_every_part_is_killed_meanwhile(folder: Path) -> None:
    upload(folder, **{"river.txt": "The glacier melts and feeds the river.", "law.txt": "A company pays tax every quarter."})
    for part in ("aws", "events", "worker", "embedder", "valkey", "embeddings", "postgres"):
        os.kill(int((folder / "run" / f"{part}.pid").read_text()), signal.SIGKILL)
    until(lambda: well(folder), 60)

    until(lambda: statuses(folder) == {"river.txt": "INDEXED", "law.txt": "INDEXED"}, 90)

    assert best(folder, "ice turning into water") == "river.txt"
    assert best(folder, "taxation of firms") == "law.txt"


def test_down_leaves_no_process_and_up_in_front_has_the_same_documents_until_ctrl_c(folder: Path) -> None:
    upload(folder, **{"river.txt": "The glacier melts and feeds the river."})
    until(lambda: statuses(folder).get("river.txt") == "INDEXED", 60)
    before, exports = statuses(folder), lex(folder, "env")
    groups = [int(file.read_text()) for file in (folder / "run").glob("*.pid")]
    assert len(groups) == len(PARTS) + 1

    lex(folder, "down")

    assert [member for group in groups for member in child.group_members(group)] == []
    assert "nothing was running" in lex(folder, "down")
    assert "lex-ingest up" in lex(folder, "env", expect=3)
    with in_front(folder) as front:
        assert statuses(folder) == before
        assert lex(folder, "env") == exports
        assert best(folder, "ice turning into water") == "river.txt"
        front.send_signal(signal.SIGINT)
        assert front.wait(60) == 0
        assert alive(folder) == []
    lex(folder, "up", "--detach")


def test_a_kill_of_up_in_front_or_of_the_keeper_ends_everything(folder: Path) -> None:
    lex(folder, "down")
    with in_front(folder) as front:
        groups = [int(file.read_text()) for file in (folder / "run").glob("*.pid")]
        front.kill()
        front.wait()
        until(lambda: not any(child.group_members(group) for group in groups), 30)
    lex(folder, "ps", expect=3)
    lex(folder, "up", "--detach")
    groups = [int(file.read_text()) for file in (folder / "run").glob("*.pid")]
    keeper = child.recorded(folder / "run", child.KEEPER)
    assert keeper is not None

    os.kill(keeper, signal.SIGKILL)

    until(lambda: not any(child.group_members(group) for group in (keeper, *groups)), 30)
    lex(folder, "ps", expect=3)


def test_a_killed_supervisor_comes_back_with_every_part_and_loses_no_document(folder: Path) -> None:
    lex(folder, "up", "--detach")
    before = {file.stem: int(file.read_text()) for file in (folder / "run").glob("*.pid")}
    upload(folder, **{"law.txt": "A company pays tax every quarter."})

    os.kill(before["supervisord"], signal.SIGKILL)

    until(lambda: not any(child.group_members(group) for group in before.values()), 15)
    until(lambda: set(alive(folder)) == {"supervisord", *PARTS}, 15)
    until(lambda: well(folder), 60)
    until(lambda: statuses(folder).get("law.txt") == "INDEXED", 60)
    until(lambda: {row["state"] for row in lines(folder, "ps")} == {"RUNNING"}, 60)


def well(folder: Path) -> bool:
    command = [*LEX, "doctor", "--data-dir", str(folder)]
    return subprocess.run(command, capture_output=True, env=environment(), check=False).returncode == 0


@contextlib.contextmanager
def in_front(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``lex-ingest up`` without ``--detach``, once it has said how to go on."""
    said = folder.parent / "said"
    with said.open("w") as output:
        command = [*LEX, "up", "--data-dir", str(folder)]
        front = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=environment(),
            start_new_session=True,
            # A shell starts what runs in the background with SIGINT ignored, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no other thread runs here
        )
    try:
        until(lambda: "lex-ingest put" in said.read_text() or front.poll() is not None, 90)
        assert set(alive(folder)) == {"supervisord", *PARTS}, said.read_text()
        yield front
    finally:
        if front.poll() is None:
            front.send_signal(signal.SIGTERM)
            front.wait(120)


def test_help_loads_no_driver_and_mistakes_have_their_exit_codes(tmp_path: Path) -> None:
    code = "import sys, infra.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True).stdout
    assert not {"boto3", "celery", "sqlalchemy", "psycopg", "openai", "numpy", "moto", "onnxruntime"} & set(loaded.split())
    lex(tmp_path / "none", "ps", expect=3)
    lex(tmp_path / "none", "up", "--nonsense", expect=2)
    (tmp_path / "file").write_text("")
    assert "is not a folder" in lex(tmp_path / "file", "up", "--detach", expect=1)
