"""What is known of documents, for people: their status, their text and chunks, and counts by status."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, select, tuple_

from worker.domain.document import Status
from worker.domain.errors import PermanentError
from worker.domain.scope import Scope
from worker.settings import Settings
from worker.store import gates, profiles, vectors
from worker.store.models import Document, DocumentChunk, Gate, Generation
from worker.store.scoping import visible
from worker.store.session import snapshot

_PAGE = 500
# The most chunks per page of rows that are looked up for their vectors, which takes about 30 ms. Documents beyond that get no
# count of vectors.
_MOST_COUNTED = 20_000


@dataclass(frozen=True, slots=True)
class DocumentStatus:
    """One document as ``status`` shows it. ``text_length`` and ``chunks`` are of the generation that is served.

    ``chunks_total`` are those of the generation that is being embedded, ``chunks_embedded`` those of them that have a vector of
    the profile that serves. Both are None unless a document is EXTRACTED or EMBEDDING; the latter also where a page of documents
    has more chunks than are counted at a time.
    """

    document_id: UUID
    bucket: str
    key: str
    status: Status
    error_code: str | None
    error: str | None
    attempts: int
    generation: int
    desired_generation: int
    active_generation: int | None
    etag: str | None
    version_id: str | None
    size: int | None
    content_type: str | None
    text_length: int | None
    chunks: int
    chunks_embedded: int | None
    chunks_total: int | None
    waits_for: str | None
    due_at: datetime | None
    created_at: datetime
    updated_at: datetime
    indexed_at: datetime | None


@dataclass(frozen=True, slots=True)
class DocumentDetail:
    """A document with the text that is served, its sections (pages, slides, headings) and its chunks."""

    status: DocumentStatus
    title: str | None
    media_type: str | None
    extractor: str | None
    page_count: int | None
    metadata: dict[str, str]
    warnings: list[str]
    text: str
    sections: list[dict[str, Any]]
    chunks: list[dict[str, Any]]


_COLUMNS = (
    Document.id,
    Document.bucket,
    Document.key,
    Document.status,
    Document.error_code,
    Document.error,
    Document.attempts,
    Document.generation,
    Document.desired_generation,
    Document.active_generation,
    Document.etag,
    Document.version_id,
    Document.size,
    Document.content_type,
    Generation.text_length,
    Generation.chunk_count,
    Document.lease_token,
    Document.queued,
    Document.due_at,
    Document.created_at,
    Document.updated_at,
    Document.indexed_at,
)
_SERVED = and_(Generation.document_id == Document.id, Generation.generation == Document.active_generation)


def _waits_for(row: RowMapping, closed: list[Gate]) -> str | None:
    """In words, what a row that is not terminal waits for: derived, never stored. ``due_at`` says until when."""
    if row["due_at"] is None:
        return None
    if row["lease_token"] is not None:
        return "the worker that holds it"
    if closed and row["status"] == Status.EXTRACTED:
        whom = "the next day" if closed[0].code == "budget_day" else "the provider"
        return f"{whom} ({closed[0].code}): {closed[0].reason}"
    return "a free worker" if row["queued"] else "its next attempt"


def _status(row: RowMapping, closed: list[Gate], progress: dict[UUID, tuple[int | None, int]]) -> DocumentStatus:
    values = dict(row)
    values["chunks_embedded"], values["chunks_total"] = progress.get(row["id"], (None, None))
    if closed and row["status"] == Status.EXTRACTED and row["due_at"] is not None:
        values["due_at"] = max(row["due_at"], closed[0].closed_until)
    values["document_id"] = values.pop("id")
    values["status"] = Status(values["status"])
    values["chunks"] = values.pop("chunk_count") or 0
    del values["lease_token"], values["queued"]
    return DocumentStatus(waits_for=_waits_for(row, closed), **values)


def status_of(document_id: UUID, settings: Settings) -> DocumentStatus | None:
    """One document by its id, for a task: tasks work for every caller, so this alone has no scope."""
    with snapshot(settings.database_url) as connection:
        row = (
            connection.execute(select(*_COLUMNS).outerjoin(Generation, _SERVED).where(Document.id == document_id))
            .mappings()
            .one_or_none()
        )
        return None if row is None else _status(row, [], {})


def statuses(
    scope: Scope,
    settings: Settings,
    *,
    key: str | None = None,
    keys: Collection[str] | None = None,
    status: Status | None = None,
    with_progress: bool = False,
) -> Iterator[DocumentStatus]:
    """The documents in the scope, by bucket and key, read in pages of 500 so that memory stays bounded.

    Args:
        key: only documents of this key.
        keys: only documents of these keys; the order is then by slices of them.
        status: only documents in this status.
        with_progress: count the chunks that have a vector, of documents that are being embedded.
    """
    if keys is not None:
        wanted = sorted(keys)
        for start in range(0, len(wanted), _PAGE):
            within = Document.key.in_(wanted[start : start + _PAGE])
            yield from _pages(and_(visible(scope), within), settings, with_progress)
        return
    condition = visible(scope)
    if key is not None:
        condition = and_(condition, Document.key == key)
    if status is not None:
        condition = and_(condition, Document.status == status)
    yield from _pages(condition, settings, with_progress)


def _pages(condition: ColumnElement[bool], settings: Settings, with_progress: bool) -> Iterator[DocumentStatus]:
    query = select(*_COLUMNS).outerjoin(Generation, _SERVED).where(condition).order_by(Document.bucket, Document.key).limit(_PAGE)
    page = query
    while True:
        # A transaction a page: a reader that pauses holds none.
        with snapshot(settings.database_url) as connection:
            closed = gates.closed(connection)
            rows = connection.execute(page).mappings().all()
            progress = _progress(connection, rows) if with_progress else {}
        yield from (_status(row, closed, progress) for row in rows)
        if len(rows) < _PAGE:
            return
        page = query.where(tuple_(Document.bucket, Document.key) > (rows[-1]["bucket"], rows[-1]["key"]))


def _progress(connection: Connection, rows: Sequence[RowMapping]) -> dict[UUID, tuple[int | None, int]]:
    """Per document that is being embedded, the number of chunks with a vector (None if not counted) and of all chunks."""
    working = {row["id"]: row["generation"] for row in rows if row["status"] in (Status.EXTRACTED, Status.EMBEDDING)}
    if not working:
        return {}
    totals = connection.execute(
        select(Generation.document_id, Generation.chunk_count)
        .where(tuple_(Generation.document_id, Generation.generation).in_(list(working.items())))
        .order_by(Generation.chunk_count)
    ).all()
    profile = profiles.serving(connection)
    counted: dict[UUID, int] = {}
    # Count the small documents first, so that a giant one does not use up the limit.
    for document_id, chunks in totals:
        if sum(counted.values()) + chunks <= _MOST_COUNTED:
            counted[document_id] = chunks
    embedded = (
        {}
        if profile is None
        else vectors.numbers(connection, profile, {document_id: working[document_id] for document_id in counted})
    )
    return {document_id: (embedded.get(document_id), chunks) for document_id, chunks in totals}


def show(scope: Scope, key: str, settings: Settings) -> DocumentDetail | None:
    """The document with this key and all that is served of it, as of one moment; None where there is none.

    Raises:
        PermanentError: ``several_buckets``: the scope's buckets have more than one document with this key.
    """
    with snapshot(settings.database_url) as connection:
        found = (
            connection.execute(
                select(*_COLUMNS)
                .outerjoin(Generation, _SERVED)
                .where(visible(scope), Document.key == key)
                .order_by(Document.bucket)
            )
            .mappings()
            .all()
        )
        if len(found) > 1:
            buckets = ", ".join(row["bucket"] for row in found)
            raise PermanentError(
                "several_buckets", f"Several buckets have a document with this key ({buckets}): name one of them."
            )
        if not found:
            return None
        (row,) = found
        served = connection.execute(
            select(Generation).where(Generation.document_id == row["id"], Generation.generation == row["active_generation"])
        ).one_or_none()
        return DocumentDetail(
            status=_status(row, gates.closed(connection), _progress(connection, [row])),
            title=served.title if served else None,
            media_type=served.media_type if served else None,
            extractor=served.extractor if served else None,
            page_count=served.page_count if served else None,
            metadata=served.file_metadata if served else {},
            warnings=served.warnings if served else [],
            text=served.text if served else "",
            sections=served.sections if served else [],
            chunks=_chunks(connection, row["id"], row["active_generation"]),
        )


def _chunks(connection: Connection, document_id: UUID, generation: int | None) -> list[dict[str, Any]]:
    columns = (
        DocumentChunk.ordinal,
        DocumentChunk.page_start,
        DocumentChunk.page_end,
        DocumentChunk.char_start,
        DocumentChunk.char_end,
        DocumentChunk.text,
    )
    rows = connection.execute(
        select(*columns)
        .where(DocumentChunk.document_id == document_id, DocumentChunk.generation == generation)
        .order_by(DocumentChunk.ordinal)
    ).mappings()
    return [dict(row) for row in rows]
