"""What all tests share: a marker by folder, and real services that the tests start themselves.

A test that needs a service names its fixture: ``settings`` gives a migrated, empty database, an empty Valkey, an empty
bucket and a provider; ``worker`` adds a Celery worker process on them.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import redis

from tests.support.provider import Provider
from tests.support.workers import running_worker
from worker.settings import Settings, get_settings

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


def pytest_configure() -> None:
    """Let Ctrl-C work in what the tests start: a shell starts a background command with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test carries the name of its folder as a marker."""
    for item in items:
        folder = Path(item.path).relative_to(ROOT / "tests").parts[0]
        item.add_marker(getattr(pytest.mark, folder))


@pytest.fixture(scope="session")
def services_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of ``services``."""
    return tmp_path_factory.mktemp("services")


@pytest.fixture
def superuser(services: dict[str, str], services_folder: Path) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection to the database of ``settings`` as PostgreSQL's superuser, which the role in DATABASE_URL is not."""
    from infra.local import postgres
    from infra.local.folder import Folder

    url = postgres.url(Folder.load(services_folder), postgres.DATABASE, postgres.SUPERUSER)
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def services(services_folder: Path) -> Iterator[dict[str, str]]:
    """PostgreSQL, Valkey and the S3/SQS API, as ``lex-ingest up`` would start them; gives their environment."""
    from infra.local import stack

    folder = services_folder
    running = stack.up(folder, parts=("postgres", "valkey", "aws"), migrate_database=False, detach=False)
    let_make_databases_and_roles(folder)
    # boto3, Celery and the code under test read the process' environment, as in a container.
    saved = dict(os.environ)
    os.environ.update(running.environment)
    try:
        yield running.environment
    finally:
        _close_connections()
        os.environ.clear()
        os.environ.update(saved)
        stack.down(folder)
        if running.supervisor is not None:
            running.supervisor.wait()


def let_make_databases_and_roles(folder: Path) -> None:
    """Let the role of DATABASE_URL, which is no superuser, make roles, and databases with pgvector, for tests that need them."""
    from infra.local import postgres
    from infra.local.folder import Folder

    with psycopg.connect(postgres.url(Folder.load(folder), "template1", postgres.SUPERUSER), autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {postgres.USER} CREATEDB CREATEROLE".encode())
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")


def _close_connections() -> None:
    """Those that the code under test keeps for its process: a connection that is dropped open is a warning, so an error."""
    from worker.services import intake
    from worker.store import session

    intake._connections.close()
    session.engine(os.environ["DATABASE_URL"]).dispose()


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture(scope="session")
def _migrated(services: dict[str, str], _provider: Provider) -> Settings:
    from worker.services.migration import migrate

    os.environ.update(
        OPENAI_API_KEY="test",
        OPENAI_BASE_URL=_provider.base_url,
        LEX_INGEST_EMBEDDING_PROVIDER="test",
        LEX_INGEST_EMBEDDING_MODEL="words",
        LEX_INGEST_EMBEDDING_DIMENSIONS="384",
        LEX_INGEST_TICK="0.5",
        LEX_INGEST_REQUEUE_AFTER="3",
        LEX_INGEST_LEASE="6",
    )
    get_settings.cache_clear()
    settings = get_settings()
    # Another test may have asked the application for its configuration before there were services.
    from worker import celery_config
    from worker.celery_app import app

    app.config_from_object(importlib.reload(celery_config), force=True)
    migrate(settings)
    return settings


@pytest.fixture
def provider(_provider: Provider) -> Provider:
    """The embedding provider, without memory of earlier tests."""
    _provider.reset()
    return _provider


@pytest.fixture
def settings(_migrated: Settings, provider: Provider) -> Settings:
    """Settings of an empty system: no documents, no messages, no objects."""
    redis.Redis.from_url(_migrated.redis_url).flushall()
    empty_bucket(_migrated.buckets[0])
    empty_database(_migrated.database_url)
    return _migrated


@pytest.fixture
def database_url(settings: Settings) -> str:
    """A migrated, empty database."""
    return settings.database_url


@pytest.fixture
def redis_url(settings: Settings) -> str:
    """An empty Valkey."""
    return settings.redis_url


def empty_database(database_url: str) -> None:
    """Empty every table but those of the profiles. TRUNCATE costs a file for each partition and index, DELETE for each row."""
    tables = (
        "documents",
        "gates",
        "events",
        "released_texts",
        "chores",
        "embedding_requests",
        "spending",
        "spending_days",
        "embedding_fillings",
        "refused_texts",
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        (number,) = connection.execute("SELECT count(*) FROM (SELECT FROM documents LIMIT 2000)").fetchone() or (0,)
        if number == 2000:
            connection.execute(f"TRUNCATE {', '.join(tables)} CASCADE".encode())
        vectors = connection.execute("SELECT 'embeddings_' || id FROM embedding_profiles").fetchall()
        for table in (*tables, *(table for (table,) in vectors)):
            connection.execute(f"DELETE FROM {table}".encode())
        for (table,) in vectors:
            connection.execute(f"DROP INDEX IF EXISTS {table}_hnsw".encode())
        # The first profile serves, whatever a test has switched to.
        first = "(SELECT min(id) FROM embedding_profiles)"
        connection.execute(f"UPDATE embedding_profiles SET serving = false, kept_filled = false WHERE id > {first}".encode())
        connection.execute(f"UPDATE embedding_profiles SET serving = true, kept_filled = false WHERE id = {first}".encode())


def empty_bucket(bucket: str) -> None:
    for version in boto3.resource("s3").Bucket(bucket).object_versions.all():
        version.delete()


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker process with two pool processes and a dispatcher."""
    with running_worker(tmp_path / "worker.log") as process:
        yield process


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until ``condition`` holds; fail with ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
