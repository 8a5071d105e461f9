"""The task of the embedding stage: I/O-bound, on a queue of its own."""

from __future__ import annotations

from celery import shared_task

from worker import telemetry
from worker.contract import TASK_NAMES, Stage, WakeUp
from worker.domain.errors import LeaseLost
from worker.services.embedding import embed_document
from worker.services.holding import StageFailed
from worker.settings import get_settings
from worker.tasks.base import DocumentTask, TaskResult, outcome_of_failure, parse_document_id, skipped, wake


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
    identity = parse_document_id(document_id)
    with telemetry.document_context(document_id=str(identity), generation=generation, stage=Stage.EMBED.value):
        try:
            result = embed_document(identity, get_settings())
        except LeaseLost:
            return skipped(identity)
        except StageFailed as failure:
            return outcome_of_failure(failure, identity)
        if result is None:
            return skipped(identity)
        if result.wake_generation is not None:
            wake(WakeUp(str(identity), result.wake_generation, Stage.EXTRACT))
        return {
            "status": "success",
            "document_id": str(identity),
            "embeddings_generated": result.embeddings_generated,
        }
