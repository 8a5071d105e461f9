"""Chunks: written in bulk by COPY, under a lease, in the generation that the lease is for."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import Connection, delete, func, insert, select, update

from worker.domain.digests import text_digest
from worker.domain.text import Span
from worker.store.models import Document, DocumentChunk, Generation
from worker.store.session import psycopg_below

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


def write_generation(connection: Connection, facts: dict[str, Any], spans: Iterable[Span], tenant: str) -> None:
    """Insert the generation's row, and its chunks as pieces of its text.

    ``facts`` are the columns of ``generations``; ``tenant`` is whose texts may share a vector (``worker.domain.digests``).
    """
    connection.execute(insert(Generation).values(**facts))
    copy = sql.SQL("COPY document_chunks ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.SQL(", ").join(sql.Identifier(name) for name, _ in _CHUNK_COLUMNS)
    )
    with psycopg_below(connection).cursor() as cursor, cursor.copy(copy) as stream:
        stream.set_types([kind for _, kind in _CHUNK_COLUMNS])
        for ordinal, (page_start, page_end, char_start, char_end) in enumerate(spans):
            piece = facts["text"][char_start:char_end]
            digest = text_digest(piece, tenant)
            place = (page_start, page_end, char_start, char_end)
            stream.write_row((facts["document_id"], facts["generation"], ordinal, piece, digest, *place))


def remove_texts(connection: Connection, document_id: uuid.UUID, generation: int, digests: Sequence[bytes]) -> int:
    """Remove the generation's chunks with these texts, under the caller's fence. Returns how many chunks are left."""
    of_generation = (DocumentChunk.document_id == document_id, DocumentChunk.generation == generation)
    connection.execute(delete(DocumentChunk).where(*of_generation, DocumentChunk.text_sha256.in_(digests)))
    left = connection.execute(select(func.count()).select_from(DocumentChunk).where(*of_generation)).scalar_one()
    changed = update(Generation).where(Generation.document_id == document_id, Generation.generation == generation)
    connection.execute(changed.values(chunk_count=left))
    return left


def served_digest(connection: Connection, document_id: uuid.UUID, generation: int) -> tuple[bytes, str] | None:
    """(sha256 of the object's bytes, recipe) of a stored generation, or None."""
    row = connection.execute(
        select(Generation.sha256, Generation.recipe).where(
            Generation.document_id == document_id, Generation.generation == generation
        )
    ).one_or_none()
    return None if row is None else (bytes(row.sha256), row.recipe)
