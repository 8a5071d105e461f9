"""Chunks by cosine similarity to a vector: through the HNSW index, or exactly where few chunks are left to compare.

The index gives rows in order, and the joins drop what the caller may not see, what is not served and what the filters exclude;
the scan goes on until the limit is full (``hnsw.iterative_scan`` in ``worker.store.session``), or until
``hnsw.max_scan_tuples`` (20,000) rows or its memory are used up. So a filter whose chunks lie far from the query could lose all
of them: with at most ``EXACT`` chunks left, or after an index scan that ended short, each one that is left is compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pgvector.sqlalchemy import HALFVEC, Vector
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    Select,
    Table,
    any_,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from worker.domain.filters import Filters
from worker.domain.scope import Scope
from worker.domain.vectors import Vectors
from worker.store.models import DocumentChunk
from worker.store.profiles import Profile
from worker.store.scoping import served

EXACT = 10_000


def _table(profile: Profile) -> Table:
    """The profile's vectors; the one place of search that knows their type."""
    kind = HALFVEC if profile.storage == "halfvec" else Vector
    return Table(profile.table, MetaData(), Column("text_sha256", LargeBinary), Column("embedding", kind(profile.dimensions)))


def left(connection: Connection, scope: Scope, filters: Filters, most: int) -> int:
    """How many chunks scope and filters leave, counted up to ``most``."""
    some = served(select(literal_column("1").label("one")).select_from(DocumentChunk), scope, filters).limit(most).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one()


def by_index(profile: Profile, scope: Scope, filters: Filters, vector: Vectors, limit: int) -> Select[*tuple[Any, ...]]:
    """(id, similarity), nearest first, by the index.

    The limit is written into the statement: of a parameter the planner of a prepared one knows nothing, expects a tenth of
    the table, and sorts it all.
    """
    embeddings = _table(profile)
    distance = embeddings.c.embedding.cosine_distance(vector)
    chunks = select(DocumentChunk.id, (1 - distance).label("similarity")).select_from(embeddings)
    chunks = chunks.join(DocumentChunk, DocumentChunk.text_sha256 == embeddings.c.text_sha256)
    return served(chunks, scope, filters).order_by(distance).limit(literal_column(str(int(limit))))


def exactly(profile: Profile, scope: Scope, filters: Filters, vector: Vectors, limit: int) -> Select[*tuple[Any, ...]]:
    """The same by comparing every chunk that is left."""
    embeddings = _table(profile)
    distance = embeddings.c.embedding.cosine_distance(vector)
    chunks = select(DocumentChunk.id, (1 - distance).label("similarity")).select_from(embeddings)
    chunks = chunks.join(DocumentChunk, DocumentChunk.text_sha256 == embeddings.c.text_sha256)
    # An expression that no index has.
    return served(chunks, scope, filters).order_by(distance + literal_column("0.0"), DocumentChunk.id).limit(limit)


def nearest(
    connection: Connection, profile: Profile, scope: Scope, filters: Filters, vector: Vectors, limit: int, number: int
) -> dict[int, float]:
    """The ``limit`` nearest chunks and their similarities. ``number``: ``left``, counted beyond ``EXACT``."""
    found: Sequence[Any] = ()
    if number > EXACT:
        found = connection.execute(by_index(profile, scope, filters, vector, limit)).all()
    if len(found) < limit:
        found = connection.execute(exactly(profile, scope, filters, vector, limit)).all()
    return _numbers(found)


def similarities(connection: Connection, profile: Profile, vector: Vectors, chunk_ids: Sequence[int]) -> dict[int, float]:
    """The similarities of these chunks, whose visibility is known. One without a vector is left out."""
    embeddings = _table(profile)
    wanted = bindparam("ids", list(chunk_ids), type_=ARRAY(BigInteger))
    found = connection.execute(
        select(DocumentChunk.id, (1 - embeddings.c.embedding.cosine_distance(vector)).label("similarity"))
        .join(embeddings, embeddings.c.text_sha256 == DocumentChunk.text_sha256)
        .where(DocumentChunk.id == any_(wanted))
    ).all()
    return _numbers(found)


def _numbers(rows: Sequence[Any]) -> dict[int, float]:
    """The similarities by chunk. A vector of zeros, which was stored before they were refused, has none (NaN)."""
    return {row.id: float(row.similarity) for row in rows if not math.isnan(row.similarity)}
