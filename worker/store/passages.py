"""What a hit shows of its chunk: where it stands, its text, and the sections that it is in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Integer, and_, func, select

from worker.domain.filters import Filters
from worker.domain.scope import Scope
from worker.store.models import Document, DocumentChunk, Generation
from worker.store.scoping import served


def passages(connection: Connection, scope: Scope, chunk_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The chunks of these ids that are served and that the caller may see, by id."""
    chunk, generation = DocumentChunk, Generation.__table__.alias("of_chunk")
    section = func.jsonb_array_elements(generation.c.sections).column_valued("section")
    sections = (
        select(func.jsonb_agg(section))
        .where(
            section.op("->>")("char_end").cast(Integer) > chunk.char_start,
            section.op("->>")("char_start").cast(Integer) < chunk.char_end,
        )
        .correlate(chunk, generation)
        .scalar_subquery()
    )
    wanted = (
        select(
            chunk.id,
            Document.key,
            Document.bucket,
            Document.id.label("document_id"),
            generation.c.title,
            chunk.ordinal,
            chunk.page_start,
            chunk.page_end,
            chunk.char_start,
            chunk.char_end,
            chunk.text,
            sections.label("sections"),
        )
        .select_from(chunk)
        .join(generation, and_(generation.c.document_id == chunk.document_id, generation.c.generation == chunk.generation))
        .where(chunk.id == func.any(list(chunk_ids)))
    )
    return {row["id"]: dict(row) for row in connection.execute(served(wanted, scope, Filters())).mappings()}
