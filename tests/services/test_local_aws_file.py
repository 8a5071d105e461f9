"""The file of the local S3 and SQS: rows that can't be loaded are set aside, and a request that hangs ends with the process."""

from __future__ import annotations

import inspect
import json
import pickle
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import moto.s3.models
import moto.s3.notifications
import moto.sqs.models
import pytest
from botocore.exceptions import ClientError
from moto.moto_server import werkzeug_app

from infra.local.folder import Folder
from infra.local.stack import Stack
from tests.support.local_aws import BUCKET, aws_stack, client

ROOT = Path(__file__).parents[2]
KEYS = {"LEX_LOCAL_AWS_KEYS": "LXIATEST:secret"}


def rows(file: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as database:
        return database.execute(statement).fetchall()


def test_rows_that_do_not_fit_together_are_set_aside_and_the_rest_is_served(tmp_path: Path) -> None:
    file = tmp_path / "aws.sqlite"
    with aws_stack(tmp_path) as stack, client(stack, "s3") as s3:
        s3.create_bucket(Bucket="lost")
        s3.put_object(Bucket="lost", Key="orphan", Body=b"text of a document")
        for key in ("sound", "damaged"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM state WHERE kind = 'bucket' AND name = ?", (json.dumps(["bucket", "lost"]),))
        database.execute("DELETE FROM state WHERE kind = 'queue' AND name LIKE '%-dead%'")
        database.execute("UPDATE state SET body = substr(body, 1, 40) WHERE name LIKE '%\"damaged\"%'")
        rogue: list[tuple[str, str, bytes]] = [
            ("message", json.dumps(["message", "no-such-queue", "1"]), pickle.dumps("no message")),
            ("version", "not JSON", pickle.dumps(("a", "b"))),
            ("version", json.dumps(["version"]), b""),
            ("version", json.dumps(["version", BUCKET, "k", "null"]), pickle.dumps(None)),
            ("version", json.dumps(["version", BUCKET, "k2", "null"]), pickle.dumps(("no version", {}))),
            ("bucket", json.dumps(["bucket", "c"]), pickle.dumps(("no bucket", {}))),
            ("message", json.dumps(["message", "lex-ingest-events", "2"]), pickle.dumps("no message")),
            ("queue", json.dumps(["queue", "bad queue"]), pickle.dumps({"DelaySeconds": []})),
            ("bucket", json.dumps(["bucket", "b"]), b"\x80\x04cno.such.module\nThing\n."),
        ]
        database.executemany("INSERT INTO state (kind, name, body) VALUES (?, ?, ?)", rogue)

    for _ in range(2):
        with aws_stack(tmp_path) as stack, client(stack, "s3") as s3, client(stack, "sqs") as sqs:
            assert s3.get_object(Bucket=BUCKET, Key="sound")["Body"].read() == b"x"
            assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["sound"]
            assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [BUCKET]
            assert len(sqs.list_queues()["QueueUrls"]) == 2
            s3.create_bucket(Bucket="lost")
            s3.delete_bucket(Bucket="lost")

    found = rows(file, "SELECT name, body, reason FROM unreadable")
    assert len(found) == len({name for name, _, _ in found}) == 12
    orphan = next(body for name, body, _ in found if '"orphan"' in name)
    assert b"text of a document" in orphan
    assert all(reason for _, _, reason in found)
    log = Folder.load(tmp_path).log("aws").read_text()
    assert all(name in log for name, _, _ in found)


def test_a_file_that_others_may_have_written_is_not_loaded(tmp_path: Path) -> None:
    file = tmp_path / "aws.sqlite"
    file.touch(mode=0o600)
    for mode in (0o620, 0o602):
        file.chmod(mode)
        done = run("server.main()", tmp_path, port=1)
        assert done.returncode == 1
        assert f"chmod 600 {file}" in done.stderr
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert run("server.main()", tmp_path, port=1).returncode == 1
    assert not (tmp_path / "elsewhere").exists()


def run(code: str, folder: Path, port: int, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(code, folder, port, *options), env=KEYS, capture_output=True, text=True, check=False, timeout=100
    )


def command(code: str, folder: Path, port: int, *options: str) -> list[str]:
    preamble = "import sys, time; from infra.local.aws import server, persistence; import moto.s3.models as s3\n"
    arguments = ["--port", str(port), "--store", str(folder / "aws.sqlite"), *options]
    return [sys.executable, "-c", f"{preamble}sys.path.insert(0, {str(ROOT)!r})\n{textwrap.dedent(code)}", *arguments]


@contextmanager
def server(code: str, folder: Path, *options: str) -> Iterator[tuple[Stack, subprocess.Popen[bytes]]]:
    """The API alone, with a fault in it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key, secret = KEYS["LEX_LOCAL_AWS_KEYS"].split(":")
    environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    arguments = command(code, folder, port, *options)
    with (
        (folder / "log").open("ab") as log,
        subprocess.Popen(arguments, env=KEYS, stdout=subprocess.PIPE, stderr=log, cwd=ROOT) as run,
    ):
        try:
            deadline = time.monotonic() + 60
            while run.poll() is None and time.monotonic() < deadline:
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield Stack(folder, environment, ("aws",)), run
        finally:
            run.kill()


# Each stands for something in moto that does not come back: it waits, or it keeps the interpreter to itself.
HANGS = {
    "waits": "s3.S3Backend.list_buckets = lambda *a, **k: time.sleep(1000)",
    "computes": "import re; s3.S3Backend.list_buckets = lambda *a, **k: re.match(r'(a|a)*$', 'a' * 64 + 'b')",
}


@pytest.mark.parametrize("hang", HANGS)
def test_a_request_that_hangs_ends_the_process_and_the_file_has_what_was_answered(tmp_path: Path, hang: str) -> None:
    with server(f"{HANGS[hang]}\nserver.main()", tmp_path, "--wait", "60", "--hold", "3") as (stack, process):
        with client(stack, "s3", attempts=1, read_timeout=100) as s3:
            s3.create_bucket(Bucket=BUCKET)
            s3.put_object(Bucket=BUCKET, Key="k", Body=b"answered")
            with pytest.raises(Exception, match=r"(?i)connection|closed"):
                s3.list_buckets()
        assert process.wait(60) == 1
    log = (tmp_path / "log").read_text()
    assert "Timeout (0:00:03)!" in log
    assert "in <lambda>" in log.partition("Timeout")[2]  # what each thread was doing
    with server("server.main()", tmp_path) as (stack, _), client(stack, "s3") as s3:
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"answered"


def test_a_request_that_waits_too_long_for_others_is_asked_to_come_again(tmp_path: Path) -> None:
    hanging = "s3.S3Backend.list_buckets = lambda *a, **k: print('hangs', flush=True) or time.sleep(1000)\nserver.main()"
    with (
        server(hanging, tmp_path, "--wait", "0.2", "--hold", "100") as (stack, process),
        client(stack, "s3", attempts=1, read_timeout=100) as s3,
        client(stack, "sqs", attempts=1) as sqs,
        ThreadPoolExecutor() as pool,
    ):
        s3.create_bucket(Bucket=BUCKET)
        first = pool.submit(s3.list_buckets)
        assert process.stdout is not None
        assert process.stdout.readline() == b"hangs\n"
        with pytest.raises(ClientError, match="SlowDown") as found:
            s3.list_objects_v2(Bucket=BUCKET)
        assert found.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        with pytest.raises(ClientError, match="RequestThrottled"):
            sqs.list_queues()
        process.kill()
        assert first.exception() is not None


def test_long_polls_hold_nobody_up_and_are_not_taken_for_hanging(tmp_path: Path) -> None:
    with (
        server("server.main()", tmp_path, "--wait", "60", "--hold", "2") as (stack, process),
        client(stack, "sqs", read_timeout=100) as sqs,
        ThreadPoolExecutor() as pool,
    ):
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        polls = [pool.submit(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=6) for _ in range(3)]
        while not all(poll.done() for poll in polls):
            sqs.list_queues()
        assert all("Messages" not in poll.result() for poll in polls)
        assert process.poll() is None


def test_a_full_disk_refuses_writes_and_serves_reads(tmp_path: Path) -> None:
    full = "persistence.shutil.disk_usage = lambda path: type('Usage', (), {'free': 1000})"
    with server("server.main()", tmp_path) as (stack, _), client(stack, "s3") as s3:
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    with server(f"{full}\nserver.main()", tmp_path) as (stack, _), client(stack, "s3", attempts=1) as s3:
        with pytest.raises(ClientError, match="disk of the data folder is full") as found:
            s3.put_object(Bucket=BUCKET, Key="new", Body=b"x")
        assert found.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"x"
        assert len(s3.list_objects_v2(Bucket=BUCKET)["Contents"]) == 1


def test_the_process_calls_nobody_and_starts_nothing(tmp_path: Path) -> None:
    code = """
        import socket, subprocess, requests
        from infra.local.aws.corrections import forbid_outgoing_calls
        forbid_outgoing_calls()
        for call in (
            lambda: requests.post("http://127.0.0.1:9/"),
            lambda: socket.create_connection(("127.0.0.1", 9)),
            lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 9)),
            lambda: socket.getaddrinfo("evil.example", 80),
            lambda: subprocess.run(["true"]),
        ):
            try:
                call()
            except OSError as error:  # urllib3 wraps it
                print(error)
    """
    done = subprocess.run(command(code, tmp_path, 1), capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.count("makes no outgoing calls") == 5


def test_the_process_hides_its_memory_before_it_has_the_keys(tmp_path: Path) -> None:
    code = """
        from worker import process
        hide, process.hide_memory = process.hide_memory, lambda: hide() or print(server.KEYS in server.os.environ, flush=True)
        server.main()
    """
    with server(code, tmp_path) as (_, run):
        assert run.stdout is not None
        assert run.stdout.readline() == b"True\n"


# --- What of moto is replaced ----------------------------------------------------------------------------------------------


def test_moto_is_pinned_to_the_release_that_the_lock_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = [name for name in project["optional-dependencies"]["local"] if name.startswith("moto")]
    locked = (ROOT / "infra" / "requirements" / "dev.txt").read_text()
    assert wanted.endswith(f"]=={version('moto')}")
    assert f"moto=={version('moto')} " in locked


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (moto.s3.notifications.send_event, ["account_id", "event_name", "bucket", "key"]),
        (moto.s3.notifications._get_s3_event, ["event_name", "bucket", "key", "notification_id"]),
        (moto.s3.models.S3Backend.delete_object, ["self", "bucket_name", "key_name", "version_id", "bypass"]),
        (moto.sqs.models.Queue.wait_for_messages, ["self", "timeout"]),
        (moto.sqs.models.Queue.add_message, ["self", "message"]),
        (moto.s3.models._VersionedKeyStore.setlist, ["self", "key", "list_"]),
        (moto.s3.models._VersionedKeyStore.pop, ["self", "key"]),
        (werkzeug_app.create_backend_app, ["service"]),
        (werkzeug_app.MotoRequestHandler.make_environ, ["self"]),
    ],
)
def test_what_is_replaced_or_relied_on_in_moto_has_the_form_that_we_know(
    function: Callable[..., Any], parameters: list[str]
) -> None:
    assert list(inspect.signature(function).parameters) == parameters


def test_the_names_that_are_set_in_moto_are_there() -> None:
    assert werkzeug_app.RegexConverter
    assert werkzeug_app.DISABLE_GLOBAL_CORS is False
    assert werkzeug_app.BackendRequest.want_form_data_parsed
    assert not hasattr(moto.s3.models.FakeDeleteMarker, "etag")
    queue = moto.sqs.models.Queue("q", "us-east-1", "1")
    assert queue._messages == []
