"""A scope as SQL: the one place that says which documents a caller sees, and which of their chunks."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, false, or_

from worker.domain.filters import Filters
from worker.domain.scope import Scope
from worker.store.models import Document, DocumentChunk, Generation

_Chunks = TypeVar("_Chunks", bound=Select[*tuple[Any, ...]])


def visible(scope: Scope) -> ColumnElement[bool]:
    """The condition that every read of documents carries: within the scope's buckets and prefixes."""
    in_buckets = Document.bucket.in_(scope.buckets)
    if "" in scope.prefixes:
        return in_buckets
    # "Starts with", not LIKE: a prefix may hold % and _ . As an operator, its selectivity is known to the planner.
    return and_(in_buckets, or_(false(), *(Document.key.op("^@", is_comparison=True)(prefix) for prefix in scope.prefixes)))


def served(
    chunks: _Chunks,
    scope: Scope,
    filters: Filters,
    document_id: ColumnElement[Any] | None = None,
    generation: ColumnElement[Any] | None = None,
) -> _Chunks:
    """``chunks`` narrowed to those that are served, that the caller may see, and that the filters leave.

    ``chunks`` selects from ``document_chunks``, or has the two columns of that which say whose chunk it is.
    """
    owner: Any = DocumentChunk.document_id if document_id is None else document_id
    version: Any = DocumentChunk.generation if generation is None else generation
    narrowed: Any = chunks.join(Document, and_(Document.id == owner, Document.active_generation == version)).where(visible(scope))
    if filters.key is not None:
        narrowed = narrowed.where(Document.key == filters.key)
    if filters.document_id is not None:
        narrowed = narrowed.where(Document.id == filters.document_id)
    if filters.after is not None:
        narrowed = narrowed.where(Document.last_modified >= filters.after)
    if filters.before is not None:
        narrowed = narrowed.where(Document.last_modified < filters.before)
    if filters.media_types or filters.metadata:
        narrowed = narrowed.join(Generation, and_(Generation.document_id == owner, Generation.generation == version))
    if filters.media_types:
        narrowed = narrowed.where(Generation.media_type.in_(filters.media_types))
    for name, value in filters.metadata:
        narrowed = narrowed.where(Generation.file_metadata.contains({name: value}))
    return narrowed  # type: ignore[no-any-return]  # SQLAlchemy has no type for "the same select, joined"
