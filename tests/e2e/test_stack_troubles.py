"""What happens to a whole stack in the first hour: a full disk, a deleted folder, an older version, an exported key."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import psycopg
import pytest
from botocore.config import Config

from infra.local import child, keeper
from infra.local.parts import PARTS
from tests.support.local_stack import older
from tests.support.small_disk import fill, free, small_disk
from tests.support.stack import LEX, alive, best, environment, lex, lines, statuses, until

pytestmark = pytest.mark.timeout(600)
TEXTS = {f"{number:02}.txt": f"Report {number}: the glacier melts and feeds the river." for number in range(12)}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    yield folder
    if folder.exists():
        lex(folder, "down")


def clients(folder: Path) -> dict[str, str]:
    exports = [line.removeprefix("export ") for line in lex(folder, "env").splitlines() if line.startswith("export ")]
    return {name: value.strip("'") for name, _, value in (export.partition("=") for export in exports)}


def test_a_disk_that_fills_up_during_put_loses_no_document_and_needs_no_command(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "texts" / name).write_text(text)
    with small_disk(tmp_path / "disk", 300) as disk:
        folder = disk / "data"
        lex(folder, "up", "--detach")
        try:
            known = clients(folder)
            s3 = boto3.client(
                "s3",
                endpoint_url=known["AWS_ENDPOINT_URL"],
                aws_access_key_id=known["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=known["AWS_SECRET_ACCESS_KEY"],
                region_name=known["AWS_DEFAULT_REGION"],
                config=Config(retries={"total_max_attempts": 40, "mode": "standard"}, connect_timeout=5, read_timeout=10),
            )
            command = [*LEX, "put", "--data-dir", str(folder), str(tmp_path / "texts"), "--wait", "--timeout", "400"]
            with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as put:
                until(lambda: s3.list_objects_v2(Bucket="documents")["KeyCount"] == len(TEXTS), 60)
                over = threading.Event()
                late = threading.Thread(target=s3.put_object, kwargs={"Bucket": "documents", "Key": "late.txt", "Body": b"Late."})

                def keep_full() -> None:
                    while not over.wait(0.05):
                        fill(disk)

                fill(disk)
                filler = threading.Thread(target=keep_full)
                filler.start()
                try:
                    late.start()
                    # Everything that needs the disk is told to start again.
                    for part in ("postgres", "aws", "worker", "valkey"):
                        pid = child.recorded(folder / "run", part)
                        if pid is not None:
                            os.kill(pid, 9)
                    assert "is full: 0.0 MB left" in lex(folder, "up", "--detach", expect=1)
                    assert child.recorded(folder / "run", child.KEEPER) is not None
                finally:
                    over.set()
                    filler.join()
                    free(disk)
                said = put.communicate(timeout=450)[0]
            assert put.returncode == 0, said
            late.join()
            # The late object may have been refused while the disk was full: its client repeats it, and gives up in the end.
            in_bucket = {item["Key"] for item in s3.list_objects_v2(Bucket="documents")["Contents"]}
            assert in_bucket >= set(TEXTS)
            until(lambda: statuses(folder) == dict.fromkeys(in_bucket, "INDEXED"), 120)
            assert set(alive(folder)) == {"supervisord", *PARTS}
        finally:
            lex(folder, "down")


def test_no_process_is_left_of_a_stack_whose_folder_is_deleted(place: Path) -> None:
    lex(place, "up", "--detach")
    first = child.recorded(place / "run", child.KEEPER)
    assert first is not None
    everything = [first, *keeper.descendants(first)]
    assert len(everything) > len(PARTS) + 2

    subprocess.run(["rm", "-rf", str(place)], check=False)

    until(lambda: not any(child.identity(pid) for pid in everything), 60)
    shutil.rmtree(place, ignore_errors=True)
    assert "nothing was running" in lex(place, "down")
    lex(place, "ps", expect=3)


def test_down_delete_says_what_goes_and_asks_or_is_told_yes(place: Path) -> None:
    lex(place, "up", "--detach")
    refused = lex(place, "down", "--delete", expect=2)
    assert "the bucket" in refused
    assert "--yes" in refused
    assert set(alive(place)) == {"supervisord", *PARTS}
    lex(place, "down", "--yes", expect=2)
    assert f"deleted {place}" in lex(place, "down", "--delete", "--yes")
    assert not place.exists()
    assert "not the data folder of a stack" in lex(place, "down", "--delete", "--yes", expect=1)


@pytest.mark.parametrize("running", [False, True])
def test_a_folder_of_26_november_is_taken_over_by_up_and_ended_by_down(place: Path, running: bool) -> None:
    older(place, PARTS, environment=environment())
    files = place.parent / "texts"
    files.mkdir()
    (files / "river.txt").write_text("The glacier melts and feeds the river.")
    (files / "law.txt").write_text("A company pays tax every quarter.")
    lex(place, "put", str(files), "--wait")
    before = {row["key"]: row for row in lines(place, "status")}
    address = clients(place)["DATABASE_URL"]
    pids = [int(file.read_text()) for file in (place / "run").glob("*.pid")]
    if not running:
        lex(place, "down")

    lex(place, "up", "--detach")

    assert not any(child.group_members(pid) for pid in pids)
    after = {row["key"]: row for row in lines(place, "status")}
    unchanged = ("document_id", "status", "generation", "etag", "chunks")
    assert [[after[key][name] for name in unchanged] for key in before] == [
        [row[name] for name in unchanged] for row in before.values()
    ]
    assert best(place, "ice turning into water") == "river.txt"
    now = clients(place)
    assert now["DATABASE_URL"] == address
    assert "local" not in (now["AWS_ACCESS_KEY_ID"], now["AWS_SECRET_ACCESS_KEY"])
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    (files / "new.txt").write_text("Marmalade is boiled from Seville oranges.")
    lex(place, "put", str(files / "new.txt"), "--wait")
    assert best(place, "orange jam") == "new.txt"
    lex(place, "down")
    assert alive(place) == []


def test_an_exported_key_is_told_of_and_not_used_without_a_terminal(place: Path) -> None:
    users = environment() | {"OPENAI_API_KEY": "sk-users-own", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    done = subprocess.run(
        [*LEX, "up", "--detach", "--data-dir", str(place)],
        capture_output=True,
        text=True,
        env=users,
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=300,
    )
    said = done.stderr.splitlines()
    assert f"starting the stack in {place}" in said
    assert "  embeddings      all-minilm-l6-v2-int8 on this machine (384 dimensions)" in said
    assert any("OPENAI_API_KEY is set and not used" in line and "--provider env" in line for line in said)
    assert "sk-users-own" not in lex(place, "env")
