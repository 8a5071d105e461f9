"""Search by meaning: the query's vector against the vectors of the chunks that are served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pgvector.sqlalchemy import HALFVEC, Vector
from sqlalchemy import BigInteger, Column, Integer, MetaData, Select, Table, and_, func, literal_column, select

from worker.domain.errors import IngestError
from worker.domain.scope import Scope
from worker.domain.snippet import Snippet, best_passage
from worker.domain.vectors import Vectors
from worker.embed.openai import embed
from worker.settings import Settings
from worker.store import profiles
from worker.store.models import Document, DocumentChunk, Generation
from worker.store.profiles import Profile
from worker.store.scoping import visible
from worker.store.session import snapshot


class SearchError(IngestError):
    """A search that can't be run: ``empty_query``, ``no_profile``."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. ``score`` is the cosine similarity, 1 at most; ``page`` is where ``snippet`` stands.

    Offsets are code points of the document's text; ``snippet`` is a part of ``text``.
    """

    key: str
    bucket: str
    document_id: UUID
    title: str | None
    page: int | None
    page_start: int | None
    page_end: int | None
    score: float
    ordinal: int
    char_start: int
    char_end: int
    snippet: str
    text: str


def statement(profile: Profile, scope: Scope, vector: Vectors, limit: int) -> Select[*tuple[Any, ...]]:
    """The search over this profile's table, nearest first.

    The HNSW index gives the rows in order, and the joins drop what the caller may not see or what is not served; the scan
    goes on until the limit is full (``hnsw.iterative_scan`` in ``worker.store.session``). The limit is written into the
    statement: of a parameter the planner of a prepared one knows nothing, expects a tenth of the table, and sorts it all.
    """
    kind = HALFVEC if profile.storage == "halfvec" else Vector
    embeddings = Table(profile.table, MetaData(), Column("chunk_id", BigInteger), Column("embedding", kind(profile.dimensions)))
    distance = embeddings.c.embedding.cosine_distance(vector)
    chunk = DocumentChunk
    section = func.jsonb_array_elements(Generation.sections).column_valued("section")
    sections = (
        select(func.jsonb_agg(section))
        .where(
            section.op("->>")("char_end").cast(Integer) > chunk.char_start,
            section.op("->>")("char_start").cast(Integer) < chunk.char_end,
        )
        .correlate(chunk, Generation)
        .scalar_subquery()
    )
    return (
        select(
            Document.key,
            Document.bucket,
            Document.id.label("document_id"),
            Generation.title,
            chunk.ordinal,
            chunk.page_start,
            chunk.page_end,
            chunk.char_start,
            chunk.char_end,
            chunk.text,
            (1 - distance).label("score"),
            sections.label("sections"),
        )
        .select_from(embeddings)
        .join(chunk, chunk.id == embeddings.c.chunk_id)
        .join(Document, and_(Document.id == chunk.document_id, Document.active_generation == chunk.generation))
        .join(Generation, and_(Generation.document_id == chunk.document_id, Generation.generation == chunk.generation))
        .where(visible(scope))
        .order_by(distance)
        .limit(literal_column(str(int(limit))))
    )


def search(query: str, scope: Scope, limit: int, settings: Settings) -> list[Hit]:
    """The ``limit`` chunks nearest to ``query`` in meaning, nearest first.

    Raises:
        SearchError: the query is blank, or nothing was ever stored under the current embedding profile.
        TransientError: the provider can't embed the query now.
    """
    if not query.strip():
        raise SearchError("empty_query", "the query is empty")
    # A terminal may give bytes that are no text (PEP 383); no provider takes them.
    query = query.encode(errors="replace").decode()
    with snapshot(settings.database_url) as connection:
        profile = profiles.find(connection, settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions)
    if profile is None:
        raise SearchError("no_profile", f"no table holds vectors of {settings.embedding_model}: run `lex-ingest migrate`")
    vector = embed([query], settings)[0]
    with snapshot(settings.database_url) as connection:
        rows = connection.execute(statement(profile, scope, vector, limit)).mappings()
        return [_hit(dict(row), query) for row in rows]


def without_vectors(scope: Scope, settings: Settings) -> int:
    """How many served documents of the scope have no vector of the model that is set: search can't find them.

    That is so after another model was set, until the documents are replayed.
    """
    with snapshot(settings.database_url) as connection:
        profile = profiles.find(connection, settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions)
        served = and_(visible(scope), Document.active_generation.is_not(None))
        if profile is not None:
            embeddings = Table(profile.table, MetaData(), Column("chunk_id", BigInteger))
            has_vector = (
                select(DocumentChunk.id)
                .join(embeddings, embeddings.c.chunk_id == DocumentChunk.id)
                .where(DocumentChunk.document_id == Document.id, DocumentChunk.generation == Document.active_generation)
                .exists()
            )
            served = and_(served, ~has_vector)
        return connection.execute(select(func.count()).select_from(Document).where(served)).scalar_one()


def _hit(row: dict[str, Any], query: str) -> Hit:
    snippet: Snippet = best_passage(row["text"], query)
    return Hit(
        key=row["key"],
        bucket=row["bucket"],
        document_id=row["document_id"],
        title=row["title"],
        page=_page_at(row["sections"] or [], row["char_start"] + snippet.start, row["page_start"]),
        page_start=row["page_start"],
        page_end=row["page_end"],
        score=float(row["score"]),
        ordinal=row["ordinal"],
        char_start=row["char_start"],
        char_end=row["char_end"],
        snippet=snippet.text,
        text=row["text"],
    )


def _page_at(sections: list[dict[str, Any]], position: int, otherwise: int | None) -> int | None:
    for section in sections:
        if section["char_start"] <= position < section["char_end"]:
            page: int | None = section["page"]
            return page
    return otherwise
