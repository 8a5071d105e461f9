"""The task of the extraction stage: CPU-bound, on a queue of its own."""

from __future__ import annotations

from celery import shared_task

from worker.contract import TASK_NAMES, Stage, WakeUp
from worker.domain.document import Status
from worker.services.extraction import extract_document
from worker.tasks.base import DocumentTask, TaskResult, run_stage, wake


@shared_task(base=DocumentTask, name=TASK_NAMES[Stage.EXTRACT])
def extract_text_from_document(document_id: str, generation: int | None = None) -> TaskResult:
    """Read the document's current object, store its text and chunks, and wake the embedding stage.

    Args:
        document_id: the document's UUID.
        generation: the generation wanted when the message was sent. It is told in logs only: the row decides.

    Returns:
        ``{"status": "success", "document_id": …, "text_length": …, "chunks_created": …}``; ``"deleted"`` where the
        object is gone, ``"unchanged"`` where its bytes are served already, ``"retrying"`` or ``"skipped"``.

    Raises:
        PermanentError: the document ended in a terminal status.
    """
    result = run_stage(Stage.EXTRACT, extract_document, document_id, generation)
    if isinstance(result, dict):
        return result
    if result.wake_generation is not None:
        stage = Stage.EMBED if result.status is Status.EXTRACTED else Stage.EXTRACT
        wake(WakeUp(document_id, result.wake_generation, stage))
    if result.chunks_created == 0:
        return {"status": "deleted" if result.deleted else "unchanged", "document_id": document_id}
    return {
        "status": "success",
        "document_id": document_id,
        "text_length": result.text_length,
        "chunks_created": result.chunks_created,
    }
