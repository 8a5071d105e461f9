"""What a document costs in PostgreSQL: bytes a document, by table, indexes and TOAST included.

Run it: ``python -m tests.benchmarks.storage``. It starts a PostgreSQL of its own and writes rows as the pipeline leaves them:
one upload event, one generation, three chunks of 3000 characters of made-up words, and their vectors of 1536 dimensions.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

import psycopg

DOCUMENTS, CHUNKS, CHARACTERS, DIMENSIONS = 1000, 3, 3000, 1536
_TABLES = ("documents", "generations", "document_chunks", "embeddings_1", "events")
_SIZE = """
    SELECT pg_total_relation_size(%(name)s::regclass)
           + coalesce((SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(%(name)s::regclass)), 0)
"""


def main() -> int:
    from infra.local import stack

    os.environ["LEX_INGEST_EMBEDDING_DIMENSIONS"] = str(DIMENSIONS)
    with tempfile.TemporaryDirectory(prefix="lex-ingest-benchmark-") as folder:
        Path(folder).chmod(0o711)
        running = stack.up(Path(folder) / "data", parts=("postgres",), migrate_database=True, detach=False)
        try:
            with psycopg.connect(running.environment["DATABASE_URL"], autocommit=True) as connection:
                _fill(connection)
                _print(connection)
        finally:
            stack.down(Path(folder) / "data")
    return 0


def _fill(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    choice = random.Random(1)
    words = ["".join(choice.choices("etaoinshrdlu", k=choice.randint(2, 9))) for _ in range(4000)]
    raw = '{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-central-1","s3":{"bucket":{}}' + " " * 600 + "}"
    for number in range(DOCUMENTS):
        (identity,) = connection.execute(
            "INSERT INTO documents (bucket, key, status, due_at, generation, active_generation, etag, hint_etag, size) VALUES"
            " ('lex-ingest-documents', %s, 'INDEXED', NULL, 1, 1, md5(%s), md5(%s), 12345) RETURNING id",
            (f"reports/2026/{number:06}.pdf", str(number), str(number)),
        ).fetchone() or (None,)
        texts = [" ".join(choice.choices(words, k=700))[:CHARACTERS] for _ in range(CHUNKS)]
        connection.execute(
            "INSERT INTO generations (document_id, generation, etag, sha256, recipe, media_type, extractor, warnings, sections,"
            " text, text_length, chunk_count)"
            " VALUES (%s, 1, md5(''), sha256(''), 'v1', 'application/pdf', 'pypdfium2', '[]', '[]', %s, %s, %s)",
            (identity, "".join(texts), CHARACTERS * CHUNKS, CHUNKS),
        )
        for ordinal, text in enumerate(texts):
            connection.execute(
                "WITH piece AS ("
                "INSERT INTO document_chunks (document_id, generation, ordinal, text, text_sha256, char_start, char_end)"
                " VALUES (%s, 1, %s, %s, sha256(convert_to(%s, 'UTF8')), 0, 3000) RETURNING id, text_sha256),"
                " vector AS (SELECT array_agg(random())::vector AS value FROM generate_series(1, %s))"
                " INSERT INTO embeddings_1 SELECT text_sha256, value FROM piece, vector",
                (identity, ordinal, text, text, DIMENSIONS),
            )
        connection.execute(
            "INSERT INTO events (bucket, key, kind, raw, message_id, outcome, document_id, generation)"
            " VALUES ('lex-ingest-documents', %s, 'ObjectCreated:Put', %s::json, gen_random_uuid(), 'recorded', %s, 1)",
            (f"reports/2026/{number:06}.pdf", raw, identity),
        )
    connection.execute("VACUUM ANALYZE")


def _print(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    total = 0
    sys.stdout.write(f"bytes a document of {CHUNKS} chunks, {CHUNKS * CHARACTERS} characters, {DIMENSIONS} dimensions\n")
    for table in _TABLES:
        (size,) = connection.execute(_SIZE, {"name": table}).fetchone() or (0,)
        share = int(str(size)) // DOCUMENTS
        total += share
        sys.stdout.write(f"  {table:<16} {share:>8,}\n")
    sys.stdout.write(f"  {'all':<16} {total:>8,}\n")


if __name__ == "__main__":
    sys.exit(main())
