"""How fast vectors go into PostgreSQL: our binary COPY against the ORM's rows of text, in one run on the same table.

Run it: ``python -m tests.benchmarks.vector_writes``. It starts a PostgreSQL of its own. The profile's index is dropped for
the run, so that the figures are of the writing and not of HNSW; 1536 dimensions, as OpenAI's small model gives.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, insert, text

ROWS, DIMENSIONS = 2000, 1536


def _chunks(connection: Connection, rows: int) -> list[int]:
    connection.execute(text("TRUNCATE documents CASCADE"))
    document = connection.execute(
        text("INSERT INTO documents (bucket, key, status, due_at) VALUES ('b', 'k', 'INDEXED', NULL) RETURNING id")
    ).scalar_one()
    connection.execute(
        text(
            "INSERT INTO generations (document_id, generation, etag, sha256, recipe, media_type, extractor, warnings, sections,"
            " text, text_length, chunk_count) VALUES (:document, 1, '', '', '', '', '', '[]', '[]', '', 0, 0)"
        ),
        {"document": document},
    )
    statement = text(
        "INSERT INTO document_chunks (document_id, generation, ordinal, text, text_sha256, char_start, char_end) "
        "SELECT :document, 1, n, '', '', 0, 0 FROM generate_series(1, :rows) n RETURNING id"
    )
    return list(connection.execute(statement, {"document": document, "rows": rows}).scalars())


def main() -> int:
    from infra.local import stack

    with tempfile.TemporaryDirectory(prefix="lex-ingest-benchmark-") as folder:
        Path(folder).chmod(0o711)
        running = stack.up(Path(folder) / "data", parts=("postgres",), migrate_database=True, detach=False)
        try:
            os.environ.update(running.environment)
            return _compare(running.environment["DATABASE_URL"])
        finally:
            stack.down(Path(folder) / "data")


def _compare(database_url: str) -> int:
    from pgvector.sqlalchemy import HALFVEC

    from worker.store import chunks, profiles
    from worker.store.session import transaction

    vectors = np.random.default_rng(1).standard_normal((ROWS, DIMENSIONS)).astype(np.float32)
    with transaction(database_url) as connection:
        profile = profiles.ensure(connection, "benchmark", "random", DIMENSIONS)
        connection.execute(text(f"DROP INDEX {profile.table}_hnsw"))
    table = Table(
        profile.table, MetaData(), Column("chunk_id", BigInteger, primary_key=True), Column("embedding", HALFVEC(DIMENSIONS))
    )

    def by_copy(connection: Connection, ids: list[int]) -> None:
        chunks.write_vectors(connection, profile, ids, vectors)

    def by_orm(connection: Connection, ids: list[int]) -> None:
        rows = [{"chunk_id": chunk, "embedding": vector} for chunk, vector in zip(ids, vectors, strict=True)]
        connection.execute(insert(table), rows)

    ways: dict[str, Callable[[Connection, list[int]], None]] = {"binary COPY": by_copy, "ORM rows": by_orm}
    best = dict.fromkeys(ways, 0.0)
    for _ in range(3):
        for name, write in ways.items():
            with transaction(database_url) as connection:
                ids = _chunks(connection, ROWS)
            begun = time.perf_counter()
            with transaction(database_url) as connection:
                write(connection, ids)
            best[name] = max(best[name], ROWS / (time.perf_counter() - begun))
    for name, rate in best.items():
        sys.stdout.write(f"{rate:8.0f} chunks/s  {rate / best['ORM rows']:5.1f} x  {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
