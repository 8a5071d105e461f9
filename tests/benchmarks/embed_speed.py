"""What the embedding stage costs beside what it can't do without: the request, the decoding, and COPY.

Run it: ``python -m tests.benchmarks.embed_speed``. Ratios of one run, on 1536 dimensions:

- writing: ``vectors.write``, with all that stands around it in a request, against a bare binary COPY of the same rows (>= 80%);
- CPU: of the process that embeds, a chunk, against plain HTTP, base64 and COPY (<= 1.5);
- latency: one worker process at an endpoint of 200 ms against one request at a time (>= 10 times the chunks a second), with short
  chunks and with those of the default size.

The worker, the provider and PostgreSQL share the machine: with few cores the last figure is one of CPU.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from sqlalchemy import text

from tests.support import embedding_load as load
from tests.support.embedding_stage import services, until_finished, workers
from tests.support.provider_server import ProviderProcess
from worker.domain.spending import Purpose
from worker.embed.batcher import Entry
from worker.services import asking, requesting
from worker.settings import Settings
from worker.store import profiles, vectors
from worker.store.profiles import Profile
from worker.store.session import transaction

# Below the 20,000 vectors from which on an index would be built meanwhile.
DIMENSIONS, BATCH, LATENCY, DOCUMENTS = 1536, 128, 0.2, 150


def _profile(settings: Settings) -> Profile:
    with transaction(settings.database_url) as connection:
        profile = profiles.serving(connection)
    assert profile is not None
    return profile


def _texts(settings: Settings) -> list[tuple[bytes, str]]:
    with psycopg.connect(settings.database_url) as connection:
        return [(bytes(digest), piece) for digest, piece in connection.execute("SELECT text_sha256, text FROM document_chunks")]


def _timed(act: Callable[[], object], clock: Callable[[], float]) -> float:
    begun = clock()
    act()
    return clock() - begun


def _empty(settings: Settings) -> None:
    with transaction(settings.database_url) as connection:
        connection.execute(text(f"TRUNCATE {_profile(settings).table}"))


def _bare_copy(connection: psycopg.Connection[Any], table: str, rows: list[tuple[bytes, Any]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)".encode()) as stream:
        stream.set_types(["bytea", "halfvec"])
        for digest, vector in rows:
            stream.write_row((digest, HalfVector(vector)))
    connection.commit()


def writing(settings: Settings, provider: ProviderProcess, repeat: int = 5) -> float:
    """Chunks a second of the store against those of COPY, each into an empty table of the same form."""
    profile, texts = _profile(settings), _texts(settings)
    numbers = np.random.default_rng(1).standard_normal((len(texts), DIMENSIONS)).astype(np.float32)
    rows = sorted(zip([digest for digest, _ in texts], numbers, strict=True), key=lambda row: row[0])
    batches = [range(start, min(start + BATCH, len(texts))) for start in range(0, len(texts), BATCH)]

    def by_store() -> None:
        for batch in batches:
            with transaction(settings.database_url) as connection:
                vectors.write(connection, profile, [rows[index][0] for index in batch], numbers[batch.start : batch.stop])

    best = {"COPY": 0.0, "store": 0.0}
    with psycopg.connect(settings.database_url) as connection:
        register_vector(connection)

        def by_copy() -> None:
            for batch in batches:
                _bare_copy(connection, profile.table, rows[batch.start : batch.stop])

        for _ in range(repeat):
            for name, act in (("COPY", by_copy), ("store", by_store)):
                _empty(settings)
                best[name] = max(best[name], len(texts) / _timed(act, time.perf_counter))
    _empty(settings)
    share = best["store"] / best["COPY"]
    sys.stdout.write(f"writing    {best['store']:7.0f} chunks/s, bare COPY {best['COPY']:7.0f}: {share:.0%} (at least 80%)\n")
    return share


def cpu(settings: Settings, provider: ProviderProcess, repeat: int = 3) -> float:
    """CPU a chunk of the stage's requests (ask, decode, store, confirm) against HTTP, base64 and COPY alone."""
    profile, texts = _profile(settings), _texts(settings)
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    way = asking.Asking(profile, settings)
    best = {"stage": float("inf"), "bare": float("inf")}

    def by_stage() -> None:
        for batch in batches:
            entries = [Entry(digest, piece, len(piece.encode()), None) for digest, piece in batch]
            size = sum(entry.size for entry in entries)
            failures = requesting._request(way, Purpose.DOCUMENT, entries, way.admit(size))
            assert not failures

    with httpx2.Client(headers={"Authorization": "Bearer test"}) as client, psycopg.connect(settings.database_url) as connection:
        register_vector(connection)

        def bare() -> None:
            for batch in batches:
                body = {"model": "table", "input": [piece for _, piece in batch], "encoding_format": "base64"}
                data = json.loads(client.post(f"{provider.base_url}/embeddings", json=body).content)["data"]
                found = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in data]
                _bare_copy(
                    connection, profile.table, [(digest, vector) for (digest, _), vector in zip(batch, found, strict=True)]
                )

        for _ in range(repeat):
            for name, act in (("bare", bare), ("stage", by_stage)):
                _empty(settings)
                best[name] = min(best[name], _timed(act, time.process_time) / len(texts))
    _empty(settings)
    ratio = best["stage"] / best["bare"]
    sys.stdout.write(
        f"CPU        {best['stage'] * 1e6:5.0f} µs a chunk, bare {best['bare'] * 1e6:5.0f}: {ratio:.2f} times (at most 1.5)\n"
    )
    return ratio


def latency(settings: Settings, provider: ProviderProcess, characters: tuple[int, int], repeat: int = 3) -> float:
    """Chunks a second of one worker process against one request at a time, each with an endpoint of 200 ms."""
    provider.behave(latency=LATENCY)
    choose = random.Random(2)
    _clear(settings)
    load.insert(settings, load.make(DOCUMENTS, lambda _: [choose.randint(*characters) for _ in range(BATCH)]), queued=True)
    texts = _texts(settings)
    way = asking.Asking(_profile(settings), settings)
    some = _one_request(texts)
    slow = 4 * len(some) / _timed(lambda: [way.ask(some, Purpose.CHECK) for _ in range(4)], time.perf_counter)
    best, most = 0.0, 0
    for _ in range(repeat):
        with transaction(settings.database_url) as connection:
            connection.execute(text(f"TRUNCATE {_profile(settings).table}"))
            connection.execute(
                text("UPDATE documents SET status = 'EXTRACTED', active_generation = NULL, due_at = now() + interval '1 hour'")
            )
        with workers(1):
            provider.reset(counts_only=True)
            with transaction(settings.database_url) as connection:
                connection.execute(text("UPDATE documents SET due_at = now()"))
            until_finished(settings, 120)
        stats = provider.stats()
        best = max(best, stats["billed"]["inputs"] / (stats["last_at"] - stats["first_at"] + LATENCY))
        most = max(most, stats["max_in_flight"])
    provider.behave(latency=0)
    sys.stdout.write(
        f"latency    {best:7.0f} chunks/s, one request at a time {slow:7.0f}: {best / slow:.1f} times (at least 10);"
        f" {characters[0]} to {characters[1]} characters, {most} in flight at most\n"
    )
    return best / slow


def _one_request(texts: list[tuple[bytes, str]]) -> list[str]:
    """As many texts as the batcher would send together."""
    batch: list[str] = []
    size = 0
    for _, piece in texts[:BATCH]:
        size += len(piece.encode())
        if size > asking.MOST_BYTES:
            break
        batch.append(piece)
    return batch


def _clear(settings: Settings) -> None:
    with transaction(settings.database_url) as connection:
        connection.execute(text(f"TRUNCATE documents, {_profile(settings).table} CASCADE"))


def main() -> int:
    choose = random.Random(1)
    environment = {"LEX_INGEST_EMBEDDING_BATCH": str(BATCH), "LEX_INGEST_LOG_LEVEL": "WARNING", "LEX_INGEST_TICK": "5"}
    with (
        ProviderProcess(dimensions=DIMENSIONS, vectors="table") as provider,
        services(provider, DIMENSIONS, **environment) as settings,
    ):
        load.insert(settings, load.make(DOCUMENTS, lambda _: [choose.randint(100, 300) for _ in range(BATCH)]), queued=True)
        good = [writing(settings, provider) >= 0.8, cpu(settings, provider) <= 1.5]
        good += [latency(settings, provider, characters) >= 10 for characters in ((100, 300), (3500, 4000))]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
