"""The task of the embedding stage: I/O-bound, on a queue of its own."""

from __future__ import annotations

from celery import shared_task

from worker.contract import TASK_NAMES, Stage, WakeUp
from worker.services.embedding import embed_document
from worker.tasks.base import DocumentTask, TaskResult, run_stage, wake


@shared_task(base=DocumentTask, name=TASK_NAMES[Stage.EMBED])
def generate_embeddings(document_id: str, generation: int | None = None) -> TaskResult:
    """Give every chunk of the document a vector, then serve the new generation in one step.

    Args:
        document_id: the document's UUID.
        generation: the generation wanted when the message was sent. It is told in logs only: the row decides.

    Returns:
        ``{"status": "success", "document_id": …, "embeddings_generated": …}``; ``"retrying"`` or ``"skipped"``.

    Raises:
        PermanentError: the document ended in a terminal status.
    """
    result = run_stage(Stage.EMBED, embed_document, document_id, generation)
    if isinstance(result, dict):
        return result
    if result.wake_generation is not None:
        wake(WakeUp(document_id, result.wake_generation, Stage.EXTRACT))
    return {"status": "success", "document_id": document_id, "embeddings_generated": result.embeddings_generated}
