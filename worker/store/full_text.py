"""Chunks by the words of a query: candidates from the index, then BM25 over them.

PostgreSQL has no index that gives rows in the order of a rank, so the work is bounded by choosing candidates, whatever the query:

- A word generates candidates if it and the rarer ones stand in at most ``POSTINGS`` chunks together. How common a word is,
  ANALYZE has counted (``most_common_elems``); what is not in that list is rarer than all in it. Commoner words only add to the
  scores of candidates that others gave, and give some themselves as a conjunction: chunks that hold all of them.
- Of the candidates that may be seen, the ``SCORED`` with the most telling words are read and scored.
- Where scope and filters leave at most ``SCORED`` chunks, each of them is scored, and nothing is left to chance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, case, column, func, literal_column, select, text

from worker.domain import bm25
from worker.domain.filters import Filters
from worker.domain.scope import Scope
from worker.store.models import DocumentChunk
from worker.store.scoping import served

POSTINGS = 20_000
SCORED = 1_000
# Words of a query beyond these are left out, the commonest first.
MOST_WORDS = 64

# The number of chunks and their average length, from at most 64 pages of the table.
_SIZE = text("""
    WITH pages AS (SELECT greatest(1, pg_relation_size('document_chunks') / current_setting('block_size')::int) AS number),
    sample AS (SELECT count(*) AS rows, avg(char_end - char_start) AS length
               FROM document_chunks TABLESAMPLE SYSTEM ((SELECT least(100, 6400.0 / number) FROM pages)) REPEATABLE (1))
    SELECT rows * greatest(1, number / 64.0) AS number, coalesce(length, 1) AS length FROM sample, pages
""")
_WORDS = text("""
    SELECT lexeme FROM unnest(to_tsvector('lex_ingest', search_words(:query))) ORDER BY positions[1]
""")
_PHRASES = text("""
    SELECT phraseto_tsquery('lex_ingest', search_words(part))::text AS phrase FROM unnest(CAST(:parts AS text[])) part
""")
# After the frequencies stand the least and the greatest of them.
_COMMON = text("""
    SELECT word.lexeme, share.value, s.most_common_elem_freqs[cardinality(s.most_common_elem_freqs) - 1] AS least
    FROM pg_stats s
    LEFT JOIN LATERAL (SELECT lexeme, place FROM unnest(s.most_common_elems::text::text[]) WITH ORDINALITY AS e (lexeme, place)
                       WHERE lexeme = ANY(CAST(:words AS text[]))) word ON true
    LEFT JOIN LATERAL (SELECT s.most_common_elem_freqs[word.place] AS value) share ON true
    WHERE s.schemaname = current_schema() AND s.tablename = 'document_chunks' AND s.attname = 'words'
      AND s.most_common_elem_freqs IS NOT NULL
""")

_LEXEME = re.compile(r"'([^']+)'")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A query as the index knows it. ``expected`` is each word's share of the chunks, at most; ``phrases`` are tsqueries."""

    words: tuple[str, ...]
    phrases: tuple[str, ...]
    generating: tuple[str, ...]
    common: tuple[str, ...]
    shares: dict[str, float]
    chunks: float
    average_length: float


def quoted(word: str) -> str:
    """The tsquery that is this one word. Words come from ``search_words``: letters and digits, so nothing to escape."""
    if "'" in word or "\\" in word:
        raise ValueError("a word of a query holds a quote")
    return f"'{word}'"


def understand(connection: Connection, query: str, exact: Sequence[str]) -> Wanted:
    """The words of ``query`` that the index may know, and which of them are to generate candidates."""
    words = list(connection.execute(_WORDS, {"query": query}).scalars())
    phrases = [row for row in connection.execute(_PHRASES, {"parts": list(exact)}).scalars() if row] if exact else []
    size = connection.execute(_SIZE).one()
    shares: dict[str, float] = {}
    least = 0.0
    for row in connection.execute(_COMMON, {"words": words}):
        least = float(row.least)
        if row.lexeme is not None:
            shares[row.lexeme] = float(row.value)
    words.sort(key=lambda word: shares.get(word, least))
    del words[MOST_WORDS:]
    generating, total = [], 0.0
    for word in words:
        total += shares.get(word, least) * float(size.number)
        if total <= POSTINGS or word not in shares:
            generating.append(word)
    common = tuple(word for word in words if word not in generating)
    return Wanted(tuple(words), tuple(phrases), tuple(generating), common, shares, float(size.number), float(size.length))


def _postings(wanted: Wanted, only_count: bool) -> tuple[list[str], str]:
    """The tsqueries that give candidates, and SQL for (id, document_id, generation, weight, counts) of what they find."""
    arms = [quoted(word) for word in wanted.generating]
    if wanted.common and not only_count:
        arms.append(" & ".join(quoted(word) for word in wanted.common))
    arms += () if only_count else wanted.phrases
    found = " UNION ALL ".join(
        f"(SELECT {arm} AS arm, id, document_id, generation FROM document_chunks"
        f" WHERE words @@ CAST({_literal(query)} AS tsquery) LIMIT {POSTINGS})"
        for arm, query in enumerate(arms)
    )
    return arms, (
        f"WITH found AS MATERIALIZED ({found}), counted AS (SELECT arm, count(*) AS number FROM found GROUP BY arm) "
        "SELECT id, document_id, generation,"
        f" sum(ln(1 + (greatest({wanted.chunks:f} - number, 0) + 0.5) / (number + 0.5))) AS weight,"
        " (SELECT jsonb_object_agg(arm, number) FROM counted) AS counts"
        " FROM found JOIN counted USING (arm) GROUP BY id, document_id, generation"
    )


def _literal(value: str) -> str:
    """A string as SQL. Written into the statement, so that the planner knows how common the word is."""
    return "'" + value.replace("'", "''") + "'"


def candidates(
    connection: Connection, wanted: Wanted, scope: Scope, filters: Filters, number: int
) -> tuple[list[int], dict[str, float]]:
    """Chunks to score, and each word's number of chunks. ``number``: chunks that scope and filters leave, counted so far."""
    few = number <= SCORED
    arms, sql = _postings(wanted, only_count=few)
    known = {word: share * wanted.chunks for word, share in wanted.shares.items()}
    if few and not arms:
        return list(connection.execute(served(select(DocumentChunk.id), scope, filters)).scalars()), known
    if not arms:
        return [], known
    names = ("id", "document_id", "generation", "weight", "counts")
    found = text(sql.replace(":", r"\:")).columns(*(column(name) for name in names)).subquery("found")
    order = (found.c.weight.desc(), found.c.id)
    counts: dict[str, int] = {}
    if few:
        ids = list(connection.execute(served(select(DocumentChunk.id), scope, filters)).scalars())
        counts = connection.execute(select(found.c.counts).limit(1)).scalar() or {}
    else:
        # The counts once, not with each row.
        once = func.row_number().over(order_by=order) == literal_column("1")
        counted = case((once, found.c.counts)).label("counts")
        of_found = served(select(found.c.id, counted), scope, filters, found.c.document_id, found.c.generation)
        chosen = of_found.order_by(*order).limit(SCORED)
        ids = []
        for row in connection.execute(chosen):
            ids.append(row.id)
            counts = row.counts or counts
    known.update({wanted.generating[int(arm)]: float(n) for arm, n in counts.items() if int(arm) < len(wanted.generating)})
    return ids, known


def score(
    connection: Connection, wanted: Wanted, chunk_ids: Sequence[int], known: dict[str, float]
) -> dict[int, tuple[float, float]]:
    """Each chunk's (BM25 score, share of the query that its phrases in the chunk are); its visibility is known."""
    if not chunk_ids or not (wanted.words or wanted.phrases):
        return dict.fromkeys(chunk_ids, (0.0, 0.0))
    ranks = ", ".join(f"ts_rank('{{1,1,1,1}}', words, CAST({_literal(quoted(word))} AS tsquery))" for word in wanted.words)
    held = ", ".join(f"CAST(words @@ CAST({_literal(phrase)} AS tsquery) AS int)" for phrase in wanted.phrases)
    # Joined with nothing, the words are unpacked once a chunk and not once a rank; OFFSET keeps the planner from undoing that.
    sql = (
        f"SELECT id, length, ARRAY[{ranks}]\\:\\:float8[] AS ranks, ARRAY[{held}]\\:\\:int[] AS held FROM ("
        "SELECT id, char_end - char_start AS length, words || CAST('' AS tsvector) AS words"
        " FROM document_chunks WHERE id = ANY(CAST(:ids AS bigint[])) OFFSET 0) chunk"
    )
    rows = connection.execute(text(sql), {"ids": list(chunk_ids)}).all()
    ids = [row.id for row in rows]
    if not ids:
        return {}
    occurrences = bm25.counts(np.array([row.ranks for row in rows], dtype=np.float64).reshape(len(rows), len(wanted.words)))
    lengths = np.array([row.length for row in rows], dtype=np.float64)
    weights = [bm25.idf(wanted.chunks, known.get(word, 0.0)) for word in wanted.words]
    values = bm25.scores(occurrences, lengths, wanted.average_length, weights)
    weight_of = dict(zip(wanted.words, weights, strict=True))
    # A phrase of a long query says less of it than the one word of a short one.
    telling = [sum(weight_of.get(word, 0.0) for word in set(_LEXEME.findall(phrase))) for phrase in wanted.phrases]
    whole = max(sum(weights), sum(telling), 1e-9)
    shares = [sum(weight * held for weight, held in zip(telling, row.held, strict=True)) / whole for row in rows]
    return dict(zip(ids, zip(values.tolist(), shares, strict=True), strict=True))
