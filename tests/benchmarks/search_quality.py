"""How good search is: nDCG@10 of each mode, by kind of question.

Run it: ``python -m tests.benchmarks.search_quality [--collection DIR]``. It starts a PostgreSQL and the local embedding model
of its own, stores the documents as the pipeline leaves them, and asks the search that users run. Without ``--collection`` it
takes the set in ``search_set`` here, of our own sentences. A collection is a folder of three files:

- ``docs.jsonl``: ``{"id": …, "text": …}`` a line;
- ``queries.jsonl``: ``{"id": …, "text": …, "kind": …}`` a line, ``kind`` if you like;
- ``qrels.tsv``: query's id, document's id, grade (0 is irrelevant), with tabs between.

A document longer than a chunk is cut into several, and counts at its best one. Vectors of a ``--collection`` are kept in it
(``vectors.npy``).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from worker.domain.scope import Scope
from worker.settings import Settings

OWN = Path(__file__).parent / "search_set"
BUCKET, CHUNK = "collection", 4000


@dataclass(frozen=True, slots=True)
class Question:
    """``relevant`` are documents by id, with their grade."""

    text: str
    kind: str
    relevant: dict[str, float]


def read(folder: Path) -> tuple[dict[str, str], list[Question]]:
    """Documents by id, and the questions that have a relevant one."""
    documents = {str(row["id"]): str(row["text"]) for row in _lines(folder / "docs.jsonl")}
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines():
        query, document, grade = line.split("\t")
        if float(grade) > 0 and document in documents:
            grades[query][document] = float(grade)
    rows = _lines(folder / "queries.jsonl")
    asked = [row for row in rows if str(row["id"]) in grades]
    return documents, [Question(row["text"], row.get("kind", "all"), grades[str(row["id"])]) for row in asked]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


@contextmanager
def services() -> Iterator[Settings]:
    """PostgreSQL, migrated, and the local embedding model."""
    from infra.local import stack

    with tempfile.TemporaryDirectory(prefix="lex-ingest-benchmark-") as folder:
        Path(folder).chmod(0o711)
        data = Path(folder) / "data"
        running = stack.up(data, parts=("postgres", "embeddings"), migrate_database=True, detach=False)
        try:
            os.environ.update(running.environment)
            yield Settings.from_environment(running.environment)
        finally:
            stack.down(data)


def store(documents: dict[str, str], settings: Settings, cache: Path | None = None) -> None:
    """Write the documents as served ones, each as chunks of at most ``CHUNK`` characters, with their vectors."""
    from worker.services.migration import migrate
    from worker.store import vectors as store
    from worker.store.session import transaction

    profile = migrate(settings)
    with transaction(settings.database_url) as connection:
        connection.execute(text("TRUNCATE documents CASCADE"))
        for key, body in documents.items():
            _write(connection, key, body)
        rows = connection.execute(
            text("SELECT DISTINCT ON (text_sha256) text_sha256, text FROM document_chunks ORDER BY text_sha256")
        ).all()
    vectors = _vectors([row.text for row in rows], settings, cache)
    with transaction(settings.database_url) as connection:
        store.write(connection, profile, [bytes(row.text_sha256) for row in rows], vectors)
    with transaction(settings.database_url) as connection:
        connection.execute(text("ANALYZE"))


def _write(connection: Connection, key: str, body: str) -> None:
    from worker.store import chunks

    identity = connection.execute(
        text(
            "INSERT INTO documents (bucket, key, status, due_at, generation, active_generation)"
            " VALUES (:bucket, :key, 'INDEXED', NULL, 1, 1) RETURNING id"
        ),
        {"bucket": BUCKET, "key": key},
    ).scalar_one()
    spans = [(None, None, start, min(start + CHUNK, len(body))) for start in range(0, len(body), CHUNK)]
    facts = {
        "document_id": identity, "generation": 1, "etag": "", "sha256": b"", "recipe": "", "media_type": "text/plain",
        "extractor": "text", "title": None, "page_count": None, "warnings": [], "file_metadata": {}, "sections": [],
        "text": body, "text_length": len(body), "chunk_count": len(spans),
    }  # fmt: skip
    chunks.write_generation(connection, facts, spans, "")


def _vectors(texts: list[str], settings: Settings, cache: Path | None) -> Any:
    from worker.embed.openai import embed
    from worker.services.asking import model_of
    from worker.store import profiles
    from worker.store.session import engine

    if cache is not None and cache.is_file():
        vectors = np.load(cache)
        if len(vectors) == len(texts):
            return vectors
    with engine(settings.database_url).connect() as connection:
        profile = profiles.serving(connection)
    assert profile is not None
    model = model_of(profile, settings)
    vectors = np.concatenate([embed(texts[start : start + 256], model).vectors for start in range(0, len(texts), 256)])
    if cache is not None:
        np.save(cache, vectors)
    return vectors


def ndcg(found: list[str], relevant: dict[str, float], depth: int = 10) -> float:
    """Normalised discounted cumulative gain of the first ``depth``, with the grades as gains."""
    gain = sum(relevant.get(document, 0.0) / math.log2(rank + 2) for rank, document in enumerate(found[:depth]))
    best = sorted(relevant.values(), reverse=True)[:depth]
    return gain / sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best))


def measure(questions: list[Question], settings: Settings) -> dict[str, dict[str, list[float]]]:
    """nDCG@10 by mode and by kind of question; the kind ``all`` has every question."""
    from worker.services.search import Mode, search

    results: dict[str, dict[str, list[float]]] = {}
    for mode in Mode:
        by_kind: dict[str, list[float]] = defaultdict(list)
        for question in questions:
            hits = search(question.text, Scope.of_buckets((BUCKET,)), 30, settings, mode=mode)
            value = ndcg(list(dict.fromkeys(hit.key for hit in hits)), question.relevant)
            for kind in {question.kind, "all"}:
                by_kind[kind].append(value)
        results[mode.value] = dict(by_kind)
    return results


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--collection", type=Path, help="a folder with docs.jsonl, queries.jsonl and qrels.tsv")
    folder: Path | None = parser.parse_args().collection
    documents, questions = read(folder or OWN)
    sys.stdout.write(f"{len(documents)} documents, {len(questions)} questions\n")
    with services() as settings:
        store(documents, settings, folder / "vectors.npy" if folder is not None else None)
        results = measure(questions, settings)
    kinds = [*sorted({question.kind for question in questions} - {"all"}), "all"]
    sys.stdout.write(f"{'nDCG@10':<10}" + "".join(f"{kind:>16}" for kind in kinds) + "\n")
    for mode, by_kind in results.items():
        sys.stdout.write(f"{mode:<10}" + "".join(f"{np.mean(by_kind[kind]):16.3f}" for kind in kinds) + "\n")
    sys.stdout.write(f"{'questions':<10}" + "".join(f"{len(by_kind[kind]):16}" for kind in kinds) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
