"""The extraction stage: the current object of a key becomes the text and the chunks of a new generation."""

from __future__ import annotations

import atexit
import os
import tempfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from worker import objects, telemetry
from worker.contract import Stage
from worker.domain.chunking import Chunk, chunk
from worker.domain.document import Status
from worker.domain.errors import Unavailable
from worker.domain.text import DocumentText, Extraction, assemble
from worker.extract.sandbox import Sandbox
from worker.services.holding import Heartbeat, held, take
from worker.services.settling import object_columns
from worker.settings import Settings
from worker.store import chunks, leases
from worker.store.leases import Lease
from worker.store.session import transaction

log = telemetry.get_logger(__name__)

# Raise it when extractors or the chunker change what they give: replay then reads unchanged objects again.
RECIPE_VERSION = 2


def recipe(settings: Settings, key: str) -> str:
    """Everything besides the bytes that decides the text, the chunks and where their vectors stand."""
    limits = settings.chunk_limits(key)
    return (
        f"v{RECIPE_VERSION} chunk={limits.size}/{limits.overlap} "
        f"profile={settings.embedding_provider}/{settings.embedding_model}/{settings.embedding_dimensions}"
    )


@lru_cache(maxsize=1)
def _sandbox_of_process(process_id: int) -> Sandbox:
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox


@dataclass(frozen=True, slots=True)
class Result:
    """What the stage did: ``status`` is the document's, ``wake_generation`` is set where a stage is to be woken."""

    status: Status
    wake_generation: int | None
    text_length: int = 0
    chunks_created: int = 0
    deleted: bool = False


def extract_document(document_id: UUID, settings: Settings) -> Result | None:
    """Run the stage for one document, or return None where there is nothing to do (a repeated or stale message).

    Raises:
        StageFailed: the row says what follows.
        LeaseLost: somebody else has the document, or its object is gone.
    """
    lease = take(document_id, Stage.EXTRACT, settings)
    if lease is None:
        return None
    with held(lease, settings) as heartbeat, _nameless_file() as file:
        try:
            download = objects.download(lease.bucket, lease.key, file, settings.max_object_bytes)
        except objects.ObjectMissing:
            return _delete(lease, settings)
        heartbeat.read = download.facts
        heartbeat.check()
        if _is_served_already(lease, download, settings):
            return _keep(lease, download, settings)
        extraction = _sandbox_of_process(os.getpid()).extract(
            Path(f"/dev/fd/{file.fileno()}"),
            Path(lease.key).name,
            timeout=settings.extract_timeout,
            memory=settings.extract_memory,
            max_text_chars=settings.max_text_chars,
        )
        document = assemble(extraction.blocks)
        limits = settings.chunk_limits(lease.key)
        pieces = chunk(document, limits.size, limits.overlap)
        return _store(lease, download, extraction, document, pieces, heartbeat, settings)


def _nameless_file() -> BinaryIO:
    """Where the object goes: a worker that is killed leaves nothing on the disk."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise Unavailable("worker_disk", f"the worker can't make a temporary file: {error.strerror}") from error


def _is_served_already(lease: Lease, download: objects.Download, settings: Settings) -> bool:
    if lease.force or lease.active_generation is None:
        return False
    with transaction(settings.database_url) as connection:
        served = chunks.served_digest(connection, lease.document_id, lease.active_generation)
    return served == (download.sha256, recipe(settings, lease.key))


def _delete(lease: Lease, settings: Settings) -> Result:
    """The key is gone: text, chunks and vectors go in the transaction that marks it."""
    with transaction(settings.database_url) as connection:
        leases.fence(connection, lease)
        chunks.withdraw(connection, lease.document_id)
        ended = leases.finish(
            connection,
            lease,
            Status.DELETED,
            settings.requeue_after,
            hint_etag=None,
            error_code=None,
            error=None,
        )
    return Result(ended.status, ended.wake_generation, deleted=True)


def _keep(lease: Lease, download: objects.Download, settings: Settings) -> Result:
    """The bytes are those that are served, made by the same recipe: nothing to extract and nothing to pay for."""
    with transaction(settings.database_url) as connection:
        leases.fence(connection, lease)
        chunks.replace_unserved(connection, lease.document_id, lease.active_generation)
        ended = leases.finish(
            connection,
            lease,
            Status.INDEXED,
            settings.requeue_after,
            error_code=None,
            error=None,
            **object_columns(download.facts),
        )
    return Result(ended.status, ended.wake_generation)


def _store(
    lease: Lease,
    download: objects.Download,
    extraction: Extraction,
    document: DocumentText,
    pieces: list[Chunk],
    heartbeat: Heartbeat,
    settings: Settings,
) -> Result:
    facts: dict[str, Any] = {
        "document_id": lease.document_id,
        "generation": lease.generation,
        "etag": download.facts.etag,
        "version_id": download.facts.version_id,
        "sha256": download.sha256,
        "recipe": recipe(settings, lease.key),
        "media_type": extraction.media_type,
        "extractor": extraction.extractor,
        "title": extraction.title,
        "page_count": extraction.page_count,
        "warnings": list(extraction.warnings),
        "file_metadata": {name: value for name, value in asdict(extraction.metadata).items() if value is not None},
        "sections": [asdict(section) for section in document.sections],
        "text": document.text,
        "text_length": len(document.text),
        "chunk_count": len(pieces),
    }
    heartbeat.check()
    with transaction(settings.database_url) as connection:
        leases.fence(connection, lease)
        chunks.replace_unserved(connection, lease.document_id, lease.active_generation)
        chunks.write_generation(connection, facts, pieces)
        ended = leases.hand_on(connection, lease, settings.requeue_after, **object_columns(download.facts))
    return Result(ended.status, ended.wake_generation, len(document.text), len(pieces))
