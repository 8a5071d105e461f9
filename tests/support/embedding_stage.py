"""The embedding stage alone, for benchmarks: PostgreSQL, Valkey, a provider and worker processes, and documents put before it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from infra.local import stack
from tests.support import embedding_load as load
from tests.support.provider_server import ProviderProcess
from tests.support.workers import end, start_worker
from worker.settings import Settings, get_settings

THREADS = ("-Q", "lex.embedding", "--pool", "threads")


@contextmanager
def services(provider: ProviderProcess, dimensions: int, **environment: str) -> Iterator[Settings]:
    """An empty, migrated database, an empty Valkey, and the settings that this process and its workers have."""
    from worker.services.migration import migrate

    saved = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("LEX_INGEST_", "OPENAI_"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="lex-ingest-benchmark-") as folder:
        running = stack.up(Path(folder) / "data", parts=("postgres", "valkey"), migrate_database=False, detach=False)
        os.environ |= running.environment | {
            "BUCKET": "documents", "OPENAI_API_KEY": "test", "OPENAI_BASE_URL": provider.base_url,
            "LEX_INGEST_EMBEDDING_PROVIDER": "test", "LEX_INGEST_EMBEDDING_MODEL": "table",
            "LEX_INGEST_EMBEDDING_DIMENSIONS": str(dimensions), "LEX_INGEST_TICK": "1", **environment,
        }  # fmt: skip
        get_settings.cache_clear()
        settings = get_settings()
        try:
            migrate(settings)
            yield settings
        finally:
            stack.down(running.data_dir)
            if running.supervisor is not None:
                running.supervisor.wait()
            os.environ.clear()
            os.environ |= saved
            get_settings.cache_clear()


@contextmanager
def workers(number: int, concurrency: int = 32, pool: tuple[str, ...] = THREADS) -> Iterator[None]:
    """So many processes that embed; their logs go with the folder."""
    with tempfile.TemporaryDirectory(prefix="lex-ingest-logs-") as logs:
        names = [f"embedder{index}" for index in range(number)]
        processes = [start_worker(Path(logs) / f"{name}.log", name, concurrency, pool) for name in names]
        try:
            _wait_for([f"{name}@localhost" for name in names])
            yield
        finally:
            for process in processes:
                end(process)


def _wait_for(names: list[str], seconds: float = 60) -> None:
    """Until each answers a ping. By an application of its own: the one of the workers keeps to the first broker it met."""
    deadline = time.monotonic() + seconds
    with Celery(broker=os.environ["REDIS_URL"], set_as_current=False) as application:
        while len(application.control.ping(timeout=1.0, destination=names)) < len(names):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all of {', '.join(names)} answer")


def until_finished(settings: Settings, seconds: float) -> load.Outcome:
    """How the load stands once every document has ended.

    Raises:
        TimeoutError: that took longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while load.waiting(settings):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not finished after {seconds:g} s: {load.outcome(settings)}")
        time.sleep(0.2)
    return load.outcome(settings)
