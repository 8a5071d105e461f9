"""The embedding stage: chunks without a vector get one, then the generation is served in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from worker.contract import Stage
from worker.domain.batching import batches
from worker.domain.document import Status
from worker.domain.errors import ProviderUnusable
from worker.domain.vectors import Vectors
from worker.embed.openai import embed
from worker.services.holding import held
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
    with transaction(settings.database_url) as connection:
        lease = leases.claim(connection, document_id, Stage.EMBED, settings.lease)
    if lease is None:
        return None
    with held(lease, settings) as heartbeat:
        profile, waiting, known = _load(lease, settings)
        cached = [piece for piece in waiting if piece.text_sha256 in known]
        if cached:
            _write(lease, profile, cached, np.stack([known[piece.text_sha256] for piece in cached]), settings)
        # A text that stands in several chunks is sent once.
        unknown = list({piece.text_sha256: piece for piece in waiting if piece.text_sha256 not in known}.values())
        for batch in batches([piece.text for piece in unknown], settings.embedding_batch):
            heartbeat.check()
            sent = unknown[batch.start : batch.stop]
            vectors = embed([piece.text for piece in sent], settings)
            by_digest = {piece.text_sha256: vector for piece, vector in zip(sent, vectors, strict=True)}
            targets = [piece for piece in waiting if piece.text_sha256 in by_digest]
            rows = np.stack([by_digest[piece.text_sha256] for piece in targets])
            _write(lease, profile, targets, rows, settings, remember=(sent, vectors))
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
        return Result(ended.status, ended.wake_generation, len(waiting), len(unknown))


def _load(lease: Lease, settings: Settings) -> tuple[Profile, list[StoredChunk], dict[bytes, Vectors]]:
    with transaction(settings.database_url) as connection:
        profile = profiles.find(connection, settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions)
        if profile is None:
            raise ProviderUnusable(
                "profile_missing", f"no table holds vectors of {settings.embedding_model}: run `lex-ingest migrate`"
            )
        waiting = chunks.without_vector(connection, profile, lease.document_id, lease.generation)
        known = embedding_cache.look_up(connection, profile, [piece.text_sha256 for piece in waiting])
    return profile, waiting, known


def _write(
    lease: Lease,
    profile: Profile,
    pieces: Sequence[StoredChunk],
    vectors: Vectors,
    settings: Settings,
    remember: tuple[Sequence[StoredChunk], Vectors] | None = None,
) -> None:
    with transaction(settings.database_url) as connection:
        leases.fence(connection, lease)
        chunks.write_vectors(connection, profile, [piece.id for piece in pieces], vectors)
        if remember is not None:
            sent, fresh = remember
            embedding_cache.remember(connection, profile, [piece.text_sha256 for piece in sent], fresh)
