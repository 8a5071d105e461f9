"""Documents that wait for the embedding stage, put into PostgreSQL in bulk, and what has become of them.

So that the stage can be loaded alone: no object, no event, no extraction. The documents' rows are COPYed here, the
generations and chunks are written by the store's own function, so a column that is added later is added here too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

import numpy as np
import psycopg

from tests.support.provider_rules import tokens_of
from tests.support.provider_vectors import table_vector_of, vector_of
from worker.domain.document import Status
from worker.settings import Settings
from worker.store import chunks, profiles
from worker.store.session import engine

_BATCH = 200
_BETWEEN = "\n\n"
_LETTERS = "etaoinshrdlucmfwypvbgk"
_COLUMNS = (
    "id uuid", "bucket text", "key text", "status text", "desired_generation int8", "generation int8",
    "etag text", "size int8", "content_type text", "hint_etag text",
)  # fmt: skip


@dataclass(frozen=True)
class Load:
    """Documents, each a list of chunks' texts. ``ids`` are in the order of ``documents``."""

    ids: list[UUID]
    documents: list[list[str]]
    prefix: str

    @property
    def chunks(self) -> int:
        return sum(map(len, self.documents))

    @property
    def texts(self) -> set[str]:
        """The different texts: with a cache that knows none of them, what has to be embedded once each."""
        return {text for document in self.documents for text in document}

    @property
    def tokens(self) -> int:
        """What the test provider counts for the different texts."""
        return sum(map(tokens_of, self.texts))


def seeded_text(choose: random.Random, length: int) -> str:
    """Words of a made-up language, exactly ``length`` characters, without white space at the ends."""
    words: list[str] = []
    missing = length
    while missing > 0:
        words.append("".join(choose.choices(_LETTERS, k=choose.randint(2, 9))))
        missing -= len(words[-1]) + 1
    return " ".join(words)[:length].rstrip().ljust(length, "x")


def make(
    documents: int, lengths: Sequence[int] | Callable[[random.Random], Sequence[int]], seed: int = 1, shared: float = 0.0
) -> list[list[str]]:
    """The chunks of so many documents. ``lengths`` are those of each document's chunks, or a function that draws them.

    ``shared`` is the chance that a chunk is one of a few that many documents have (a letterhead, a disclaimer).
    """
    choose = random.Random(seed)
    common: dict[int, list[str]] = {}
    made = []
    for _ in range(documents):
        document = []
        for length in lengths(choose) if callable(lengths) else lengths:
            if choose.random() < shared:
                pool = common.setdefault(length, [])
                if len(pool) < 10:
                    pool.append(seeded_text(choose, length))
                document.append(choose.choice(pool))
            else:
                document.append(seeded_text(choose, length))
        made.append(document)
    return made


def insert(settings: Settings, documents: Sequence[Sequence[str]], prefix: str = "load/", queued: bool = False) -> Load:
    """Put documents into the database as extraction leaves them: EXTRACTED, due now.

    ``queued`` says that somebody sends the wake-ups: then they are due in an hour, and no dispatcher takes them before. Keys are
    ``prefix`` and a number; the bucket is the first one of ``settings``.
    """
    choose = random.Random(prefix)
    ids = [UUID(int=choose.getrandbits(128), version=4) for _ in documents]
    names, kinds = zip(*(column.split() for column in _COLUMNS), strict=True)
    with psycopg.connect(settings.database_url) as rows:
        with (
            rows.cursor() as cursor,
            cursor.copy(f"COPY documents ({', '.join(names)}) FROM STDIN (FORMAT BINARY)".encode()) as copy,
        ):
            copy.set_types(kinds)
            for number, (identity, pieces) in enumerate(zip(ids, documents, strict=True)):
                etag = f"{number:032x}"
                size = len(_BETWEEN.join(pieces).encode())
                key = f"{prefix}{number:06d}.txt"
                # Not to be taken before its chunks are there: a row that waits for extraction is nobody's without a message.
                copy.write_row((identity, settings.buckets[0], key, Status.PENDING, 1, 1, etag, size, "text/plain", etag))
        rows.execute("UPDATE documents SET due_at = now() + interval '1 hour' WHERE id = ANY(%s)", [ids])
    for start in range(0, len(ids), _BATCH):
        with engine(settings.database_url).begin() as connection:
            for number in range(start, min(start + _BATCH, len(ids))):
                chunks.write_generation(connection, *_generation(ids[number], f"{number:032x}", documents[number]), "")
    due = "now() + interval '1 hour'" if queued else "now()"
    with psycopg.connect(settings.database_url) as rows:
        statement = f"UPDATE documents SET status = %s, queued = %s, due_at = {due} WHERE id = ANY(%s)"
        rows.execute(statement.encode(), [Status.EXTRACTED, queued, ids])
    return Load(ids, [list(pieces) for pieces in documents], prefix)


def _generation(identity: UUID, etag: str, pieces: Sequence[str]) -> tuple[dict[str, Any], list[Any]]:
    text = _BETWEEN.join(pieces)
    spans, start = [], 0
    for piece in pieces:
        spans.append((None, None, start, start + len(piece)))
        start += len(piece) + len(_BETWEEN)
    facts = {
        "document_id": identity, "generation": 1, "etag": etag, "version_id": None, "sha256": sha256(text.encode()).digest(),
        "recipe": "load", "media_type": "text/plain", "extractor": "load", "warnings": [], "sections": [], "text": text,
        "text_length": len(text), "chunk_count": len(pieces),
    }  # fmt: skip
    return facts, spans


@dataclass(frozen=True)
class Outcome:
    """How a load stands. ``attempts`` and ``lease_losses`` are sums; ``served`` counts documents with an active generation.

    ``incomplete`` are served documents with a chunk that has no vector: there must never be one.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    lease_losses: int = 0
    served: int = 0
    chunks: int = 0
    vectors: int = 0
    incomplete: int = 0

    @property
    def finished(self) -> bool:
        """Whether every document has reached an end."""
        return set(self.statuses) <= {Status.INDEXED, Status.FAILED}


def outcome(settings: Settings, prefix: str = "load/") -> Outcome:
    """Read how the documents of a load stand now."""
    statement = f"""
        WITH loaded AS (SELECT * FROM documents WHERE starts_with(key, %(prefix)s)),
        counted AS (
            SELECT c.document_id, count(*) AS chunks, count(e.text_sha256) AS vectors
            FROM loaded d JOIN document_chunks c ON c.document_id = d.id LEFT JOIN {_table(settings)} e USING (text_sha256)
            GROUP BY c.document_id)
        SELECT d.status, d.error_code, sum(d.attempts)::int, sum(d.lease_losses)::int, count(*), count(d.active_generation),
               coalesce(sum(c.chunks), 0)::int, coalesce(sum(c.vectors), 0)::int,
               count(*) FILTER (WHERE d.active_generation IS NOT NULL AND c.vectors IS DISTINCT FROM c.chunks)
        FROM loaded d LEFT JOIN counted c ON c.document_id = d.id GROUP BY 1, 2"""
    with psycopg.connect(settings.database_url) as rows:
        found = rows.execute(statement.encode(), {"prefix": prefix}).fetchall()
    statuses: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for status, code, _, _, number, *_ in found:
        statuses[status] += number
        if code is not None:
            errors[code] += number
    attempts, losses, _, served, has_chunks, has_vectors, incomplete = (sum(row[place] for row in found) for place in range(2, 9))
    return Outcome(statuses, errors, attempts, losses, served, has_chunks, has_vectors, incomplete)


def waiting(settings: Settings, prefix: str = "load/") -> int:
    """How many documents of a load have not reached an end: cheap, for whoever measures meanwhile."""
    statement = "SELECT count(*) FROM documents WHERE due_at IS NOT NULL AND starts_with(key, %s)"
    with psycopg.connect(settings.database_url) as rows:
        (number,) = rows.execute(statement, [prefix]).fetchone() or (0,)
        return int(number)


def strangers(settings: Settings, prefix: str = "load/", way: str = "words", most: int = 1000) -> list[int]:
    """The chunks, of up to ``most``, whose vector is not the one that the test provider gives for their text.

    Loose enough for half precision: another text's vector is far away.
    """
    statement = f"""
        SELECT c.id, c.text, e.embedding::text FROM documents d JOIN document_chunks c ON c.document_id = d.id
        JOIN {_table(settings)} e USING (text_sha256)
        WHERE starts_with(d.key, %s) ORDER BY c.text_sha256, c.id LIMIT %s"""
    wrong = []
    with psycopg.connect(settings.database_url) as rows:
        for identity, text, written in rows.execute(statement.encode(), [prefix, most]):
            stored = np.asarray(written.strip("[]").split(","), dtype=np.float32)
            digest = sha256(text.encode()).digest()
            right = vector_of(text, len(stored)) if way == "words" else table_vector_of(digest, len(stored))
            if not np.allclose(stored, right, atol=2e-3):
                wrong.append(int(identity))
    return wrong


def repeated(settings: Settings, times: dict[str, int], prefix: str = "load/") -> dict[str, int]:
    """The load's texts that were not embedded exactly once, by the provider's ``texts``: sha256 in hex -> how often."""
    statement = """
        SELECT DISTINCT encode(c.text_sha256, 'hex') FROM documents d JOIN document_chunks c ON c.document_id = d.id
        WHERE starts_with(d.key, %s)"""
    with psycopg.connect(settings.database_url) as rows:
        digests = [row[0] for row in rows.execute(statement, [prefix])]
    return {digest: times.get(digest, 0) for digest in digests if times.get(digest, 0) != 1}


def _table(settings: Settings) -> str:
    with engine(settings.database_url).connect() as connection:
        profile = profiles.find(connection, settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions)
    assert profile is not None, "no profile: migrate first"
    return profile.table
