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
from worker.domain.document import Status
from worker.domain.errors import Unavailable
from worker.domain.text import Reading
from worker.extract.reading import Order
from worker.extract.sandbox import Sandbox
from worker.services.heartbeat import Heartbeat
from worker.services.holding import held, take
from worker.services.settling import object_columns
from worker.settings import Settings
from worker.store import chunks, leases
from worker.store.leases import Lease
from worker.store.session import transaction

log = telemetry.get_logger(__name__)

# Raise it when extractors or the chunker change what they give: replay then reads unchanged objects again.
RECIPE_VERSION = 4


def recipe(settings: Settings, key: str) -> str:
    """Everything besides the bytes that decides the text, the chunks and their digests. The model is none of that: what another
    one lacks is filled in (worker.services.filling)."""
    limits, tenant = settings.chunk_limits(key), settings.tenant(key)
    made = f"v{RECIPE_VERSION} pdf={settings.pdf_engine} chunk={limits.size}/{limits.overlap}"
    return f"{made} tenant={tenant}" if tenant else made


# Of CPU time for any object, and more for each byte: a Markdown list of 1.6 MB with four bytes per item takes 15.
_SECONDS, _SECONDS_PER_BYTE = 20.0, 1e-5


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
        reading = _sandbox_of_process(os.getpid()).read(
            Path(f"/dev/fd/{file.fileno()}"), order_for(lease.key, download.size, settings)
        )
        return _store(lease, download, reading, heartbeat, settings)


def order_for(key: str, size: int, settings: Settings) -> Order:
    """How an object of so many bytes is read. Most are read in a fraction of a second: what is small has no five minutes, unless
    pdfminer is to read it alone, which takes a quarter of a second a page."""
    limits = settings.chunk_limits(key)
    seconds = _SECONDS + _SECONDS_PER_BYTE * size
    return Order(
        name=Path(key).name,
        timeout=settings.extract_timeout if settings.pdf_engine == "pdfminer" else min(settings.extract_timeout, seconds),
        memory=settings.extract_memory,
        max_text_chars=settings.max_text_chars,
        chunk_size=limits.size,
        chunk_overlap=limits.overlap,
        pdf_engine=settings.pdf_engine,
    )


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
    reading: Reading,
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
        "media_type": reading.media_type,
        "extractor": reading.extractor,
        "title": reading.title,
        "page_count": reading.page_count,
        "warnings": list(reading.warnings),
        "file_metadata": {name: value for name, value in asdict(reading.metadata).items() if value is not None},
        "sections": [asdict(section) for section in reading.sections],
        "text": reading.text,
        "text_length": len(reading.text),
        "chunk_count": len(reading.spans),
    }
    heartbeat.check()
    with transaction(settings.database_url) as connection:
        leases.fence(connection, lease)
        chunks.replace_unserved(connection, lease.document_id, lease.active_generation)
        chunks.write_generation(connection, facts, reading.spans, settings.tenant(lease.key))
        ended = leases.hand_on(connection, lease, settings.requeue_after, **object_columns(download.facts))
    return Result(ended.status, ended.wake_generation, len(reading.text), len(reading.spans))
