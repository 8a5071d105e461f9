"""The content-addressed cache: (profile, sha256 of a chunk's text) -> vector. The same text is paid for once.

Vectors go to and fro inside the database: none of them crosses the wire for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import Connection, text

from worker.store.profiles import Profile


def fill(connection: Connection, profile: Profile, document_id: uuid.UUID, generation: int) -> int:
    """Give each chunk of this generation whose text is known its vector. Returns how many got one now."""
    result = connection.execute(
        text(
            f"INSERT INTO {profile.table} (chunk_id, embedding) "
            f"SELECT c.id, k.embedding::{profile.storage} FROM document_chunks c "
            "JOIN embedding_cache k ON k.profile_id = :profile_id AND k.text_sha256 = c.text_sha256 "
            "WHERE c.document_id = :document_id AND c.generation = :generation ON CONFLICT (chunk_id) DO NOTHING"
        ),
        {"profile_id": profile.id, "document_id": document_id, "generation": generation},
    )
    return result.rowcount


def remember(connection: Connection, profile: Profile, chunk_ids: Sequence[int]) -> None:
    """Keep the stored vectors of these chunks under their texts' digests; one that is known already stays.

    In the order of the digests, so that two writers with texts in common can't wait for each other.
    """
    connection.execute(
        text(
            "INSERT INTO embedding_cache (profile_id, text_sha256, embedding) "
            f"SELECT :profile_id, c.text_sha256, e.embedding::vector FROM {profile.table} e "
            "JOIN document_chunks c ON c.id = e.chunk_id WHERE e.chunk_id = ANY(:chunk_ids) "
            "ORDER BY c.text_sha256 ON CONFLICT (profile_id, text_sha256) DO NOTHING"
        ),
        {"profile_id": profile.id, "chunk_ids": list(chunk_ids)},
    )
