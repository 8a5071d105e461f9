"""Each mistake at the command line is one line on standard error, the right exit code, and never a traceback."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from infra.local.folder import Folder, create
from tests.conftest import wait_until
from tests.support.command_line import PROGRAM, mistake, run, variables
from tests.support.documents import execute
from tests.support.models import made, served
from worker.settings import Settings

NOTHING: dict[str, str | None] = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "BUCKET", "AWS_ENDPOINT_URL", "LEX_INGEST_DATA_DIR"))
DEAD_DATABASE = "postgresql://u:secret@127.0.0.1:1/none"
DEAD_S3, DEAD_REDIS = "http://127.0.0.1:1", "redis://127.0.0.1:1/0"

# Arguments, exit code, words of the line: nothing runs where these are called.
WITHOUT_A_SYSTEM: list[tuple[list[str | bytes], int, str]] = [
    (["stats"], 2, "Did you mean 'status'? See `lex-ingest --help`"),
    (["--nonsense"], 2, "No such option: --nonsense"),
    (["model", "lst"], 2, "No such command 'lst'"),
    (["put"], 2, "Missing argument 'PATH"),
    (["show"], 2, "Missing argument 'KEY'"),
    (["show", "a", "b"], 2, "unexpected extra argument"),
    (["show", "--jsno", "a"], 2, "No such option: --jsno"),
    (["show", "-x.pdf"], 2, "`lex-ingest show -- -KEY`"),
    (["show", b"caf\xe9.txt"], 2, "is not valid UTF-8"),
    (["search", b"\xff\xfe"], 2, "is not valid UTF-8"),
    (["search", "x", "--where", b"author=\xff"], 2, "is not valid UTF-8"),
    (["search", "  "], 2, "say what you look for"),
    (["search", "x", "-k", "0"], 2, "-k"),
    (["search", "x", "-k", "many"], 2, "-k"),
    (["search", "x", "--mode", "psychic"], 2, "--mode: one of"),
    (["search", "x", "--type", "exe"], 2, "--type"),
    (["search", "x", "--after", "yesterday"], 2, "no ISO date"),
    (["search", "x", "--where", "author"], 2, "NAME=VALUE"),
    (["status", "--status", "lost"], 2, "one of PENDING"),
    (["status", "--watch", "--json"], 2, "--watch"),
    (["put", "x", "--timeout", "nan", "--wait"], 2, "--timeout"),
    (["put", "x", "--timeout", "-1", "--wait"], 2, "--timeout"),
    (["replay"], 2, "say which documents"),
    (["replay", "--all", "--key", "a"], 2, "--all goes with no other choice"),
    (["cost", "--by", "moon"], 2, "--by"),
    (["cost", "--since", "2026-13-01"], 2, "no ISO date"),
    (["model", "add", "x"], 2, "--dimensions"),
    (["model", "backfill", "x", "--budget", "free"], 2, "--budget"),
    (["model", "backfill", "x", "--json"], 2, "--yes"),
    (["status"], 3, "No stack is running here"),
    (["ps"], 3, "No stack is running in"),
    (["env"], 3, "No stack is running in"),
    (["status", "--data-dir", "no where"], 3, "--data-dir 'no where'"),
    (["status", "--data-dir", b"\xff"], 3, "No stack is running in"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), WITHOUT_A_SYSTEM)
def test_a_mistake_where_nothing_runs(tmp_path: Path, arguments: list[str | bytes], code: int, words: str) -> None:
    mistake(tmp_path, arguments, code, words, NOTHING)


# Arguments, changed variables, exit code, words of the line: beside the tests' own services.
BESIDE_A_SYSTEM: list[tuple[list[str | bytes], dict[str, str | None], int, str]] = [
    (["status"], {"DATABASE_URL": "nonsense"}, 2, "DATABASE_URL"),
    (["status"], {"DATABASE_URL": DEAD_DATABASE}, 3, "PostgreSQL does not answer"),
    (["search", "x"], {"DATABASE_URL": DEAD_DATABASE}, 3, "lex-ingest doctor"),
    (["migrate"], {"DATABASE_URL": DEAD_DATABASE}, 3, "PostgreSQL does not answer"),
    (["cost"], {"DATABASE_URL": "postgresql://u:secret@host.invalid/none"}, 3, "PostgreSQL does not answer"),
    (["status"], {"BUCKET": None}, 2, "BUCKET is not set"),
    (["status"], {"LEX_INGEST_LEASE": "soon"}, 2, "LEX_INGEST_LEASE"),
    (["status", "no such key"], {}, 1, "no document has the key 'no such key'"),
    (["show", "a\x1b[31m"], {}, 1, r"no document has the key $'a\033[31m'"),
    (["status", "--bucket", "others"], {}, 2, "is not among BUCKET="),
    (["search", "x", "--bucket", "others", "--mode", "text"], {}, 2, "is not among BUCKET="),
    (["replay", "--status", "FAILED"], {}, 1, "no document matches"),
    (["purge", "never there"], {}, 1, "nothing was known of 'never there'"),
    (["rm", "never there"], {}, 1, "there is no object 'never there'"),
    (["rm", ""], {}, 2, "a key has at least one character"),
    (["status"], {"DATABASE_URL": "mysql://u:secret@host/d"}, 2, "DATABASE_URL"),
    (["status"], {"DATABASE_URL": "postgresql://u:secret@host:notaport/d"}, 2, "DATABASE_URL"),
    (["rm", "x"], {"BUCKET": "missing-bucket"}, 2, "There is no bucket 'missing-bucket'"),
    (["put", "file.txt"], {"BUCKET": "missing-bucket"}, 2, "There is no bucket 'missing-bucket'"),
    (["reconcile-bucket"], {"BUCKET": "missing-bucket"}, 2, "there is no bucket 'missing-bucket'"),
    (["put", "file.txt"], {"AWS_ENDPOINT_URL": DEAD_S3}, 3, "S3 does not answer"),
    *(
        (["put", "file.txt"], {"AWS_ENDPOINT_URL": endpoint}, 2, "AWS_ENDPOINT_URL can't be used")
        for endpoint in ("nonsense", "http://[", "http://[x]", "http://a\uff0fb")
    ),
    (["put", "file.txt"], {"AWS_PROFILE": "nobody"}, 2, "nobody"),
    (["put", "nowhere.txt"], {}, 1, "There is no file or folder nowhere.txt."),
    (["put", b"\xff.txt"], {}, 1, "must be Unicode text"),
    (["put", "loop"], {}, 1, "There is no file or folder loop."),
    (["put", "pipe"], {}, 1, "not a regular file"),
    (["put", "empty"], {}, 1, "No file to upload was found"),
    (["put", "file.txt", "--prefix", "x" * 1020], {}, 1, "at most 1,024 bytes"),
    (["put", "file.txt", "file.txt"], {}, 1, "the same key"),
    (["put", "y" * 300], {}, 1, "too long"),
    (["put", "file.txt", "--bucket", "others"], {}, 2, "is not among BUCKET="),
    (["model", "switch", "nobody"], {}, 1, "there is no profile 'nobody'"),
]


@pytest.mark.parametrize(("arguments", "changes", "code", "words"), BESIDE_A_SYSTEM)
def test_a_mistake_beside_a_system(
    settings: Settings, tmp_path: Path, arguments: list[str | bytes], changes: dict[str, str | None], code: int, words: str
) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert "secret" not in mistake(tmp_path, arguments, code, words, changes)


def test_a_question_without_an_answer_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    served(settings, [["One text."]])
    made(settings)
    done = run(tmp_path, ["model", "backfill", "other"], expect=1)
    assert "--yes answers it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_is_one_line_that_asks_for_a_report_and_debug_shows_its_traceback(tmp_path: Path) -> None:
    code = (
        "import sys; from infra.cli import main, documents\n"
        "def fall_over(*_): raise ZeroDivisionError('first line\\nsecond line')\n"
        "documents.connect = fall_over\n"
        "sys.argv[0] = 'lex-ingest'; main.main()"
    )

    def fall(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=variables({}), capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stderr

    status, said = fall("status")
    assert (status, len(said.splitlines())) == (70, 1)
    assert "Unexpected ZeroDivisionError: first line. This is a bug in lex-ingest: please report it" in said
    status, said = fall("--debug", "status")
    assert status == 70
    assert "Traceback" in said
    assert "second line" in said


def test_a_person_sees_no_log_lines_unless_asked_for(settings: Settings, tmp_path: Path) -> None:
    fill(settings, 1)
    dead = {"REDIS_URL": DEAD_REDIS}
    assert run(tmp_path, ["replay", "--all"], dead).stderr == ""
    assert '"level":"WARNING"' in run(tmp_path, ["--debug", "replay", "--all"], dead).stderr


def fill(settings: Settings, number: int) -> None:
    """Documents that are FAILED, as rows alone, with keys of a thousand characters."""
    execute(
        settings,
        "INSERT INTO documents (bucket, key, status, due_at, error_code, error) "
        "SELECT %s, lpad(i::text, 6, '0') || repeat('x', 994), 'FAILED', NULL, 'damaged', 'The file is damaged.' "
        "FROM generate_series(1, %s) i",
        settings.buckets[0],
        number,
    )


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"]])
def test_a_closed_pipe_ends_the_command_quietly(settings: Settings, tmp_path: Path, arguments: list[str]) -> None:
    fill(settings, 2000)
    with subprocess.Popen(
        [*PROGRAM, *arguments], cwd=tmp_path, env=variables({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.parametrize("arguments", [["--help"], ["put", "-h"], ["--version"]])
def test_a_pipe_that_was_closed_before_the_first_line_is_no_lost_connection(tmp_path: Path, arguments: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [*PROGRAM, *arguments], cwd=tmp_path, env=variables(NOTHING), stdout=theirs, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("typed", "words"), [(b"n\n", "The answer was no, so nothing was done."), (b"\x04", "There was no answer to the question")]
)
def test_a_question_that_is_answered_with_no_is_told_apart_from_one_without_an_answer(
    tmp_path: Path, typed: bytes, words: str
) -> None:
    create(tmp_path / "stack")
    Folder.load(tmp_path / "stack").save()
    ours, theirs = pty.openpty()
    command = [*PROGRAM, "down", "--delete", "--data-dir", str(tmp_path / "stack")]
    with subprocess.Popen(
        command, cwd=tmp_path, env=variables(NOTHING), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(theirs)
        os.write(ours, typed)
        assert process.stderr is not None
        said = process.stderr.read()
    os.close(ours)
    assert process.returncode == 1
    assert words in said
    assert (tmp_path / "stack").is_dir()


def test_the_help_of_a_command_breaks_its_lines_only_where_the_terminal_does(tmp_path: Path) -> None:
    wide = run(tmp_path, ["put", "--help"], {**NOTHING, "COLUMNS": "300"}).stdout.splitlines()
    assert any("First prints which model" in line and "is no failure." in line for line in wide)


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["--help"], ["--version"]])
def test_an_output_that_can_t_be_written_is_told(settings: Settings, tmp_path: Path, arguments: list[str]) -> None:
    fill(settings, 1)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *arguments], cwd=tmp_path, env=variables({}), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_error(settings: Settings, tmp_path: Path, closed: str) -> None:
    fill(settings, 1)
    script = f'exec "$@" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *PROGRAM, "status", "--json"],
        cwd=tmp_path, env=variables({}), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_an_encoding_that_lacks_a_character_shows_an_escape(settings: Settings, tmp_path: Path) -> None:
    execute(settings, "INSERT INTO documents (bucket, key, status) VALUES (%s, 'é日.txt', 'PENDING')", settings.buckets[0])
    ascii_only: dict[str, str | None] = {"PYTHONIOENCODING": "ascii"}
    assert "\\xe9\\u65e5.txt" in run(tmp_path, ["status"], ascii_only).stdout
    assert json.loads(run(tmp_path, ["status", "--json"], ascii_only).stdout)["key"] == "é日.txt"
    assert "é日.txt" in run(tmp_path, ["status"], {"LC_ALL": "C", "LANG": "C"}).stdout


def test_ctrl_c_ends_quietly(settings: Settings, tmp_path: Path) -> None:
    execute(settings, "INSERT INTO documents (bucket, key, status) VALUES (%s, 'a.txt', 'PENDING')", settings.buckets[0])
    before = sessions(settings)
    with subprocess.Popen(
        [*PROGRAM, "status", "--watch"], cwd=tmp_path, env=variables({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        wait_until(lambda: sessions(settings) > before, 60, "the command asks the database")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"")


def sessions(settings: Settings) -> int:
    with psycopg.connect(settings.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchone()
        assert row is not None
        return int(row[0])


def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    def completed(words: str) -> list[str]:
        asked: dict[str, str | None] = {
            "_LEX_INGEST_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1),
        }  # fmt: skip
        return run(tmp_path, [], asked).stdout.split()

    assert completed("lex-ingest sta") == ["status"]
    assert completed("lex-ingest model sw") == ["switch"]
    assert completed("lex-ingest status --bu") == ["--bucket"]
