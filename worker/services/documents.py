"""What is known of documents, for people: their status, their text and chunks, and counts by status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, and_, select, tuple_

from worker.domain.document import Status
from worker.domain.scope import Scope
from worker.settings import Settings
from worker.store import gates
from worker.store.models import Document, DocumentChunk, Gate, Generation
from worker.store.scoping import visible
from worker.store.session import snapshot

_PAGE = 500


@dataclass(frozen=True, slots=True)
class DocumentStatus:
    """One document as ``status`` shows it. ``text_length`` and ``chunks`` are of the generation that is served."""

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


def _status(row: RowMapping, closed: list[Gate]) -> DocumentStatus:
    values = dict(row)
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
        return None if row is None else _status(row, [])


def statuses(
    scope: Scope, settings: Settings, *, key: str | None = None, status: Status | None = None
) -> Iterator[DocumentStatus]:
    """The documents in the scope, by bucket and key, read in pages of 500 so that memory stays bounded."""
    condition = visible(scope)
    if key is not None:
        condition = and_(condition, Document.key == key)
    if status is not None:
        condition = and_(condition, Document.status == status)
    query = select(*_COLUMNS).outerjoin(Generation, _SERVED).where(condition).order_by(Document.bucket, Document.key).limit(_PAGE)
    page = query
    while True:
        # A transaction a page: a reader that pauses holds none.
        with snapshot(settings.database_url) as connection:
            closed = gates.closed(connection)
            rows = connection.execute(page).mappings().all()
        yield from (_status(row, closed) for row in rows)
        if len(rows) < _PAGE:
            return
        page = query.where(tuple_(Document.bucket, Document.key) > (rows[-1]["bucket"], rows[-1]["key"]))


def show(scope: Scope, key: str, settings: Settings) -> DocumentDetail | None:
    """The document with this key and all that is served of it, as of one moment; None where there is none."""
    with snapshot(settings.database_url) as connection:
        row = (
            connection.execute(
                select(*_COLUMNS).outerjoin(Generation, _SERVED).where(visible(scope), Document.key == key).limit(1)
            )
            .mappings()
            .one_or_none()
        )
        if row is None:
            return None
        served = connection.execute(
            select(Generation).where(Generation.document_id == row["id"], Generation.generation == row["active_generation"])
        ).one_or_none()
        return DocumentDetail(
            status=_status(row, gates.closed(connection)),
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
