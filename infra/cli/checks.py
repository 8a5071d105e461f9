"""What ``doctor`` checks. Each check finds one thing and, where it is wrong, says the next step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import redis
from sqlalchemy import text

from worker import producer
from worker.contract import QUEUES
from worker.settings import Settings
from worker.store.session import engine


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``advice`` is the next step; empty where there is none to take."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def run_checks(settings: Settings) -> Iterator[Check]:
    """Run every check, each bounded in time; one that can't be run is a finding too."""
    away: set[str] = set()
    for name, check in _CHECKS:
        if _NEEDS.get(name) in away:
            yield Check(name, False, f"not checked: {_NEEDS[name]} must answer first")
            continue
        try:
            yield check(settings)
        except Exception as error:  # noqa: BLE001 - whatever a check meets is what it found: a doctor that falls ill helps nobody
            away.add(name)
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            yield Check(name, False, first_line, _UNREACHABLE[name])


_NEEDS = {"schema": "postgres", "budget": "postgres", "documents": "postgres", "workers": "redis"}
_START_WORKER = (
    "a local stack starts it again by itself (`lex-ingest ps`, log/worker.log); elsewhere: `celery -A worker.celery_app worker`"
)
_UNREACHABLE = {
    "postgres": "check DATABASE_URL, and that PostgreSQL runs: `lex-ingest ps`, log/postgres.log",
    "schema": "run `lex-ingest migrate`",
    "redis": "check REDIS_URL, and that Redis runs: `lex-ingest ps`, log/valkey.log; documents wait, and none is lost",
    "workers": _START_WORKER,
    "bucket": "check BUCKET, AWS_ENDPOINT_URL and the credentials",
    "events": "check QUEUE_URL and the credentials",
    "embeddings": "check OPENAI_API_KEY, OPENAI_BASE_URL and LEX_INGEST_EMBEDDING_MODEL",
    "budget": "run `lex-ingest migrate`",
    "documents": "run `lex-ingest migrate`",
}


def _postgres(settings: Settings) -> Check:
    with engine(settings.require("database_url").database_url).connect() as connection:
        version = connection.execute(text("SHOW server_version")).scalar_one()
        vector = connection.execute(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")).scalar()
    if vector is None:
        return Check("postgres", False, f"PostgreSQL {version} without pgvector", "run `lex-ingest migrate`")
    recent = tuple(int(part) for part in str(vector).split(".")[:2]) >= (0, 8)
    advice = "" if recent else "update pgvector to 0.8 or newer: filters lose hits without its iterative scan"
    return Check("postgres", recent, f"PostgreSQL {version}, pgvector {vector}", advice)


def _schema(settings: Settings) -> Check:
    from worker.services import migration
    from worker.store import profiles

    state = migration.state(settings)
    if not state.up_to_date:
        return Check("schema", False, f"at {state.current or 'empty'}, this code wants {state.head}", "run `lex-ingest migrate`")
    with engine(settings.database_url).connect() as connection:
        profile = profiles.serving(connection)
    if profile is None:
        return Check("schema", False, "no table for vectors", "run `lex-ingest migrate`")
    advice = ""
    if (profile.provider, profile.model, profile.dimensions) != (
        settings.embedding_provider,
        settings.embedding_model,
        settings.embedding_dimensions,
    ):
        advice = f"the settings name {settings.embedding_model}: `lex-ingest model add` and `switch` change what serves"
    return Check("schema", True, f"at {state.current}, {profile.name} serves from {profile.table}", advice)


def _redis(settings: Settings) -> Check:
    client: redis.Redis = redis.Redis.from_url(
        settings.require("redis_url").redis_url, socket_timeout=5, socket_connect_timeout=5
    )
    try:
        memory = dict(client.info("memory"))  # type: ignore[arg-type]  # the stubs mix the async client in
        policy = memory.get("maxmemory_policy")
        lengths = producer.queue_lengths(settings)
    finally:
        client.close()
    queues = ", ".join(f"{name} {length}" for name, length in lengths.items())
    if policy != "noeviction":
        return Check("redis", False, f"eviction policy {policy}", "set maxmemory-policy to noeviction: any other drops tasks")
    return Check("redis", True, f"noeviction; {queues}")


def _workers(settings: Settings) -> Check:
    from celery import Celery

    application = Celery(broker=settings.redis_url, set_as_current=False)
    application.conf.broker_transport_options = {"socket_timeout": 5, "socket_connect_timeout": 5, "max_retries": 0}
    active = application.control.inspect(timeout=2).active_queues() or {}
    consumed = {queue["name"] for queues in active.values() for queue in queues}
    unread = sorted(set(QUEUES.values()) - consumed)
    if unread:
        found = f"{len(active)} workers; nobody consumes {', '.join(unread)}"
        return Check("workers", False, found, _START_WORKER)
    return Check("workers", True, f"{len(active)} ({', '.join(sorted(active))})")


def _bucket(settings: Settings) -> Check:
    from worker.objects import s3_client

    settings.require("buckets")
    for bucket in settings.buckets:
        s3_client().head_bucket(Bucket=bucket)
    return Check("bucket", True, ", ".join(settings.buckets))


def _events(_: Settings) -> Check:
    import boto3
    from botocore.config import Config

    # Not a setting of the workers: only the local stack and a deployment know where the events wait.
    urls = {name: os.environ.get(name) for name in ("QUEUE_URL", "DEAD_LETTER_QUEUE_URL")}
    if not all(urls.values()):
        return Check("events", True, "not checked: QUEUE_URL and DEAD_LETTER_QUEUE_URL are not set")
    client = boto3.client("sqs", config=Config(connect_timeout=5, read_timeout=10))
    waiting, dead = (
        int(
            client.get_queue_attributes(QueueUrl=str(url), AttributeNames=["ApproximateNumberOfMessages"])["Attributes"][
                "ApproximateNumberOfMessages"
            ]
        )
        for url in urls.values()
    )
    advice = "look at the dead letters and the handler's log; then `lex-ingest put` or `replay` what they name" if dead else ""
    return Check("events", dead == 0, f"{waiting} events wait, {dead} dead letters", advice)


def _embeddings(settings: Settings) -> Check:
    from worker.domain.spending import Purpose
    from worker.services import asking
    from worker.store import profiles

    with engine(settings.database_url).connect() as connection:
        profile = profiles.serving(connection)
    if profile is None:
        return Check("embeddings", False, "no profile serves", "run `lex-ingest migrate`")
    asking.embed_query("Is the provider there?", profile, settings, Purpose.CHECK)
    return Check("embeddings", True, f"{profile.model}, {profile.dimensions} dimensions")


def _budget(settings: Settings) -> Check:
    from worker.domain.errors import ProviderUnusable
    from worker.services.spending import require_price, today

    try:
        require_price(settings.embedding_model, settings)
    except ProviderUnusable as error:
        return Check("budget", False, str(error), "until then no document is embedded")
    with engine(settings.database_url).connect() as connection:
        now = today(connection, settings)
    if now.budget is None or now.used is None or now.left is None:
        return Check("budget", True, f"none is set; today {now.confirmed.tokens:,} tokens, `lex-ingest cost` has more")
    found = f"{now.budget.say(now.used)} of {now.budget} today (UTC)"
    if now.left == 0:
        advice = "documents wait for midnight UTC, or raise LEX_INGEST_BUDGET_PER_DAY (and restart the workers)"
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


def _documents(settings: Settings) -> Check:
    late = 3 * (settings.tick + settings.requeue_after)
    with engine(settings.database_url).connect() as connection:
        row = connection.execute(text(_STUCK), {"late": late}).one()
        gates = connection.execute(text("SELECT code, reason FROM gates WHERE closed_until > now()")).all()
    found = f"{row.documents} documents, {row.waiting} on their way, {row.failed} failed"
    if gates:
        spent = gates[0].code == "budget_day"
        mended = "at midnight UTC, or when there is a new budget" if spent else f"once {gates[0].code} is mended"
        advice = f"it goes on by itself {mended}"
        return Check("documents", False, f"{found}; held up: {gates[0].reason}", advice)
    stuck = row.abandoned + (row.overdue if not row.others_go_on or _nothing_queued(settings) else 0)
    if stuck:
        advice = f"no worker has taken them for {late:g} s: see that one runs (`lex-ingest ps`, log/worker.log)"
        return Check("documents", False, f"{found}, {stuck} stuck", advice)
    # A failed document is a finished one: it says something of the file, and nothing of the system.
    advice = "`lex-ingest status --status FAILED` says why; `lex-ingest replay --status FAILED` tries again"
    return Check("documents", True, found, advice if row.failed else "")


def _nothing_queued(settings: Settings) -> bool:
    """Whether no wake-up waits for a worker: then a document waits for none that is busy with others."""
    try:
        return not any(producer.queue_lengths(settings).values())
    except redis.RedisError:
        return False


_CHECKS: tuple[tuple[str, Callable[[Settings], Check]], ...] = (
    ("postgres", _postgres),
    ("schema", _schema),
    ("redis", _redis),
    ("workers", _workers),
    ("bucket", _bucket),
    ("events", _events),
    ("embeddings", _embeddings),
    ("budget", _budget),
    ("documents", _documents),
)
