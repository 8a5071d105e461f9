"""Vectors by the digest of their text: written once, whichever documents have the text, and however often it comes.

So the searched table is the cache too: a text that was embedded is never sent again while its vector stands (Promise 4). A chunk
has a vector where its digest is there; nothing is copied for it. Texts that stand in no chunk any more are erased after a while
(``worker.store.pruning``), which is what keeps a rename from costing anything.

No lease fences these rows: whoever writes the vector of a text, late or twice, writes the same thing. What makes a document's
version served is ``worker.store.chunks.swap``, which asks here, under the fence, whether every chunk has its vector.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from pgvector import HalfVector, Vector
from psycopg import sql
from psycopg.errors import UniqueViolation
from sqlalchemy import Connection, func, select, text

from worker.domain.vectors import Vectors
from worker.store.driver import VECTORS_LOCK
from worker.store.profiles import Profile
from worker.store.session import psycopg_below

_TRIES, _PAUSE = 100, 0.025

_STANDING = text(
    "SELECT digest FROM unnest(CAST(:digests AS bytea[])) AS digest "
    "WHERE EXISTS (SELECT FROM document_chunks c WHERE c.text_sha256 = digest)"
)


@dataclass(frozen=True, slots=True)
class Text:
    """A text to embed, and the digest under which its vector stands."""

    digest: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """Texts without a vector, each once, of chunks up to ``last`` (an ordinal); ``chunks`` counts those that have them.

    ``more``: there may be others behind.
    """

    texts: list[Text]
    chunks: int
    last: int
    more: bool


def missing(
    connection: Connection,
    profile: Profile,
    document_id: uuid.UUID,
    generation: int,
    after: int,
    limit: int,
    with_refused: bool = True,
) -> Page:
    """The next ``limit`` chunks behind the ordinal ``after`` that have no vector: an absent row is a null embedding.

    Without ``with_refused``, those are left out whose text was refused when the profile was filled.
    """
    refused = "EXISTS (SELECT FROM refused_texts r WHERE r.profile_id = :profile AND r.text_sha256 = c.text_sha256)"
    rows = connection.execute(
        text(
            "SELECT c.ordinal, c.text, c.text_sha256 FROM document_chunks c "
            "WHERE c.document_id = :document_id AND c.generation = :generation AND c.ordinal > :after "
            f"AND NOT EXISTS (SELECT FROM {profile.table} e WHERE e.text_sha256 = c.text_sha256) "
            f"{'' if with_refused else f'AND NOT {refused} '}"
            "ORDER BY c.ordinal LIMIT :limit"
        ),
        {"document_id": document_id, "generation": generation, "after": after, "limit": limit}
        | ({} if with_refused else {"profile": profile.id}),
    ).all()
    texts = {bytes(row.text_sha256): row.text for row in rows}
    return Page([Text(*item) for item in texts.items()], len(rows), rows[-1].ordinal if rows else after, len(rows) == limit)


def write(connection: Connection, profile: Profile, digests: Sequence[bytes], vectors: Vectors) -> int:
    """COPY ``vectors`` (float32, a row a digest, ``profile.dimensions`` columns) in binary form; one that stands already stays.

    In the order of the digests, so that two writers with texts in common can't wait for each other. A text that stands in no
    chunk by now, because its document was overwritten or removed meanwhile, gets none. Returns how many were written or stood.
    """
    found = connection.execute(_STANDING, {"digests": list(digests)}).scalars()
    standing = {bytes(digest) for digest in found}
    order = sorted((index for index, digest in enumerate(digests) if digest in standing), key=lambda index: digests[index])
    try:
        with connection.begin_nested():
            _copy(connection, profile, profile.table, digests, vectors, order)
    except UniqueViolation:
        # Another process was faster with one of the texts: rare enough to pay for it then.
        connection.execute(text(f"CREATE TEMP TABLE vectors_in (LIKE {profile.table} INCLUDING STORAGE) ON COMMIT DROP"))
        _copy(connection, profile, "vectors_in", digests, vectors, order)
        connection.execute(
            text(f"INSERT INTO {profile.table} SELECT * FROM vectors_in ORDER BY text_sha256 ON CONFLICT DO NOTHING")
        )
        connection.execute(text("DROP TABLE vectors_in"))
    return len(order)


def _copy(
    connection: Connection, profile: Profile, table: str, digests: Sequence[bytes], vectors: Vectors, order: Sequence[int]
) -> None:
    copy = sql.SQL("COPY {} (text_sha256, embedding) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table))
    wrap = HalfVector if profile.storage == "halfvec" else Vector
    with psycopg_below(connection).cursor() as cursor, cursor.copy(copy) as stream:
        stream.set_types(["bytea", profile.storage])
        for index in order:
            stream.write_row((digests[index], wrap(vectors[index])))


def rely_on(connection: Connection) -> None:
    """Until the end of this transaction nobody erases a vector, nor switches the profile that serves."""
    connection.execute(select(func.pg_advisory_xact_lock_shared(VECTORS_LOCK)))


def hold(connection: Connection) -> bool:
    """Until the end of this transaction nobody relies on vectors; False where others do all the time. By trying: behind one who
    waits, every document that is about to end would wait too."""
    for _ in range(_TRIES):
        if connection.execute(select(func.pg_try_advisory_xact_lock(VECTORS_LOCK))).scalar_one():
            return True
        time.sleep(_PAUSE)
    return False


def stand(connection: Connection, profile: Profile, document_id: uuid.UUID, generation: int) -> tuple[int, int]:
    """(chunks of this generation, chunks of it that have a vector)."""
    row = connection.execute(
        text(
            "SELECT count(*) AS chunks, count(e.text_sha256) AS vectors FROM document_chunks c "
            f"LEFT JOIN {profile.table} e ON e.text_sha256 = c.text_sha256 "
            "WHERE c.document_id = :document_id AND c.generation = :generation"
        ),
        {"document_id": document_id, "generation": generation},
    ).one()
    return row.chunks, row.vectors
