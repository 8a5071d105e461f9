"""Chunks and their vectors: written in bulk by COPY, under a lease, in the generation that the lease is for."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pgvector import HalfVector, Vector
from psycopg import Connection as PsycopgConnection
from psycopg import sql
from sqlalchemy import Connection, delete, insert, select, text, update

from worker.domain.text import Span
from worker.domain.vectors import Vectors
from worker.store.models import Document, Generation
from worker.store.profiles import Profile

_CHUNK_COLUMNS = (
    ("document_id", "uuid"),
    ("generation", "int8"),
    ("ordinal", "int4"),
    ("text", "text"),
    ("text_sha256", "bytea"),
    ("page_start", "int4"),
    ("page_end", "int4"),
    ("char_start", "int4"),
    ("char_end", "int4"),
)


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """What the embedding stage needs of a chunk."""

    id: int
    text: str
    text_sha256: bytes


def _psycopg(connection: Connection) -> PsycopgConnection[Any]:
    """The driver's connection below SQLAlchemy's, inside the same transaction: COPY is the driver's own."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, PsycopgConnection):
        raise TypeError("the worker's engine must use psycopg")
    return driver


def replace_unserved(connection: Connection, document_id: uuid.UUID, active_generation: int | None) -> None:
    """Remove every generation but the one that is served: what an earlier, unfinished run has left."""
    statement = delete(Generation).where(Generation.document_id == document_id)
    if active_generation is not None:
        statement = statement.where(Generation.generation != active_generation)
    connection.execute(statement)


def withdraw(connection: Connection, document_id: uuid.UUID) -> None:
    """Serve nothing any more: remove every generation with its text, chunks and vectors, in the caller's transaction."""
    connection.execute(update(Document).where(Document.id == document_id).values(active_generation=None))
    replace_unserved(connection, document_id, None)


def write_generation(connection: Connection, facts: dict[str, Any], spans: Iterable[Span]) -> None:
    """Insert the generation's row, and its chunks as pieces of its text. ``facts`` are the columns of ``generations``."""
    connection.execute(insert(Generation).values(**facts))
    copy = sql.SQL("COPY document_chunks ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.SQL(", ").join(sql.Identifier(name) for name, _ in _CHUNK_COLUMNS)
    )
    with _psycopg(connection).cursor() as cursor, cursor.copy(copy) as stream:
        stream.set_types([kind for _, kind in _CHUNK_COLUMNS])
        for ordinal, (page_start, page_end, char_start, char_end) in enumerate(spans):
            piece = facts["text"][char_start:char_end]
            digest = sha256(piece.encode()).digest()
            place = (page_start, page_end, char_start, char_end)
            stream.write_row((facts["document_id"], facts["generation"], ordinal, piece, digest, *place))


def without_vector(connection: Connection, profile: Profile, document_id: uuid.UUID, generation: int) -> list[StoredChunk]:
    """The chunks of this generation that have no vector yet, in order: an absent row is a null embedding."""
    rows = connection.execute(
        text(
            "SELECT c.id, c.text, c.text_sha256 FROM document_chunks c "
            f"LEFT JOIN {profile.table} e ON e.chunk_id = c.id "
            "WHERE c.document_id = :document_id AND c.generation = :generation AND e.chunk_id IS NULL ORDER BY c.ordinal"
        ),
        {"document_id": document_id, "generation": generation},
    )
    return [StoredChunk(row.id, row.text, bytes(row.text_sha256)) for row in rows]


def write_vectors(connection: Connection, profile: Profile, chunk_ids: Iterable[int], vectors: Vectors) -> None:
    """COPY ``vectors`` (float32, one row a chunk, ``profile.dimensions`` columns) in binary form."""
    copy = sql.SQL("COPY {} (chunk_id, embedding) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(profile.table))
    with _psycopg(connection).cursor() as cursor, cursor.copy(copy) as stream:
        stream.set_types(["int8", profile.storage])
        wrap = HalfVector if profile.storage == "halfvec" else Vector
        for chunk_id, vector in zip(chunk_ids, vectors, strict=True):
            stream.write_row((chunk_id, wrap(vector)))


def swap(connection: Connection, profile: Profile, document_id: uuid.UUID, generation: int) -> int:
    """Make ``generation`` the one that is served and remove the others, in the caller's transaction.

    Returns the number of chunks that are served now.

    Raises:
        RuntimeError: a chunk has no vector, so the generation is not whole.
    """
    counts = connection.execute(
        text(
            "SELECT count(*) AS chunks, count(e.chunk_id) AS vectors FROM document_chunks c "
            f"LEFT JOIN {profile.table} e ON e.chunk_id = c.id "
            "WHERE c.document_id = :document_id AND c.generation = :generation"
        ),
        {"document_id": document_id, "generation": generation},
    ).one()
    if counts.chunks == 0 or counts.chunks != counts.vectors:
        raise RuntimeError(f"{counts.vectors} of {counts.chunks} chunks have a vector")
    connection.execute(update(Document).where(Document.id == document_id).values(active_generation=generation))
    replace_unserved(connection, document_id, generation)
    return int(counts.chunks)


def served_digest(connection: Connection, document_id: uuid.UUID, generation: int) -> tuple[bytes, str] | None:
    """(sha256 of the object's bytes, recipe) of a stored generation, or None."""
    row = connection.execute(
        select(Generation.sha256, Generation.recipe).where(
            Generation.document_id == document_id, Generation.generation == generation
        )
    ).one_or_none()
    return None if row is None else (bytes(row.sha256), row.recipe)
