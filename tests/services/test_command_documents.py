"""What ``status``, ``show``, ``search`` and ``put`` say of documents: progress, keys that can be pasted, buckets, the model."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from infra.cli import prices
from infra.cli.connection import option_of
from tests.support.command_line import PROGRAM, mistake, run, variables
from tests.support.documents import TIDE, execute, put_and_tell, run_stages, status_of
from tests.support.load_server import server_that_answers
from worker.domain.scope import Scope
from worker.services.documents import DocumentStatus, statuses
from worker.services.extraction import extract_document
from worker.settings import Settings
from worker.store import profiles
from worker.store.session import transaction

LOAD = b'{"texts_per_second": 3.14, "tokens_per_second": 900.0, "waiting_texts": 5, "requests": 1, "dropped": 0}'


def half_embedded(settings: Settings, key: str = "long.txt") -> int:
    """A document whose extraction is done and two of whose chunks have a vector; how many chunks it has."""
    text = "\n\n".join(f"Paragraph {number}. " + TIDE * 9 for number in range(40))
    document_id = put_and_tell(settings, key, text)
    extract_document(document_id, settings)
    with transaction(settings.database_url) as connection:
        profile = profiles.serving(connection)
    assert profile is not None
    execute(
        settings,
        f"INSERT INTO {profile.table} SELECT text_sha256, array_fill(0.1::real, ARRAY[{profile.dimensions}])::{profile.storage} "
        "FROM document_chunks WHERE document_id = %s AND ordinal < 2",
        document_id,
    )
    row = progress_of(settings, key)
    assert row.chunks_total is not None
    assert row.chunks_total > 3
    return row.chunks_total


def progress_of(settings: Settings, key: str) -> DocumentStatus:
    (row,) = statuses(Scope.of_buckets(settings.buckets), settings, key=key, with_progress=True)
    return row


def test_a_document_that_is_being_embedded_has_its_counts_and_no_other_has(settings: Settings) -> None:
    total = half_embedded(settings)
    row = progress_of(settings, "long.txt")
    assert (row.status, row.chunks_embedded, row.chunks_total, row.chunks) == ("EXTRACTED", 2, total, 0)
    run_stages(settings, put_and_tell(settings, "done.txt", TIDE))
    put_and_tell(settings, "new.txt", TIDE)
    for key in ("done.txt", "new.txt"):
        row = progress_of(settings, key)
        assert (row.chunks_embedded, row.chunks_total) == (None, None)
    # Who does not ask for them does not pay for them.
    row = status_of(settings, "long.txt")
    assert (row.chunks_embedded, row.chunks_total) == (None, None)


def test_counting_is_bounded_and_a_giant_keeps_no_other_from_its_count(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = half_embedded(settings)
    small = put_and_tell(settings, "small.txt", TIDE)
    extract_document(small, settings)
    monkeypatch.setattr("worker.services.documents._MOST_COUNTED", total)
    giant, little = progress_of(settings, "long.txt"), progress_of(settings, "small.txt")
    assert (giant.chunks_embedded, little.chunks_embedded) == (2, 0)
    both = {row.key: row for row in statuses(Scope.of_buckets(settings.buckets), settings, with_progress=True)}
    assert (both["long.txt"].chunks_embedded, both["long.txt"].chunks_total) == (None, total)
    assert (both["small.txt"].chunks_embedded, both["small.txt"].chunks_total) == (0, 1)


def test_status_shows_chunks_and_names_the_busy_model(settings: Settings, tmp_path: Path) -> None:
    total = half_embedded(settings)
    with server_that_answers(LOAD) as (url, asked):
        local: dict[str, str | None] = {"LEX_INGEST_EMBEDDING_PROVIDER": "local", "OPENAI_BASE_URL": url}
        lines = run(tmp_path, ["status"], local).stdout.splitlines()
        assert lines[0].split() == ["status", "gen", "chunks", "key"]
        assert lines[1].split()[:4] == ["EXTRACTED", "1", f"2/{total}", "long.txt"]
        assert lines[-1] == f"the local model is busy: 3.1 chunks/s, {total - 2} to go"
        *rows, summary = (
            json.loads(line) for line in run(tmp_path, ["status", "--json", "--summary"], local).stdout.splitlines()
        )
    assert len(asked) == 2
    assert [(row["chunks_embedded"], row["chunks_total"]) for row in rows] == [(2, total)]
    assert summary["kind"] == "summary"
    assert (summary["documents"], summary["statuses"]) == (1, {"EXTRACTED": 1})
    assert (summary["chunks_embedded"], summary["chunks_total"]) == (2, total)
    assert summary["local_model"] == {"texts_per_second": 3.14, "waiting_texts": 5}
    assert set(summary["queues"]) == {"lex.documents", "lex.extraction", "lex.embedding"}
    assert all("kind" not in json.loads(line) for line in run(tmp_path, ["status", "--json"], local).stdout.splitlines())


@pytest.mark.parametrize(
    "key", ["a b (1).txt", "it's $HOME `id`\n\u202e[31m.txt", "x" * 1000, "日本/é.txt", "k" * 500 + " \\ " + "k" * 400]
)
def test_what_status_prints_can_be_pasted_behind_show(settings: Settings, tmp_path: Path, key: str) -> None:
    run_stages(settings, put_and_tell(settings, key, TIDE))
    line = run(tmp_path, ["status"]).stdout.splitlines()[1]
    assert line.isprintable()
    pasted = line.split(None, 3)[3]
    for command in (f"show {pasted} --json", f"status {pasted} --json"):
        script = f"{' '.join(PROGRAM)} {command}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=variables({}), capture_output=True, text=True, check=True, timeout=60
        )
        assert json.loads(done.stdout)["key"] == key
    for arguments in (["search", "tide", "--mode", "text"], ["show", key], ["cost", "--by", "document"]):
        assert pasted in run(tmp_path, arguments).stdout
    assert run(tmp_path, ["replay", "--key", key]).stdout.startswith(f"replaying {pasted};")


@contextmanager
def second_bucket(settings: Settings) -> Iterator[str]:
    """A bucket that has a document with the same key as the first one's."""
    name = "documents-too"
    boto3.client("s3").create_bucket(Bucket=name)
    execute(settings, "INSERT INTO documents (bucket, key, status) VALUES (%s, 'a.txt', 'PENDING')", name)
    try:
        yield name
    finally:
        boto3.client("s3").delete_bucket(Bucket=name)


def test_a_key_of_two_buckets_is_told_apart_by_the_bucket(settings: Settings, tmp_path: Path) -> None:
    first = settings.buckets[0]
    run_stages(settings, put_and_tell(settings, "a.txt", TIDE))
    with second_bucket(settings) as second:
        both: dict[str, str | None] = {"BUCKET": f"{first},{second}"}
        said = mistake(tmp_path, ["show", "a.txt"], 2, "--bucket", both)
        assert f"({first}, {second})" in said
        for name, status in ((first, "INDEXED"), (second, "PENDING")):
            shown = json.loads(run(tmp_path, ["show", "a.txt", "--bucket", name, "--json"], both).stdout)
            assert (shown["bucket"], shown["status"]) == (name, status)
            (row,) = (
                json.loads(line) for line in run(tmp_path, ["status", "--bucket", name, "--json"], both).stdout.splitlines()
            )
            assert (row["bucket"], row["status"]) == (name, status)
        lines = run(tmp_path, ["status"], both).stdout.splitlines()
        assert [line.split()[3:5] for line in lines[1:3]] == [[first, "a.txt"], [second, "a.txt"]]
        assert f"{first}: a.txt" in run(tmp_path, ["search", "tide", "--mode", "text"], both).stdout
        assert "nothing found" in run(tmp_path, ["search", "tide", "--mode", "text", "--bucket", second], both).stdout
        replayed = run(tmp_path, ["replay", "--all", "--bucket", second, "--json"], both).stdout
        assert len(replayed.splitlines()) == 1
        assert " total" in run(tmp_path, ["cost", "--bucket", second], both).stdout


def test_put_says_which_model_embeds_and_what_that_is_expected_to_cost(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("x" * 4_000_000)

    def said(**changes: str) -> str:
        done = run(tmp_path, ["put", "note.txt"], changes)
        assert done.stdout.startswith("1 file uploaded to ")
        return done.stderr

    at = f"embeddings: words at {settings.openai_base_url}, about 1,111,112 tokens by the files' sizes"
    assert said(LEX_INGEST_PRICES="words=2") == f"{at}, expected to cost 2.23 USD, at most 8.89 USD\n"
    assert said() == f"{at}; its price is unknown (LEX_INGEST_PRICES sets it)\n"
    assert said(LEX_INGEST_PRICES="words=0").endswith(", free by its price\n")
    execute(settings, "UPDATE embedding_profiles SET provider = 'local' WHERE serving")
    try:
        assert said(LEX_INGEST_PRICES="words=2") == "embeddings: words, free: on this machine\n"
    finally:
        execute(settings, "UPDATE embedding_profiles SET provider = 'test' WHERE serving")


def test_the_expected_price_is_by_kind_of_file_and_needs_no_database(settings: Settings, tmp_path: Path) -> None:
    from dataclasses import replace
    from decimal import Decimal

    for name in ("text.md", "paper.pdf", "photo.png"):
        (tmp_path / name).write_bytes(b"x" * 36_000)
    priced = replace(settings, prices=(("words", Decimal(100)),), database_url="postgresql://u@127.0.0.1:1/none")

    def line(*names: str) -> str:
        return prices.estimate_embedding([tmp_path / name for name in names], priced).line

    assert "about 10,000 tokens by the files' sizes, expected to cost 1.00 USD, at most 4.00 USD" in line("text.md")
    assert "about 10,000 tokens by the files' sizes, expected to cost 1.00 USD, at most 40.00 USD" in line("paper.pdf")
    assert "about 0 tokens by the files' sizes, expected to cost less than 0.01 USD" in line("photo.png", "gone.txt")


@contextmanager
def waiting_put(settings: Settings, tmp_path: Path) -> Iterator[tuple[list[str], dict[str, str], int]]:
    """A ``put --wait`` that has to wait for a document which is half embedded, beside a busy local model."""
    (tmp_path / "long.txt").write_text("\n\n".join(f"Paragraph {number}. " + TIDE * 9 for number in range(40)))
    total = half_embedded(settings)
    with server_that_answers(LOAD) as (url, _):
        changes = variables({"LEX_INGEST_EMBEDDING_PROVIDER": "local", "OPENAI_BASE_URL": url})
        yield [*PROGRAM, "put", "long.txt", "--wait", "--timeout", "4"], changes, total


def test_put_that_waits_tells_documents_chunks_and_the_busy_model(settings: Settings, tmp_path: Path) -> None:
    with waiting_put(settings, tmp_path) as (command, environment, total):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 1
    assert done.stdout == "0 indexed, 0 not, 1 still waiting\n"
    busy = f"the local model is busy: 3.1 chunks/s, {total - 2} to go"
    assert f"0 of 1 document, 2 of {total} chunks; {busy}" in done.stderr.splitlines()


def test_put_that_waits_shows_bars_of_documents_and_chunks_on_a_terminal(settings: Settings, tmp_path: Path) -> None:
    with waiting_put(settings, tmp_path) as (command, environment, total):
        ours, theirs = pty.openpty()
        wide = {**environment, "COLUMNS": "200", "TERM": "xterm-256color"}
        with subprocess.Popen(command, cwd=tmp_path, env=wide, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            shown = b""
            # Linux answers EIO when a terminal is read after its last user has closed it.
            while block := _read(ours):
                shown += block
            process.wait(60)
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"documents +\S* +0/1 ", text)
    assert re.search(rf"chunks +\S* *2/{total} +0:00:0\d the local model is busy: 3\.1 chunks/s, {total - 2} to go", text)
    assert "0 indexed, 0 not, 1 still waiting" in text


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_ctrl_c_while_put_waits_says_that_the_work_goes_on(settings: Settings, tmp_path: Path) -> None:
    with (
        waiting_put(settings, tmp_path) as (command, environment, _),
        subprocess.Popen(
            [*command, "--timeout", "60"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        while "0 of 1 document" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith(
        "no longer waiting: the uploaded files are processed all the same; `lex-ingest status"
    )


def test_an_empty_system_is_told_in_words(settings: Settings, tmp_path: Path) -> None:
    assert run(tmp_path, ["status"]).stdout.startswith("no documents\nqueues: ")
    with subprocess.Popen(
        [*PROGRAM, "status", "--watch"], cwd=tmp_path, env=variables({}), stdout=subprocess.PIPE, text=True
    ) as process:
        # Into a pipe rich prints when the watching ends.
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "no documents yet" in process.stdout.read()
    assert process.returncode == 130


def test_a_command_that_is_shown_names_the_same_stack() -> None:
    assert option_of(None) == ""
    assert option_of(Path("my stack")) == " --data-dir 'my stack'"
