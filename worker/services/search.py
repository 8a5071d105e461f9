"""Search: by meaning (vectors), by words (full text), or by both, over the chunks that are served."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from worker.domain import fusion
from worker.domain.errors import IngestError, PermanentError, TransientError
from worker.domain.exact import exact_parts
from worker.domain.filters import NOTHING, Filters
from worker.domain.scope import Scope
from worker.domain.snippet import Snippet, best_passage
from worker.domain.text import storable
from worker.domain.vectors import Vectors
from worker.extract.blocks import clean
from worker.settings import Settings
from worker.store import full_text, nearest, profiles
from worker.store.passages import passages
from worker.store.profiles import Profile
from worker.store.session import is_gone, snapshot

# Characters of a query that are used. A longer query finds nothing better, and a model with a short context refuses it.
QUERY_LENGTH = 2000

# The vector of a query by a profile: float32 of shape (dimensions,).
EmbedQuery = Callable[[str, Profile, Settings], Vectors]


class Mode(StrEnum):
    """What a hit's score says, and what orders hits: see ``Hit``."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    TEXT = "text"


class SearchError(IngestError):
    """A search that can't be run: ``empty_query``, ``no_profile``, ``query_rejected``, ``query_vector``."""


class QueryNotEmbedded(TransientError):
    """The provider gave no vector for a query. ``code`` is that of the provider's error."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. ``page`` is where ``snippet`` stands; offsets are code points of the document's text.

    ``score`` compares the hits of one search, not of two, except by vectors of one model:

    - vector: the cosine similarity, 1 at most;
    - text: BM25 (``worker.domain.bm25``), 1 for a chunk of average length with every word of the query once; and up to 1 more
      if it holds what the query wants to the letter (``worker.domain.exact``), by how much of the query that is;
    - hybrid: both, from 0 to 1 (``worker.domain.fusion``), and the same 1 more.
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


def search(
    query: str,
    scope: Scope,
    limit: int,
    settings: Settings,
    *,
    mode: Mode = Mode.HYBRID,
    filters: Filters = NOTHING,
    embed: EmbedQuery | None = None,
) -> list[Hit]:
    """The ``limit`` chunks that answer ``query`` best, best first.

    ``embed`` gives the query's vector, where the provider is not to be asked for it. A profile that is switched off meanwhile
    answers as ever, and where it was dropped the one that serves by now is asked. Of the query ``QUERY_LENGTH`` characters count.

    Raises:
        SearchError: the query has no visible character or is refused, its vector has no direction, or no profile serves.
        QueryNotEmbedded: the provider can't embed the query now; ``text`` needs no provider.
    """
    query = storable(query)[:QUERY_LENGTH]
    if not clean(query):
        raise SearchError("empty_query", "the query is empty")
    for last in (False, True):
        profile, vector = None, None
        if mode is not Mode.TEXT:
            with snapshot(settings.database_url) as connection:
                profile = profiles.serving(connection)
            if profile is None:
                raise SearchError("no_profile", "no table holds vectors: run `lex-ingest migrate`")
            vector = _vector(query, profile, settings, embed or _ask_provider)
        try:
            return _run(query, scope, filters, limit, mode, settings, profile, vector)
        except DBAPIError as error:
            if last or profile is None or not is_gone(error):
                raise
    raise AssertionError("the second try returns or raises")


def _vector(query: str, profile: Profile, settings: Settings, embed: EmbedQuery) -> Vectors:
    """Embed the query. Refuses a vector without a direction (zero or NaN), with which each similarity would be NaN."""
    advice = "`--mode text` finds by words and needs no embedding provider"
    try:
        vector = embed(query, profile, settings)
    except TransientError as error:
        raise QueryNotEmbedded(error.code, f"The query got no vector: {error}. {advice}.") from error
    except PermanentError as error:
        raise SearchError("query_rejected", f"the provider refuses the query ({error.code}); {advice}") from error
    if not np.isfinite(vector).all() or not vector.any():
        raise SearchError("query_vector", f"the query's vector is zero or has NaN, so nothing is near it; {advice}")
    return vector


def _ask_provider(query: str, profile: Profile, settings: Settings) -> Vectors:
    # Imported here: the openai client takes longer to import than the rest of a search, and `text` needs none.
    from worker.services.asking import embed_query

    return embed_query(query, profile, settings)


def _run(
    query: str,
    scope: Scope,
    filters: Filters,
    limit: int,
    mode: Mode,
    settings: Settings,
    profile: Profile | None,
    vector: Vectors | None,
) -> list[Hit]:
    with snapshot(settings.database_url) as connection:
        scores = _scores(connection, query, scope, filters, limit, mode, profile, vector)
        best = sorted(scores, key=lambda chunk: (-scores[chunk], chunk))[:limit]
        rows = passages(connection, scope, best)
    return [_hit(rows[chunk], scores[chunk], query) for chunk in best if chunk in rows]


def _scores(
    connection: Connection,
    query: str,
    scope: Scope,
    filters: Filters,
    limit: int,
    mode: Mode,
    profile: Profile | None,
    vector: Vectors | None,
) -> dict[int, float]:
    """Candidates by chunk id, with the score of the mode."""
    number = nearest.left(connection, scope, filters, nearest.EXACT + 1)
    depth = max(limit, fusion.DEPTH) if mode is Mode.HYBRID else limit
    by_meaning: dict[int, float] = {}
    if profile is not None and vector is not None:
        by_meaning = nearest.nearest(connection, profile, scope, filters, vector, depth, number)
        if mode is Mode.VECTOR:
            return by_meaning
    wanted = full_text.understand(connection, query, exact_parts(query))
    candidates, known = full_text.candidates(connection, wanted, scope, filters, number)
    words = full_text.score(connection, wanted, list({*candidates, *by_meaning}), known)
    by_words = {chunk: score + held for chunk, (score, held) in words.items() if score > 0 or held > 0}
    first = sorted(by_words, key=lambda chunk: (-by_words[chunk], chunk))[:depth]
    if profile is None or vector is None:
        return {chunk: by_words[chunk] for chunk in first}
    chunks = list({*first, *by_meaning})
    missing = nearest.similarities(connection, profile, vector, [chunk for chunk in first if chunk not in by_meaning])
    similarities = _column({**missing, **by_meaning}.get(chunk, np.nan) for chunk in chunks)
    scores = fusion.fused(
        similarities, _column(words[chunk][0] for chunk in chunks), _column(words[chunk][1] for chunk in chunks)
    )
    return dict(zip(chunks, scores.tolist(), strict=True))


def _column(values: Iterable[float]) -> Any:
    return np.fromiter(values, dtype=np.float64)


def _hit(row: dict[str, Any], score: float, query: str) -> Hit:
    snippet: Snippet = best_passage(row["text"], query)
    return Hit(
        key=row["key"],
        bucket=row["bucket"],
        document_id=row["document_id"],
        title=row["title"],
        page=_page_at(row["sections"] or [], row["char_start"] + snippet.start, row["page_start"]),
        page_start=row["page_start"],
        page_end=row["page_end"],
        score=score,
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
