"""The content-addressed cache: (profile, sha256 of a chunk's text) -> vector. The same text is paid for once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from worker.domain.vectors import Vectors
from worker.store.models import CachedEmbedding
from worker.store.profiles import Profile


def look_up(connection: Connection, profile: Profile, digests: Sequence[bytes]) -> dict[bytes, Vectors]:
    """The vectors that are known for these digests, each of shape (dimensions,) in float32."""
    rows = connection.execute(
        select(CachedEmbedding.text_sha256, CachedEmbedding.embedding).where(
            CachedEmbedding.profile_id == profile.id, CachedEmbedding.text_sha256.in_(set(digests))
        )
    )
    return {bytes(row.text_sha256): np.asarray(row.embedding, dtype=np.float32) for row in rows}


def remember(connection: Connection, profile: Profile, digests: Sequence[bytes], vectors: Vectors) -> None:
    """Store vectors under their digests; one that is known already stays. Sorted, so that two writers can't deadlock."""
    known = dict(zip(digests, vectors, strict=True))
    connection.execute(
        insert(CachedEmbedding).on_conflict_do_nothing(),
        [
            {"profile_id": profile.id, "text_sha256": digest, "embedding": vector}
            for digest, vector in sorted(known.items(), key=lambda item: item[0])
        ],
    )
