"""A change of the embedding model under 20 queries a second: how many fail, and how long they take in each phase.

Run it: ``python -m tests.benchmarks.model_switch [documents]``. It starts PostgreSQL, Valkey, a worker process
(``-P threads -Q lex.embedding``) and the tests' provider, and indexes documents; then another process backfills, switches, rolls
back and drops, while documents go on coming in. Query vectors are computed beforehand; a query is a search by meaning through
``worker.services.search``, and its time counts from when it was due. It ends with 1 where a promise is not kept.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

CHUNKS, CHARACTERS, PER_SECOND = 4, 800, 20
BEFORE, AFTER = 384, 512
QUIET = 10.0  # seconds of queries before anything is changed


@dataclass
class Phase:
    name: str
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    took: float = 0.0

    def p(self, share: float) -> float:
        return float(np.quantile(self.seconds, share)) * 1000 if self.seconds else float("nan")


class Queries:
    """Sends a query each twentieth of a second, whether the last one was answered or not."""

    def __init__(self, query: Callable[[], Any]) -> None:
        self.phase = Phase("warm-up")
        self._query, self._stop = query, threading.Event()
        self._pool = ThreadPoolExecutor(6)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._pool.submit(self._one, due, self.phase)
            due += 1 / PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))

    def _one(self, due: float, phase: Phase) -> None:
        try:
            if not self._query():
                phase.failed.append("no hits")
        except Exception as error:  # noqa: BLE001 - whatever it is, a query failed
            phase.failed.append(repr(error)[:200])
        phase.seconds.append(time.monotonic() - due)

    def during(self, name: str, work: Callable[[], Any], linger: float = 0.0) -> Phase:
        self.phase = phase = Phase(name)
        begun = time.monotonic()
        work()
        phase.took = time.monotonic() - begun
        time.sleep(linger)
        return phase

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()


def main() -> int:
    from infra.local import stack
    from tests.support.provider_server import ProviderProcess
    from tests.support.workers import end, start_worker, wait_for_worker

    documents = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory(prefix="lex-ingest-benchmark-") as folder, ProviderProcess(vectors="table") as provider:
        Path(folder).chmod(0o711)
        running = stack.up(Path(folder) / "data", parts=("postgres", "valkey"), migrate_database=False, detach=False)
        try:
            os.environ.update(
                running.environment,
                OPENAI_API_KEY="test", OPENAI_BASE_URL=provider.base_url, LEX_INGEST_EMBEDDING_PROVIDER="test",
                LEX_INGEST_EMBEDDING_MODEL="before", LEX_INGEST_EMBEDDING_DIMENSIONS=str(BEFORE),
                LEX_INGEST_EMBEDDING_SEND_DIMENSIONS="1", LEX_INGEST_TICK="0.5", BUCKET="documents",
            )  # fmt: skip
            from worker.services.migration import migrate
            from worker.settings import get_settings

            migrate(get_settings())
            extra = ("-P", "threads", "-Q", "lex.embedding")
            worker = start_worker(Path(folder) / "worker.log", concurrency=16, extra=extra)
            try:
                wait_for_worker()
                return _measure(documents, provider)
            finally:
                end(worker)
        finally:
            stack.down(Path(folder) / "data")


def _measure(documents: int, provider: Any) -> int:
    from tests.support import embedding_load as load
    from worker.domain.scope import Scope
    from worker.services.search import Mode, search
    from worker.settings import get_settings

    settings = get_settings()
    load.insert(settings, load.make(documents, [CHARACTERS] * CHUNKS))
    _wait(lambda: load.outcome(settings).finished, 300)
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")  # else PostgreSQL would do it by itself, some time in the measurement
    # An answer takes from half a second to a second and a half from here on, as it does at a provider.
    provider.behave(latency=0.5, latency_per_input=0.008)
    vectors = {size: np.random.default_rng(size).standard_normal((500, size)).astype(np.float32) for size in (BEFORE, AFTER)}
    numbers = iter(range(10**9))
    scope = Scope(("documents",), ("",))

    def query() -> Any:
        place = next(numbers) % 500
        embed = lambda _text, profile, _settings: vectors[profile.dimensions][place]  # noqa: E731 - short, and used once
        return search("anything", scope, 5, settings, mode=Mode.VECTOR, embed=embed)

    operator = ProcessPoolExecutor(1, get_context("spawn"))
    operator.submit(_operate, "nothing").result()
    queries = Queries(query)
    coming = threading.Event()
    arrivals = threading.Thread(target=_arrive, args=(coming, settings))
    phases: list[Phase] = []
    try:
        queries.during("warm-up", lambda: None, 3.0)
        phases.append(queries.during("before", lambda: None, QUIET))
        arrivals.start()
        phases.append(queries.during("backfill", lambda: operator.submit(_backfill).result()))
        phases.append(queries.during("switch", lambda: operator.submit(_operate, "switch").result(), 3.0))
        phases.append(queries.during("rollback", lambda: operator.submit(_operate, "rollback").result(), 3.0))
        phases.append(queries.during("drop", lambda: operator.submit(_operate, "drop").result(), 3.0))
    finally:
        coming.set()
        if arrivals.ident is not None:
            arrivals.join()
        queries.end()
        operator.shutdown()
    _wait(lambda: load.outcome(settings, "").finished, 60)
    outcome = load.outcome(settings, "")
    write = sys.stdout.write
    meanwhile = outcome.served - documents
    write(f"{documents * CHUNKS:,} chunks, {PER_SECOND} queries a second; {meanwhile} documents came in meanwhile\n")
    write(f"{'phase':10} {'took s':>7} {'queries':>8} {'failed':>7} {'p50 ms':>7} {'p95 ms':>7} {'max ms':>7} {'p95':>8}\n")
    for phase in phases:
        write(f"{phase.name:10} {phase.took:7.2f} {len(phase.seconds):8} {len(phase.failed):7} {phase.p(0.5):7.1f}")
        write(f" {phase.p(0.95):7.1f} {phase.p(1.0):7.1f} {phase.p(0.95) / phases[0].p(0.95):6.2f} x\n")
    for failure in sorted({failure for phase in phases for failure in phase.failed}):
        write(f"failed: {failure}\n")
    kept = not any(phase.failed for phase in phases) and phases[1].p(0.95) <= 2 * phases[0].p(0.95)
    whole = outcome.incomplete == 0 and outcome.statuses == {"INDEXED": outcome.served}
    write(f"0 failed, p95 during the backfill at most twice: {'kept' if kept else 'NOT KEPT'}; nothing lost: {whole}\n")
    return 0 if kept and whole else 1


def _operate(command: str) -> None:
    """In the operator's process."""
    from worker.services import models, switching
    from worker.settings import get_settings

    settings = get_settings()
    if command == "switch":
        switching.switch(models.find("after", settings), settings)
    elif command == "rollback":
        switching.rollback(settings)
    elif command == "drop":
        models.drop(models.find("after", settings), settings)


def _backfill() -> None:
    from worker.services import backfilling, models
    from worker.settings import get_settings

    settings = get_settings()
    other = models.add("after", AFTER, settings, send_dimensions=True)
    backfilling.start(other, None, settings)
    _wait(lambda: backfilling.progress(other, settings).whole, 300)
    backfilling.build_index(other, settings)


def _arrive(end: threading.Event, settings: Any) -> None:
    """A document each half second."""
    from tests.support import embedding_load as load

    number = 0
    while not end.wait(0.5):
        number += 1
        load.insert(settings, load.make(1, [CHARACTERS] * CHUNKS, seed=10**6 + number), prefix=f"new/{number}/")


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it takes too long")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
