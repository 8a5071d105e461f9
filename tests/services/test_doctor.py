"""What ``doctor`` finds in a deployment: each part that refuses, is full, is silent or is busy, with the next step."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from typer.main import get_command

from infra.cli import checks, local_model
from infra.cli.checks import Check
from infra.cli.main import app
from infra.local.folder import Folder
from infra.local.parts import PARTS
from infra.local.stack import Stack
from tests.support.doctor import found
from tests.support.documents import TIDE, put_and_tell
from tests.support.provider import Provider
from tests.support.valkey import start_valkey
from worker.services.extraction import extract_document
from worker.settings import VARIABLES, Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def role(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection that may change the role ``visitor``, whose password is ``visit``."""
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE visitor LOGIN PASSWORD 'visit'")
        try:
            yield connection
        finally:
            connection.execute("DROP ROLE visitor")


def as_visitor(settings: Settings, password: str = "visit", database: str | None = None) -> Settings:
    place = settings.database_url.partition("@")[2]
    if database is not None:
        place = f"{place.partition('/')[0]}/{database}"
    return replace(settings, database_url=f"postgresql://visitor:{password}@{place}")


def test_postgresql_s_refusals_are_told_apart(settings: Settings, role: psycopg.Connection[Any]) -> None:
    assert found("postgres", as_visitor(settings)).ok
    wrong = found("postgres", as_visitor(settings, password="wrong"))
    assert not wrong.ok
    assert "password authentication failed" in wrong.found
    assert wrong.advice == "check the user and the password in DATABASE_URL"
    missing = found("postgres", as_visitor(settings, database="nowhere"))
    assert "does not exist" in missing.found
    assert "create the database" in missing.advice
    role.execute("ALTER ROLE visitor CONNECTION LIMIT 0")
    full = found("postgres", as_visitor(settings))
    assert "too many connections" in full.found
    assert "max_connections" in full.advice
    role.execute("ALTER ROLE visitor CONNECTION LIMIT -1")
    role.execute("ALTER ROLE visitor SET default_transaction_read_only = on")
    frozen = found("postgres", as_visitor(settings))
    assert "takes no writes" in frozen.found
    assert "default_transaction_read_only" in frozen.advice


def test_a_host_that_does_not_exist_and_a_closed_port_are_told_apart(settings: Settings) -> None:
    assert "check the host" in found("postgres", replace(settings, database_url="postgresql://u@nowhere.invalid/d")).advice
    assert "refused" in found("postgres", replace(settings, database_url="postgresql://u@127.0.0.1:1/d")).found


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[redis.Redis]:
    process, port = start_valkey(tmp_path)
    with redis.Redis(port=port) as client:
        yield client
    process.terminate()
    process.wait()


def with_valkey(settings: Settings, client: redis.Redis, password: str = "") -> Settings:
    port = client.connection_pool.connection_kwargs["port"]
    return replace(settings, redis_url=f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0")


def test_a_redis_that_is_full_read_only_or_evicts_is_told_apart(settings: Settings, valkey: redis.Redis) -> None:
    ours = with_valkey(settings, valkey)
    valkey.config_set("maxmemory-policy", "noeviction")
    assert found("redis", ours).ok
    valkey.config_set("maxmemory", "1mb")
    assert "the memory is full" in found("redis", ours).found
    valkey.config_set("maxmemory", "0")
    valkey.config_set("maxmemory-policy", "allkeys-lru")
    assert "eviction policy allkeys-lru" in found("redis", ours).found
    valkey.execute_command("REPLICAOF", "127.0.0.1", "1")
    assert "takes no writes" in found("redis", ours).found
    valkey.execute_command("REPLICAOF", "NO", "ONE")
    assert "password" in found("redis", with_valkey(settings, valkey, "wrong")).advice


def test_a_bucket_that_is_not_there_is_named(settings: Settings) -> None:
    gone = found("bucket", replace(settings, buckets=("no-such-bucket",)))
    assert gone == Check("bucket", False, "there is no bucket no-such-bucket", "create it, or check BUCKET")


def test_a_provider_s_refusal_names_the_variables_of_a_deployment(settings: Settings, provider: Provider) -> None:
    assert found("embeddings", settings).ok
    provider.failures.append((401, "invalid_api_key", {}))
    refused = found("embeddings", settings)
    assert not refused.ok
    assert "check OPENAI_API_KEY and OPENAI_BASE_URL" in refused.advice
    provider.failures.append((404, "model_not_found", {}))
    assert "LEX_INGEST_EMBEDDING_MODEL" in found("embeddings", settings).advice


def test_a_provider_that_fails_is_asked_once(settings: Settings, provider: Provider) -> None:
    provider.failures.extend([(500, "server_error", {})] * 3)
    assert not found("embeddings", settings).ok
    assert len(provider.failures) == 2
    provider.failures.clear()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()[1]


def test_where_every_part_is_silent_each_is_named_and_the_doctor_comes_to_an_end(silent: int, tmp_path: Path) -> None:
    """After 7 seconds by the clock; the rest of the limit here is for a machine that takes long to start a process."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LEX_INGEST_", "AWS_", "OPENAI_"))
    } | {
        "DATABASE_URL": f"postgresql://u@127.0.0.1:{silent}/d", "REDIS_URL": f"redis://127.0.0.1:{silent}/0",
        "BUCKET": "documents", "PYTHONPATH": str(ROOT),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1", "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"http://127.0.0.1:{silent}/v1",
        "QUEUE_URL": f"http://127.0.0.1:{silent}/1/q", "DEAD_LETTER_QUEUE_URL": f"http://127.0.0.1:{silent}/1/d",
    }  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.cli.main", "doctor", "--json"],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=100, check=False,
    )  # fmt: skip
    assert time.monotonic() - began < 60
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert set(rows) == set(checks._CHECKS) - {*checks.LOCAL_CHECKS}
    assert not any(row["ok"] for row in rows.values())
    for name, variable in (("postgres", "DATABASE_URL"), ("redis", "REDIS_URL")):
        assert "within" in rows[name]["found"]
        assert variable in rows[name]["advice"] or "again" in rows[name]["advice"]


def test_a_check_that_never_ends_is_cut_and_the_others_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(checks, "ALL", 0.5)
    monkeypatch.setattr(checks, "QUESTION", 0.1)
    monkeypatch.setattr(checks, "_CHECKS", {"bucket": lambda _: over.wait() or None, "events": checks._events})
    first, second = checks.run_checks(settings)
    over.set()
    assert (first.name, first.ok, first.found) == ("bucket", False, "no answer within 0.5 s")
    assert second.name == "events"


def test_a_busy_machine_is_not_taken_for_a_silent_part(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(checks, "ALL", 0.5)
    monkeypatch.setattr(checks, "_CHECKS", {"bucket": lambda _: over.wait() or None})
    (short,) = checks.run_checks(settings)  # less than one question may take
    monkeypatch.setattr(checks, "QUESTION", 0.1)
    with checks._IMPORTS:
        (importing,) = checks.run_checks(settings)
    (silent,) = checks.run_checks(settings)
    over.set()
    assert [short.ok, importing.ok, silent.ok] == [False, False, False]
    assert "too busy" in short.found
    assert "too busy" in importing.found
    assert silent.found == "no answer within 0.5 s"


def test_a_finding_comes_as_soon_as_it_is_there(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    slow = {"redis": lambda _: Check("redis", True, "here"), "bucket": lambda _: over.wait() and Check("bucket", True, "late")}
    monkeypatch.setattr(checks, "_CHECKS", slow)
    monkeypatch.setattr(checks, "ALL", 100.0)
    findings = checks.run_checks(settings)
    assert next(findings).found == "here"
    over.set()
    assert next(findings).found == "late"


@pytest.fixture
def local(settings: Settings, tmp_path: Path) -> Iterator[tuple[Settings, Stack]]:
    """The services of the tests as if they were a local stack with the local model."""
    folder = Folder(tmp_path, environment={"DATABASE_URL": settings.database_url}, parts=list(PARTS))
    folder.save()
    (tmp_path / "run").mkdir()
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("UPDATE embedding_profiles SET provider = 'local' WHERE serving")
        try:
            yield (
                replace(settings, embedding_provider="local", openai_api_key="lex-local-key"),
                Stack(tmp_path, folder.environment, tuple(PARTS)),
            )
        finally:
            connection.execute("UPDATE embedding_profiles SET provider = 'test' WHERE serving")


def test_the_disk_of_the_data_folder_is_looked_at(local: tuple[Settings, Stack], monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("disk", *local).ok
    monkeypatch.setattr(checks, "LOW_SPACE", shutil.disk_usage(local[1].data_dir).total * 2)
    full = found("disk", *local)
    assert not full.ok
    assert re.match(r"only [0-9,]+ MB free on the disk of /", full.found)
    assert "free some space" in full.advice


@contextlib.contextmanager
def model_server(body: Any, status: int = 200) -> Iterator[str]:
    """A server whose ``/v1/status`` gives that body, and whose every other answer is 500. Gives its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = json.dumps(body).encode()
            self.send_response(status if self.path == "/v1/status" else 500)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def test_a_busy_local_model_is_named_with_its_speed_and_what_is_to_go(local: tuple[Settings, Stack]) -> None:
    settings, stack = local
    with model_server({"texts_per_second": 3.14, "waiting_texts": 181}) as url:
        busy = found("embeddings", replace(settings, openai_base_url=url), stack)
        assert busy.ok
        assert busy.found.endswith("the local model is busy: 3.1 chunks/s, 181 to go")
        # What the database knows is more exact than what the server has before it.
        extract_document(put_and_tell(settings, "a.txt", TIDE), settings)
        assert found("embeddings", replace(settings, openai_base_url=url), stack).found.endswith("busy: 3.1 chunks/s, 1 to go")
        assert "1 chunk to embed" in found("documents", replace(settings, openai_base_url=url), stack).found


def test_an_idle_local_model_is_idle_and_one_that_fails_names_no_variable(local: tuple[Settings, Stack]) -> None:
    settings, stack = local
    with model_server({"texts_per_second": 0.0, "waiting_texts": 0}) as url:
        assert found("embeddings", replace(settings, openai_base_url=url), stack).found.endswith("the local model is idle")
    with model_server({"what": "an older server"}) as url:
        failed = found("embeddings", replace(settings, openai_base_url=url), stack)
    assert not failed.ok
    assert failed.found.startswith("the local model does not answer")
    away = found("embeddings", replace(settings, openai_base_url="http://127.0.0.1:1/v1"), stack)
    assert away.found == "the local model can't be reached"
    for check in (failed, away):
        assert "lex-ingest ps" in check.advice
        assert not re.search(r"OPENAI|LEX_INGEST|_URL", check.found + check.advice)


@pytest.mark.parametrize(
    "body", [{}, [], None, {"texts_per_second": 1.5, "waiting_texts": "many"}, {"texts_per_second": 1.5, "waiting_texts": -1}]
)
def test_a_server_that_does_not_say_its_load_has_none(settings: Settings, body: Any) -> None:
    with model_server(body) as url:
        assert local_model.load(replace(settings, embedding_provider="local", openai_base_url=url)) is None
    assert local_model.load(replace(settings, embedding_provider="openai")) is None


def test_a_closed_gate_of_the_local_model_names_no_key(local: tuple[Settings, Stack]) -> None:
    settings, stack = local
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO gates (name, closed_until, code, reason) VALUES"
            " ('embedding', now() + interval '1 hour', 'provider_key', 'the provider refuses OPENAI_API_KEY (HTTP 401)')"
        )
    assert "OPENAI_API_KEY" in found("documents", settings).found
    here = found("documents", settings, stack)
    assert "OPENAI_API_KEY" not in here.found + here.advice
    assert "the local model" in here.found


def test_each_command_option_and_variable_in_the_doctor_s_words_exists() -> None:
    source = Path(checks.__file__).read_text()
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # a click group
    named = re.findall(r"""\.command\(["']([^"']+)["']\)""", source)
    assert {"ps", "doctor", "migrate", "put", "cost", "model add", "status --status FAILED"} <= set(named)
    # No command is named without what it needs to reach the same stack.
    assert not re.findall(r"lex-ingest (?!\{command)[a-z]", source.partition("@dataclass")[2])
    for name in named:
        command, words = commands[name.split()[0]], name.split()[1:]
        while words and words[0] in getattr(command, "commands", {}):
            command, words = command.commands[words[0]], words[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} | {"--data-dir"} <= options, name
    others = {"AWS_ENDPOINT_URL", "QUEUE_URL", "DEAD_LETTER_QUEUE_URL"}
    variables = set(re.findall(r"\b(?:[A-Z]+_)+(?:URL|KEY|MODEL|DIMENSIONS|PROVIDERS|DAY)\b", source))
    assert variables <= set(VARIABLES) | others
    parts = set(re.findall(r"""\.(?:advice|stopped)\(\s*["']([a-z]+)["']""", source))
    assert {"postgres", "valkey", "aws", "embeddings", "events"} <= parts <= set(PARTS)
