"""Embedding profiles, and the one typed vector table that each has.

One table a profile keeps the column typed (``vector(384)`` beside ``vector(1536)``) and gives each its own HNSW index.
One table with partial indexes was measured: a generic prepared plan ignores them (DESIGN.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from worker.store.models import EmbeddingProfile

# Any constant will do, as long as nothing else in this database uses it: one process at a time makes tables.
_DDL_LOCK = 0x1E81_0001


@dataclass(frozen=True, slots=True)
class Profile:
    """A provider's model at a number of dimensions. ``table`` holds its vectors: (chunk_id, embedding), of type ``storage``."""

    id: int
    provider: str
    model: str
    dimensions: int
    storage: str = "halfvec"

    @property
    def table(self) -> str:
        return f"embeddings_{self.id}"


def find(connection: Connection, provider: str, model: str, dimensions: int) -> Profile | None:
    """The stored profile, or None before its tables were made."""
    row = connection.execute(
        select(EmbeddingProfile.id, EmbeddingProfile.storage).where(
            EmbeddingProfile.provider == provider, EmbeddingProfile.model == model, EmbeddingProfile.dimensions == dimensions
        )
    ).one_or_none()
    return None if row is None else Profile(row.id, provider, model, dimensions, row.storage)


def ensure(connection: Connection, provider: str, model: str, dimensions: int, storage: str = "halfvec") -> Profile:
    """Return the profile, making its row, its table and its index where they are missing. Safe to run at once by many.

    A profile that is there keeps the storage that it was made with.
    """
    connection.execute(select(func.pg_advisory_xact_lock(_DDL_LOCK)))
    connection.execute(
        insert(EmbeddingProfile)
        .values(provider=provider, model=model, dimensions=dimensions, storage=storage)
        .on_conflict_do_nothing()
    )
    profile = find(connection, provider, model, dimensions)
    if profile is None:
        raise RuntimeError("the profile that was just inserted is not there")
    # The name is made of our own integer, and a type modifier can't be a bound parameter.
    connection.execute(
        text(
            f"CREATE TABLE IF NOT EXISTS {profile.table} ("
            "chunk_id bigint PRIMARY KEY REFERENCES document_chunks (id) ON DELETE CASCADE, "
            f"embedding {profile.storage}({profile.dimensions:d}) NOT NULL)"
        )
    )
    # Plain storage keeps the vector in the row: a search reads no TOAST table (pgvector README, "Performance").
    connection.execute(text(f"ALTER TABLE {profile.table} ALTER COLUMN embedding SET STORAGE PLAIN"))
    connection.execute(
        text(
            f"CREATE INDEX IF NOT EXISTS {profile.table}_hnsw ON {profile.table} "
            f"USING hnsw (embedding {profile.storage}_cosine_ops)"
        )
    )
    return profile
