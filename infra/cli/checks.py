"""What ``doctor`` checks. Each check finds one thing and, if that is wrong, says the next step.

The checks run at the same time, each in a thread, and each question to a part has its own time limit: a part that is frozen
delays only the checks that depend on it. The advice fits the system: a user of the local stack has set neither ``DATABASE_URL``
nor a provider's key, so the advice names the stack's parts and their logs; in a deployment it names the variables.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from infra.cli import local_model
from infra.cli.connection import is_of
from infra.cli.local_model import LocalModelLoad
from infra.local import health
from infra.local.child import KEEPER, SUPERVISOR
from infra.local.folder import ENOUGH_FILES, Folder, disk_space
from infra.local.health import in_thread, reason_of
from infra.local.parts import WORKERS
from worker.contract import LOCAL_PROVIDER, QUEUES, Stage
from worker.domain.plurals import plural
from worker.settings import Settings, SettingsError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from infra.local.stack import Stack
    from worker.domain.errors import IngestError
    from worker.store.profiles import Profile

# Seconds: for one question to a part, and for all checks together. On a busy machine the process needs three more seconds to
# start and to end, and ``doctor`` promises an answer within ten.
QUESTION, ALL = 2.5, 7.0
# Bytes on the disk of the data folder below which PostgreSQL, Valkey and the logs are about to fail.
LOW_SPACE = 256_000_000
_WAITS = "documents wait meanwhile, and none is lost"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``advice`` is the next step; empty where there is none to take."""

    name: str
    ok: bool
    found: str
    advice: str = ""


class Unusable(Exception):
    """A part can't be used, so the checks that depend on it are skipped."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found, self.advice = found, advice


class System:
    """What is checked: a deployment, or the local stack in a folder.

    ``option`` is the option that makes a command talk to the same stack, with a leading space: `` --data-dir D``, or "".
    ``folder`` is None for a deployment. ``queued`` is the number of messages in the queues, None until Redis has said it.
    """

    def __init__(self, settings: Settings, stack: Stack | None, option: str) -> None:
        self.settings, self.option = settings, option
        self.folder = Folder.load(stack.data_dir) if stack is not None and is_of(stack, settings) else None
        self.queued: int | None = None
        # Per check: the moment at which it began to ask its part.
        self.asked: dict[str, float] = {}
        self.load: Future[LocalModelLoad | None] = in_thread(lambda: local_model.load(settings))

    def command(self, command: str) -> str:
        return f"`lex-ingest {command}{self.option}`"

    def advice(self, part: str, deployment: str) -> str:
        """What to do about a part that does not answer: the local stack's log to read, or ``deployment`` in a deployment."""
        if self.folder is None:
            return deployment
        return (
            f"see {self.command('ps')} and {shlex.quote(str(self.folder.log(part)))}; a part that ends is restarted automatically"
        )

    def stopped(self, part: str) -> str:
        """Say that the part of the local stack is stopped by a signal, and how to continue it; "" if it is not."""
        return health.stopped(self.folder, part) if self.folder is not None else ""

    def is_local_model(self, provider: str | None = None) -> bool:
        return self.folder is not None and (provider or self.settings.embedding_provider) == LOCAL_PROVIDER


def run_checks(settings: Settings, stack: Stack | None = None, option: str = "") -> Iterator[Check]:
    """Run every check. Yields the findings in a fixed order, each as soon as it is known, all within ``ALL`` seconds."""
    system, end = System(settings, stack, option), time.monotonic() + ALL
    running: dict[str, Future[tuple[Check, bool]]] = {}
    checks = {name: check for name, check in _CHECKS.items() if name not in LOCAL_CHECKS or system.folder is not None}
    for name, check in checks.items():
        running[name] = in_thread(partial(_run, system, name, check, running))
    for name in checks:
        try:
            found, _ = running[name].result(max(0.0, end - time.monotonic()))
        except TimeoutError:
            found = _unfinished(system, name)
        yield found


def _unfinished(system: System, name: str) -> Check:
    """The finding of a check that did not end in time: the part is silent, or this machine was too busy to ask it."""
    waited = time.monotonic() - system.asked.get(name, math.inf)
    if waited < QUESTION or _IMPORTS.locked():
        found = f"not checked within {ALL:g} s: this machine is too busy"
        return Check(name, False, found, f"run {system.command('doctor')} again when less runs here")
    advice = f"run {system.command('doctor')} again, and see the log of that part"
    return Check(name, False, f"no answer within {ALL:g} s", advice)


def _run(
    system: System, name: str, check: Callable[[System], Check], running: Mapping[str, Future[tuple[Check, bool]]]
) -> tuple[Check, bool]:
    """Run one check. Returns its finding, and whether the checks that depend on it can run."""
    for part in _AFTER.get(name, ()):
        running[part].result()
    for need in _NEEDS.get(name, ()):
        if not running[need].result()[1]:
            return Check(name, False, f"not checked: {need} must answer first"), False
    system.asked[name] = time.monotonic()
    try:
        return check(system), True
    except Unusable as error:
        return Check(name, False, error.found, error.advice), False
    except SettingsError as error:
        return Check(name, False, str(error), f"set it, and run {system.command('doctor')} again"), False
    except Exception as error:  # noqa: BLE001 - an unexpected error is the finding of this check, and the other checks go on
        found, advice = reason_of(error), f"try again with {system.command('doctor')}, and see the log of the workers"
        if type(error).__name__ == "ProgrammingError":
            advice = f"run {system.command('migrate')}"
        if "statement timeout" in found:
            advice = "a lock or a long query holds the database up: look at pg_stat_activity"
        return Check(name, False, found, advice), False


# Checks that a check waits for. One in ``_NEEDS`` must also have found its part usable; one in ``_AFTER`` may fail: the check of
# the documents reads the queue lengths that the check of Redis found, if it found them.
_AFTER = {"documents": ("redis",)}
_NEEDS = {
    "schema": ("postgres",),
    "workers": ("redis",),
    "embeddings": ("postgres", "schema"),
    "budget": ("postgres", "schema"),
    "documents": ("postgres", "schema"),
}
# Two threads that import the same packages at once may see half of one.
_IMPORTS = threading.Lock()


def _disk(system: System) -> Check:
    assert system.folder is not None
    path = system.folder.path
    space = disk_space(path)
    advice = "free some space there; documents wait meanwhile and none is lost, and the stack resumes automatically"
    if space.files is not None and space.files < ENOUGH_FILES:
        return Check("disk", False, f"the disk of {path} has {space}", advice)
    found = f"{space.bytes / 1_000_000:,.0f} MB free on the disk of {path}"
    return Check("disk", True, found) if space.bytes >= LOW_SPACE else Check("disk", False, f"only {found}", advice)


def _supervisor(system: System) -> Check:
    assert system.folder is not None
    for name in (KEEPER, SUPERVISOR):
        if reason := health.stopped(system.folder, name):
            raise Unusable(f"{name} {reason}", "until then no part that ends is started again")
    return Check("supervisor", True, "a part that ends is started again")


# What PostgreSQL says when it refuses a connection, and what to do about that in a deployment.
_REFUSALS = {
    r"password authentication failed|role .* does not exist|pg_hba\.conf|no password supplied": (
        "check the user and the password in DATABASE_URL"
    ),
    r"database .* does not exist": "create the database, or check its name in DATABASE_URL",
    r"too many clients|remaining connection slots|too many connections": (
        "end some of its clients, or raise max_connections: each process that embeds keeps up to 12 connections"
    ),
    r"starting up|recovery|shutting down": "wait until PostgreSQL has started or recovered; its log says how far it is",
    r"could not translate|name resolution|Name or service|getaddrinfo|resolve host": "check the host in DATABASE_URL",
}


def _postgres(system: System) -> Check:
    with _IMPORTS:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        from worker.store.driver import KEEPALIVES
    url = system.settings.require("database_url").database_url
    default = "check DATABASE_URL, and that PostgreSQL runs and can be reached from here"
    try:
        given = conninfo_to_dict(url).get("options") or ""
        with psycopg.connect(
            url,
            autocommit=True,
            options=f"{given} -c statement_timeout={QUESTION:g}s".strip(),
            **{**KEEPALIVES, "connect_timeout": int(QUESTION)},
        ) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version'), pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',"
                " (SELECT extversion FROM pg_extension WHERE extname = 'vector')"
            ).fetchone()
    except psycopg.Error as error:
        found = system.stopped("postgres") or _postgres_reason(error)
        advice = next((advice for pattern, advice in _REFUSALS.items() if re.search(pattern, found)), default)
        # The advice about too many connections also holds for a local stack.
        raise Unusable(found, advice if "max_connections" in advice else system.advice("postgres", advice)) from None
    assert row is not None
    version, recovers, is_read_only, vector = row
    if recovers:
        raise Unusable(f"PostgreSQL {version} is in recovery: it takes no writes", "name the primary server in DATABASE_URL")
    if is_read_only:
        advice = "set default_transaction_read_only to off for this user and this database"
        raise Unusable(f"PostgreSQL {version} takes no writes: transactions are read-only", advice)
    if vector is None:
        return Check("postgres", False, f"PostgreSQL {version} without pgvector", f"run {system.command('migrate')}")
    recent = tuple(int(part) for part in str(vector).split(".")[:2]) >= (0, 8)
    advice = "" if recent else "update pgvector to 0.8 or newer: filters lose hits without its iterative scan"
    return Check("postgres", recent, f"PostgreSQL {version}, pgvector {vector}", advice)


def _postgres_reason(error: Exception) -> str:
    """Why there is no connection, without the addresses that libpq tried."""
    said = reason_of(error)
    return re.sub(r"^connection failed: |connection to server [^:]*? failed: |FATAL: +", "", said)


@contextmanager
def _connection(system: System) -> Iterator[Connection]:
    """A connection on which PostgreSQL cancels a statement after ``QUESTION`` seconds."""
    with _IMPORTS:
        from sqlalchemy import text

        from worker.store.session import engine
    with engine(system.settings.database_url).connect() as connection:
        connection.execute(text(f"SET statement_timeout = '{QUESTION:g}s'"))
        yield connection


def _schema(system: System) -> Check:
    with _IMPORTS:
        from worker.services import migration
        from worker.store import profiles
    settings, migrate = system.settings, f"run {system.command('migrate')}"
    state = migration.state(settings)
    if not state.up_to_date:
        raise Unusable(f"at {state.current or 'empty'}, this code wants {state.head}", migrate)
    with _connection(system) as connection:
        profile = profiles.serving(connection)
    if profile is None:
        raise Unusable("no table for vectors", migrate)
    named = (settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions)
    advice = ""
    if (profile.provider, profile.model, profile.dimensions) != named:
        change = f"{system.command('model add')} and {system.command('model switch')} change what serves"
        advice = f"the settings name {settings.embedding_model}: {change}"
    return Check("schema", True, f"at {state.current}, {profile.name} serves from {profile.table}", advice)


def _redis(system: System) -> Check:
    with _IMPORTS:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    url = system.settings.require("redis_url").redis_url
    memory: Any = {}
    try:
        with redis.Redis.from_url(
            url, socket_timeout=QUESTION, socket_connect_timeout=QUESTION, retry=Retry(NoBackoff(), 0)
        ) as client:
            memory = client.info("memory")
            # A server that is full, read-only or can't write to its disk still answers reads, so try a write.
            client.set("lex-ingest:doctor", "", px=1000)
            lengths = {name: client.llen(name) for name in QUEUES.values()}
    except redis.exceptions.OutOfMemoryError:
        found = (
            f"the memory is full: {memory['used_memory']:,} of maxmemory {memory['maxmemory']:,} bytes; no wake-up can be sent"
        )
        raise Unusable(found, f"raise maxmemory, or remove other keys from this Redis; {_WAITS}") from None
    except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise Unusable(reason_of(error), system.advice("valkey", "check the user and the password in REDIS_URL")) from None
    except redis.exceptions.ReadOnlyError:
        raise Unusable("it is a replica, which takes no writes", "name the primary server in REDIS_URL") from None
    except redis.exceptions.BusyLoadingError:
        raise Unusable("it is loading its data", f"wait until it has; {_WAITS}") from None
    except redis.exceptions.ResponseError as error:
        advice = "see its log: it refuses writes; often its disk is full"
        raise Unusable(reason_of(error), f"{system.advice('valkey', advice)}; {_WAITS}") from None
    except (redis.RedisError, OSError) as error:
        found = system.stopped("valkey") or reason_of(error)
        advice = "check REDIS_URL, and that Redis runs and can be reached from here"
        raise Unusable(found, f"{system.advice('valkey', advice)}; {_WAITS}") from None
    system.queued = sum(int(length) for length in lengths.values())
    policy, queues = memory.get("maxmemory_policy"), ", ".join(f"{name} {length}" for name, length in lengths.items())
    if policy != "noeviction":
        return Check("redis", False, f"eviction policy {policy}", "set maxmemory-policy to noeviction: any other drops tasks")
    return Check("redis", True, f"noeviction; {queues}")


_START_WORKER = "start one with `celery -A worker.celery_app worker`, or see the log of the one that should run"


def _workers(system: System) -> Check:
    with _IMPORTS:
        from celery import Celery

        from worker.producer import tls_options
    for part in WORKERS:
        if reason := system.stopped(part):
            raise Unusable(f"{part} {reason}", _WAITS)
    expected = None if system.folder is None else sum(part in system.folder.parts for part in WORKERS)
    with Celery(broker=system.settings.redis_url, set_as_current=False) as application:
        application.conf.broker_use_ssl = tls_options(system.settings.redis_url)
        application.conf.broker_transport_options = {
            "socket_timeout": QUESTION,
            "socket_connect_timeout": QUESTION,
            "max_retries": 0,
        }
        active = application.control.inspect(timeout=QUESTION, limit=expected or None).active_queues() or {}
    consumed = {queue["name"] for queues in active.values() for queue in queues}
    unread = sorted(set(QUEUES.values()) - consumed)
    if not unread:
        return Check("workers", True, f"{len(active)} ({', '.join(sorted(active))})")
    answered = f"{len(active)} answer{'s' if len(active) == 1 else ''} within {QUESTION:g} s"
    part = "embedder" if unread == [QUEUES[Stage.EMBED]] else "worker"
    return Check("workers", False, f"{answered}; none consumes {', '.join(unread)}", system.advice(part, _START_WORKER))


def _client(service: Any) -> Any:
    """A boto3 client that sends each request once and waits at most ``QUESTION`` seconds for the answer."""
    with _IMPORTS:
        import boto3
        from botocore.config import Config

        timeouts = Config(connect_timeout=QUESTION, read_timeout=QUESTION, retries={"total_max_attempts": 1})
        return boto3.client(service, config=timeouts)


def _aws_trouble(system: System, error: Exception, what: str, advice: str) -> Unusable:
    """Turn boto3's error into a finding.

    Args:
        what: the service that was asked, as a person calls it.
        advice: what to do about a refusal in a deployment.
    """
    if type(error).__name__ in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"):
        found = (
            f"{what} does not answer within {QUESTION:g} s" if "Timeout" in type(error).__name__ else f"{what} can't be reached"
        )
        reached = "check AWS_ENDPOINT_URL if it is set, the region and the network"
        return Unusable(system.stopped("aws") or found, system.advice("aws", reached))
    return Unusable(reason_of(error), system.advice("aws", advice))


def _bucket(system: System) -> Check:
    buckets = system.settings.require("buckets").buckets
    client = _client("s3")
    for bucket in buckets:
        try:
            client.head_bucket(Bucket=bucket)
        except Exception as error:  # noqa: BLE001 - boto3's errors share no base, and each is a finding
            answer = (getattr(error, "response", None) or {}).get("Error", {}).get("Code", "")
            if answer in ("404", "NoSuchBucket"):
                raise Unusable(f"there is no bucket {bucket}", system.advice("aws", "create it, or check BUCKET")) from None
            if answer in ("403", "AccessDenied"):
                advice = "give this role s3:ListBucket on the bucket, or check BUCKET and the credentials"
                raise Unusable(f"access to {bucket} is denied", system.advice("aws", advice)) from None
            raise _aws_trouble(system, error, "S3", "check BUCKET, the region and the credentials") from None
    return Check("bucket", True, ", ".join(buckets))


def _events(system: System) -> Check:
    # Not a setting of the workers: only the local stack and a deployment know where the events wait.
    urls = {name: os.environ.get(name) for name in ("QUEUE_URL", "DEAD_LETTER_QUEUE_URL")}
    if not all(urls.values()):
        return Check("events", True, "not checked: QUEUE_URL and DEAD_LETTER_QUEUE_URL are not set")
    if reason := system.stopped("events"):
        raise Unusable(f"events {reason}", "events wait in their queue meanwhile, and none is lost")
    client, names = _client("sqs"), ["ApproximateNumberOfMessages"]
    try:
        waiting, dead = (
            int(client.get_queue_attributes(QueueUrl=str(url), AttributeNames=names)["Attributes"][names[0]])
            for url in urls.values()
        )
    except Exception as error:  # noqa: BLE001 - as for the bucket
        raise _aws_trouble(system, error, "SQS", "check QUEUE_URL, DEAD_LETTER_QUEUE_URL and the credentials") from None
    again = f"{system.command('put')} or {system.command('replay')}"
    advice = f"look at the dead letters and the handler's log; then {again} the keys that they name"
    return Check(
        "events", dead == 0, f"{plural(waiting, 'event')} waiting, {plural(dead, 'dead letter')}", advice if dead else ""
    )


# The variables that may be the cause of a provider error, by the error's code.
_CAUSES = {
    "provider_key": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "provider_model": ("LEX_INGEST_EMBEDDING_MODEL", "OPENAI_BASE_URL"),
    "provider_dimensions": ("LEX_INGEST_EMBEDDING_DIMENSIONS", "LEX_INGEST_EMBEDDING_MODEL"),
    "provider_unreachable": ("OPENAI_BASE_URL",),
    "provider_unavailable": ("OPENAI_BASE_URL",),
}


def _embeddings(system: System) -> Check:
    with _IMPORTS:
        from worker.store import profiles
    with _connection(system) as connection:
        profile = profiles.serving(connection)
        assert profile is not None  # else the check of the schema would have failed, and this one needs it
        to_go = _chunks_to_go(connection, profile)
    usual = f"{profile.model}, {profile.dimensions} dimensions"
    if system.is_local_model(profile.provider) and (reason := system.stopped("embeddings")):
        raise Unusable(f"the local model {reason}", _WAITS)
    if profile.provider == LOCAL_PROVIDER and (load := system.load.result()) is not None:
        return Check("embeddings", True, f"{usual}: {load.sentence(to_go or None) or 'the local model is idle'}")
    trouble = _ask_provider(system, profile)
    if trouble is None:
        return Check("embeddings", True, usual)
    if not system.is_local_model(profile.provider):
        raise Unusable(str(trouble), _provider_advice(system, profile, trouble.code))
    found = {
        "provider_unreachable": "the local model can't be reached",
        "provider_unavailable": f"the local model does not answer within {QUESTION:g} s",
    }.get(trouble.code, f"the local model refuses the request ({trouble.code})")
    busy = f": it is stuck, or busy with {plural(to_go, 'chunk')}" if to_go else ""
    raise Unusable(found + busy, system.advice("embeddings", ""))


def _ask_provider(system: System, profile: Profile) -> IngestError | None:
    """Have one short text embedded, which costs a few tokens. Returns the error, or None if the provider answers."""
    with _IMPORTS:
        from worker.domain.errors import IngestError
        from worker.domain.spending import Purpose
        from worker.services.asking import Asking, Bill, Patience
        from worker.store.session import transaction
    system.asked["embeddings"] = time.monotonic()
    settings = replace(system.settings, embedding_timeout=min(QUESTION, system.settings.embedding_timeout))
    # Send one request and do not repeat it: each repeat would take time, and may be billed.
    bill = Bill(Asking(profile, settings, Patience(QUESTION, 1)), [None], Purpose.CHECK)
    try:
        bill.ask(["Is the provider there?"], [0])
    except IngestError as error:
        return error
    with transaction(settings.database_url) as connection:
        bill.commit(connection)
    return None


def _provider_advice(system: System, profile: Profile, code: str) -> str:
    names = _CAUSES.get(code, ())
    if names and profile.provider != system.settings.embedding_provider:
        names = ("LEX_INGEST_PROVIDERS",)
    if system.folder is not None:
        names = tuple(name for name in names if name in system.folder.environment)
    check = f"check {' and '.join(names)}" if names else "look at the provider's status, and at the account's plan and limits"
    again = f"; after a change run {system.command('down')} and {system.command('up')}" if names and system.folder else ""
    return f"{check}{again}; {_WAITS}"


# Chunks without a vector, of the documents that wait. The count stops at 100,000, where a person needs no exact figure.
_TO_GO = """
SELECT count(*) FROM (
    SELECT FROM documents
    JOIN document_chunks AS chunk ON chunk.document_id = documents.id AND chunk.generation = documents.generation
    WHERE documents.due_at IS NOT NULL AND NOT EXISTS (SELECT FROM {table} AS stored WHERE stored.text_sha256 = chunk.text_sha256)
    LIMIT 100000
) AS without
"""


def _chunks_to_go(connection: Connection, profile: Profile) -> int:
    from sqlalchemy import text

    return int(connection.execute(text(_TO_GO.format(table=profile.table))).scalar_one())


def _budget(system: System) -> Check:
    with _IMPORTS:
        from worker.domain.errors import ProviderUnusable
        from worker.services.spending import require_price, today
    settings = system.settings
    try:
        require_price(settings.embedding_model, settings)
    except ProviderUnusable as error:
        return Check("budget", False, str(error), "until then no document is embedded")
    with _connection(system) as connection:
        now = today(connection, settings)
    if now.budget is None or now.used is None or now.left is None:
        return Check(
            "budget", True, f"none is set; today {plural(now.confirmed.tokens, 'token')}, {system.command('cost')} has more"
        )
    found = f"{now.budget.say(now.used)} of {now.budget} today (UTC)"
    if now.left == 0:
        advice = "documents wait for midnight UTC; or raise LEX_INGEST_BUDGET_PER_DAY and restart the workers"
        return Check("budget", False, f"{found}: used up", advice)
    return Check("budget", True, found)


# A row that waits for a worker has ``updated_at`` from when it began to (worker.store.due); one that is held has the end of its
# lease ahead. Where others go on, a long wait is a backlog.
_STUCK = """
SELECT count(*) FILTER (WHERE lease_token IS NULL AND (queued OR due_at < now()) AND updated_at < now() - late) AS overdue,
       count(*) FILTER (WHERE lease_token IS NOT NULL AND due_at < now() - late) AS abandoned,
       coalesce(bool_or(lease_token IS NOT NULL AND due_at > now() OR due_at IS NULL AND updated_at > now() - late), false)
           AS others_go_on,
       count(*) FILTER (WHERE status = 'FAILED') AS failed,
       count(*) FILTER (WHERE due_at IS NOT NULL) AS waiting,
       count(*) AS documents
FROM documents, make_interval(secs => :late) AS late
"""


def _documents(system: System) -> Check:
    with _IMPORTS:
        from sqlalchemy import text

        from worker.store import gates, profiles
    late = 3 * (system.settings.tick + system.settings.requeue_after)
    with _connection(system) as connection:
        row = connection.execute(text(_STUCK), {"late": late}).one()
        closed = gates.closed(connection)
        profile = profiles.serving(connection)
        to_go = _chunks_to_go(connection, profile) if profile is not None and row.waiting else 0
    chunks = f" with {plural(to_go, 'chunk')} to embed" if to_go else ""
    found = f"{plural(row.documents, 'document')}, {row.waiting} on their way{chunks}, {row.failed} failed"
    if closed:
        gate = closed[0]
        said, until = gate.reason, "midnight UTC, or until there is a new budget"
        if gate.code != "budget_day":
            until = "the provider answers again"
        if system.is_local_model() and gate.code.startswith("provider_"):
            said, until = f"the local model did not answer ({gate.code})", "the local model answers again"
        return Check("documents", False, f"{found}; held up: {said}", f"documents wait until {until}, and resume automatically")
    stuck = row.abandoned + (row.overdue if not row.others_go_on or _nothing_queued(system) else 0)
    if stuck:
        advice = f"no worker has taken them for {late:g} s: {system.advice('worker', _START_WORKER)}"
        return Check("documents", False, f"{found}, {stuck} stuck", advice)
    # A failed document is a finished one: it says something of the file, and nothing of the system.
    why, again = system.command("status --status FAILED"), system.command("replay --status FAILED")
    advice = f"{why} says why; {again} tries again"
    return Check("documents", True, found, advice if row.failed else "")


def _nothing_queued(system: System) -> bool:
    """Whether no wake-up waits for a worker: then a document waits for none that is busy with others."""
    return system.queued == 0


# The checks that only a local stack has.
LOCAL_CHECKS = ("disk", "supervisor")
_CHECKS: dict[str, Callable[[System], Check]] = {
    "disk": _disk,
    "supervisor": _supervisor,
    "postgres": _postgres,
    "schema": _schema,
    "redis": _redis,
    "workers": _workers,
    "bucket": _bucket,
    "events": _events,
    "embeddings": _embeddings,
    "budget": _budget,
    "documents": _documents,
}
