"""Vectors by the digest of their text: written once, whichever documents have the text, and however often it comes.

So the searched table is the cache too: a text that was embedded is never sent again while its vector stands (Promise 4). A chunk
has a vector where its digest is there; nothing is copied for it. Texts that stand in no chunk any more are erased after a while
(``worker.store.pruning``), which is what keeps a rename from costing anything.

No lease fences these rows: whoever writes the vector of a text, late or twice, writes the same thing. What makes a document's
version served is its end in the embedding stage, which asks here, under the fence, whether every chunk has its vector.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from psycopg import sql
from psycopg.errors import UniqueViolation
from sqlalchemy import Connection, text

from worker.domain.digests import DIGEST_SIZE
from worker.domain.vectors import Vectors
from worker.store.driver import VECTORS_LOCK
from worker.store.profiles import Profile
from worker.store.session import psycopg_below

_TRIES, _PAUSE = 100, 0.025

# Which of the digests, one behind the other, stand in no chunk. One value and not an array: a millisecond less for 128.
_NOWHERE = text(
    f"SELECT number FROM generate_series(0, :digests - 1) AS number WHERE NOT EXISTS "
    f"(SELECT FROM document_chunks c WHERE c.text_sha256 = substr(:together, {DIGEST_SIZE} * number + 1, {DIGEST_SIZE}))"
)
_TRY = text("SELECT pg_try_advisory_xact_lock(:lock)")
# Rows that are made at a time: PostgreSQL takes some while the next are made.
_SLICE = 32


class StandsAlready(Exception):
    """A vector of one of these texts was written meanwhile."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text to embed, and the digest under which its vector stands."""

    digest: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """Texts without a vector, each once, of chunks up to ``last`` (an ordinal); ``chunks`` counts those that have them.

    ``more``: there may be others behind.
    """

    texts: list[Text]
    chunks: int
    last: int
    more: bool


def missing(
    connection: Connection,
    profile: Profile,
    document_id: uuid.UUID,
    generation: int,
    after: int,
    limit: int,
    with_refused: bool = True,
) -> Page:
    """The next ``limit`` chunks behind the ordinal ``after`` that have no vector: an absent row is a null embedding.

    Without ``with_refused``, those are left out whose text was refused when the profile was filled.
    """
    refused = "EXISTS (SELECT FROM refused_texts r WHERE r.profile_id = :profile AND r.text_sha256 = c.text_sha256)"
    rows = connection.execute(
        text(
            "SELECT c.ordinal, c.text, c.text_sha256 FROM document_chunks c "
            "WHERE c.document_id = :document_id AND c.generation = :generation AND c.ordinal > :after "
            f"AND NOT EXISTS (SELECT FROM {profile.table} e WHERE e.text_sha256 = c.text_sha256) "
            f"{'' if with_refused else f'AND NOT {refused} '}"
            "ORDER BY c.ordinal LIMIT :limit"
        ),
        {"document_id": document_id, "generation": generation, "after": after, "limit": limit}
        | ({} if with_refused else {"profile": profile.id}),
    ).all()
    texts = {bytes(row.text_sha256): row.text for row in rows}
    return Page([Text(*item) for item in texts.items()], len(rows), rows[-1].ordinal if rows else after, len(rows) == limit)


def write(connection: Connection, profile: Profile, digests: Sequence[bytes], vectors: Vectors, careful: bool = False) -> int:
    """COPY ``vectors`` (float32, a row a digest, ``profile.dimensions`` columns) in binary form; one that stands already stays.

    In the order of the digests, so that two writers with texts in common can't wait for each other. A text that stands in no
    chunk by now, because its document was overwritten or removed meanwhile, gets none. Returns how many were written or stood.

    Raises:
        StandsAlready: another process was faster with one of the texts, which is rare. The transaction is lost; with ``careful``,
            which costs about half as much again, that can't happen.
    """
    nowhere = set(connection.execute(_NOWHERE, {"digests": len(digests), "together": b"".join(digests)}).scalars())
    order = sorted((index for index in range(len(digests)) if index not in nowhere), key=lambda index: digests[index])
    rows = ([digests[index] for index in order], vectors[order], profile.storage)
    if not careful:
        try:
            _copy(connection, profile.table, *rows)
        except UniqueViolation as error:
            raise StandsAlready from error
        return len(order)
    connection.execute(text(f"CREATE TEMP TABLE vectors_in (LIKE {profile.table} INCLUDING STORAGE) ON COMMIT DROP"))
    _copy(connection, "vectors_in", *rows)
    connection.execute(text(f"INSERT INTO {profile.table} SELECT * FROM vectors_in ORDER BY text_sha256 ON CONFLICT DO NOTHING"))
    connection.execute(text("DROP TABLE vectors_in"))
    return len(order)


def binary_rows(digests: Sequence[bytes], vectors: Vectors, storage: str) -> Iterator[bytes]:
    """Rows of (digest, vector) in COPY's binary format, many at once: a driver that makes each by itself takes more CPU.

    PostgreSQL manual, "COPY", "Binary Format"; a vector is its dimensions, two bytes of nothing, and its numbers, all of them
    big-endian (pgvector, ``vector_send`` and ``halfvec_send``).
    """
    dimensions, number = vectors.shape[1], np.dtype(">f2" if storage == "halfvec" else ">f4")
    row = np.dtype(
        [
            ("fields", ">i2"), ("digest_size", ">i4"), ("digest", f"V{DIGEST_SIZE}"),
            ("vector_size", ">i4"), ("dimensions", ">i2"), ("unused", ">i2"), ("vector", number, (dimensions,)),
        ]
    )  # fmt: skip
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for start in range(0, len(digests), _SLICE):
        some = digests[start : start + _SLICE]
        rows = np.zeros(len(some), row)
        rows["fields"], rows["digest_size"], rows["vector_size"] = 2, DIGEST_SIZE, 4 + dimensions * number.itemsize
        rows["digest"] = np.frombuffer(b"".join(some), f"V{DIGEST_SIZE}")
        rows["dimensions"], rows["vector"] = dimensions, vectors[start : start + _SLICE]
        yield rows.tobytes()
    yield b"\xff\xff"


def _copy(connection: Connection, table: str, digests: Sequence[bytes], vectors: Vectors, storage: str) -> None:
    copy = sql.SQL("COPY {} (text_sha256, embedding) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table))
    with psycopg_below(connection).cursor() as cursor, cursor.copy(copy) as stream:
        for rows in binary_rows(digests, vectors, storage):
            stream.write(rows)


def hold(connection: Connection) -> bool:
    """Until the end of this transaction nobody relies on vectors; False where others do all the time. By trying: behind one who
    waits, every document that is about to end would wait too."""
    for _ in range(_TRIES):
        if connection.execute(_TRY, {"lock": VECTORS_LOCK}).scalar_one():
            return True
        time.sleep(_PAUSE)
    return False


def numbers(connection: Connection, profile: Profile, generations: Mapping[uuid.UUID, int]) -> dict[uuid.UUID, int]:
    """How many chunks of each document's generation have a vector of ``profile``.

    A sub-select of one row is one look-up in the primary key for each chunk; a join may be planned as a scan of all vectors.
    """
    rows = connection.execute(
        text(
            f"SELECT c.document_id, count((SELECT 1 FROM {profile.table} e WHERE e.text_sha256 = c.text_sha256)) "
            "FROM unnest(CAST(:ids AS uuid[]), CAST(:generations AS bigint[])) AS working(document_id, generation) "
            "JOIN document_chunks c USING (document_id, generation) GROUP BY c.document_id"
        ),
        {"ids": list(generations), "generations": list(generations.values())},
    )
    return {document_id: int(number) for document_id, number in rows}


def whole(connection: Connection, profile: Profile, document_id: uuid.UUID, generation: int) -> int:
    """How many chunks the generation has; 0 where one has no vector of ``profile``, or where another profile serves by now.

    It stays so until the end of a transaction whose fence relies on vectors (``worker.store.leases.fence``).

    Raises:
        RuntimeError: the generation has no chunk.
    """
    row = connection.execute(
        text(
            "SELECT count(*) AS chunks, count(e.text_sha256) AS vectors, "
            "(SELECT serving FROM embedding_profiles WHERE id = :profile) AS serving FROM document_chunks c "
            f"LEFT JOIN {profile.table} e ON e.text_sha256 = c.text_sha256 "
            "WHERE c.document_id = :document_id AND c.generation = :generation"
        ),
        {"document_id": document_id, "generation": generation, "profile": profile.id},
    ).one()
    if row.chunks == 0:
        raise RuntimeError("a generation without a chunk can't be served")
    return int(row.chunks) if row.serving and row.chunks == row.vectors else 0
