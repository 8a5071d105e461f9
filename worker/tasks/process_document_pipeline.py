"""The pipeline's first task: check the document and wake the stage that it waits for."""

from __future__ import annotations

from celery import shared_task

from worker.contract import TASK_NAMES, Stage, WakeUp
from worker.domain.document import WAITING_FOR
from worker.services import documents
from worker.settings import get_settings
from worker.tasks.base import DocumentNotFound, DocumentTask, TaskResult, parse_document_id, skipped, wake


@shared_task(base=DocumentTask, name=TASK_NAMES[Stage.PROCESS])
def process_document_pipeline(document_id: str, generation: int | None = None) -> TaskResult:
    """Wake the stage that the document waits for; that stage claims it.

    Args:
        document_id: the document's UUID.
        generation: the generation wanted when the message was sent. It is told in logs only: the row decides.

    Returns:
        ``{"status": "processing", "document_id": …}``, or ``"skipped"`` where the document waits for nothing.

    Raises:
        DocumentNotFound: no document has this id.
    """
    identity = parse_document_id(document_id)
    row = documents.status_of(identity, get_settings())
    if row is None:
        raise DocumentNotFound("not_found", f"no document has the id {identity}")
    stage = WAITING_FOR.get(row.status)
    if stage is None:
        return skipped(identity)
    wake(WakeUp(str(identity), row.desired_generation if stage is Stage.EXTRACT else row.generation, stage))
    return {"status": "processing", "document_id": str(identity)}
