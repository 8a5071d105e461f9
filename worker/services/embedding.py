"""The embedding stage: chunks without a vector get one, then the generation is served in one step."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import numpy as np

from worker.contract import Stage
from worker.domain.batching import batches
from worker.domain.document import Status
from worker.domain.errors import ProviderUnusable
from worker.embed.openai import embed
from worker.services.holding import held, take
from worker.settings import Settings
from worker.store import chunks, embedding_cache, leases, profiles
from worker.store.chunks import StoredChunk
from worker.store.leases import Lease
from worker.store.profiles import Profile
from worker.store.session import transaction


@dataclass(frozen=True, slots=True)
class Result:
    """``embeddings_generated`` counts the vectors stored by this run, from the provider or from the cache."""

    status: Status
    wake_generation: int | None
    embeddings_generated: int
    provider_inputs: int


def embed_document(document_id: UUID, settings: Settings) -> Result | None:
    """Run the stage for one document, or return None where there is nothing to do.

    Vectors are stored batch by batch under the lease, so that a crash repeats at most one batch.

    Raises:
        StageFailed: the row says what follows.
        LeaseLost: somebody else has the document, or its object is gone.
    """
    lease = take(document_id, Stage.EMBED, settings)
    if lease is None:
        return None
    with held(lease, settings) as heartbeat:
        profile, from_cache, waiting = _prepare(lease, settings)
        # A text that stands in several chunks is sent once.
        by_text: dict[bytes, list[StoredChunk]] = {}
        for piece in waiting:
            by_text.setdefault(piece.text_sha256, []).append(piece)
        groups = list(by_text.values())
        for batch in batches([group[0].text for group in groups], settings.embedding_batch):
            heartbeat.check()
            sent = groups[batch.start : batch.stop]
            vectors = embed([group[0].text for group in sent], settings)
            ids = [piece.id for group in sent for piece in group]
            with transaction(settings.database_url) as connection:
                leases.fence(connection, lease)
                chunks.write_vectors(connection, profile, ids, np.repeat(vectors, [len(group) for group in sent], axis=0))
                embedding_cache.remember(connection, profile, ids)
        heartbeat.check()
        with transaction(settings.database_url) as connection:
            leases.fence(connection, lease)
            chunks.swap(connection, profile, lease.document_id, lease.generation)
            ended = leases.finish(
                connection,
                lease,
                Status.INDEXED,
                settings.requeue_after,
                attempts=0,
                error_code=None,
                error=None,
                indexed_at=leases.in_seconds(0),
            )
        return Result(ended.status, ended.wake_generation, from_cache + len(waiting), len(groups))


def _prepare(lease: Lease, settings: Settings) -> tuple[Profile, int, list[StoredChunk]]:
    """Take what is known from the cache. Returns the profile, how many vectors that gave, and the chunks that need one."""
    with transaction(settings.database_url) as connection:
        profile = profiles.find(connection, settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions)
        if profile is None:
            raise ProviderUnusable(
                "profile_missing", f"no table holds vectors of {settings.embedding_model}: run `lex-ingest migrate`"
            )
        leases.fence(connection, lease)
        from_cache = embedding_cache.fill(connection, profile, lease.document_id, lease.generation)
        return profile, from_cache, chunks.without_vector(connection, profile, lease.document_id, lease.generation)
