"""Search by meaning: the query's vector against the vectors of the chunks that are served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pgvector import Vector
from sqlalchemy import TextClause, text

from worker.domain.errors import IngestError
from worker.domain.scope import Scope
from worker.domain.snippet import Snippet, best_passage
from worker.embed.openai import embed
from worker.settings import Settings
from worker.store import profiles
from worker.store.profiles import Profile
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


# The order and the limit stand alone in the inner query's plan, so that the HNSW index gives the rows nearest first and
# the joins only drop what the caller may not see or what is not served (iterative scan: worker.store.session).
_SEARCH = """
SELECT d.key, d.bucket, d.id AS document_id, g.title, c.ordinal, c.page_start, c.page_end, c.char_start, c.char_end, c.text,
       1 - (e.embedding <=> CAST(:vector AS vector({dimensions}))) AS score,
       (SELECT jsonb_agg(section) FROM jsonb_array_elements(g.sections) section
         WHERE (section->>'char_end')::int > c.char_start AND (section->>'char_start')::int < c.char_end) AS sections
FROM {table} e
JOIN document_chunks c ON c.id = e.chunk_id
JOIN documents d ON d.id = c.document_id AND d.active_generation = c.generation
JOIN generations g ON g.document_id = c.document_id AND g.generation = c.generation
WHERE d.bucket = ANY(:buckets) AND EXISTS (SELECT 1 FROM unnest(CAST(:prefixes AS text[])) p WHERE starts_with(d.key, p))
ORDER BY e.embedding <=> CAST(:vector AS vector({dimensions}))
LIMIT :limit
"""


def statement(profile: Profile) -> TextClause:
    """The search statement over this profile's table: parameters vector, buckets, prefixes, limit."""
    return text(_SEARCH.format(table=profile.table, dimensions=profile.dimensions))


def search(query: str, scope: Scope, limit: int, settings: Settings) -> list[Hit]:
    """The ``limit`` chunks nearest to ``query`` in meaning, nearest first.

    Raises:
        SearchError: the query is blank, or nothing was ever stored under the current embedding profile.
        TransientError: the provider can't embed the query now.
    """
    if not query.strip():
        raise SearchError("empty_query", "the query is empty")
    with snapshot(settings.database_url) as connection:
        profile = profiles.find(
            connection, settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions
        )
    if profile is None:
        raise SearchError("no_profile", f"no table holds vectors of {settings.embedding_model}: run `lex-ingest migrate`")
    vector = embed([query], settings)[0]
    with snapshot(settings.database_url) as connection:
        rows = connection.execute(
            statement(profile),
            {
                "vector": Vector(vector).to_text(),
                "buckets": list(scope.buckets),
                "prefixes": list(scope.prefixes),
                "limit": limit,
            },
        ).mappings()
        return [_hit(dict(row), query) for row in rows]


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
