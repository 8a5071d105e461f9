"""What the tasks have in common: the base class, and the way from a stage's end to the next wake-up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from celery import Task, current_app

from worker import producer, telemetry
from worker.contract import Stage, WakeUp
from worker.domain.errors import IngestError, LeaseLost, PermanentError
from worker.services import documents
from worker.services.settling import StageFailed
from worker.settings import Settings, get_settings

log = telemetry.get_logger(__name__)

TaskResult = dict[str, Any]
_Result = TypeVar("_Result")

if TYPE_CHECKING:
    # The stubs make Task generic; at run time it is not.
    _Task = Task[Any, TaskResult]
else:
    _Task = Task


class IngestTask(_Task):
    """Base of every task: how it ended stands in the log."""

    abstract = True

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        log.info("task succeeded", extra={"task_id": task_id, "outcome": (retval or {}).get("status")})

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        log.error("task failed", extra={"task_id": task_id, "code": getattr(exc, "code", type(exc).__name__)})


class DocumentTask(IngestTask):
    """Base of every task that works on one document.

    The first argument is the document's id. Errors that end a document are raised, so that ``AsyncResult`` shows FAILURE
    and ``link_error`` runs; a retry is a result, because the row has it scheduled (README, "What is different here").
    """

    abstract = True


class DocumentNotFound(PermanentError):
    """No document has this id."""


def parse_document_id(value: str) -> UUID:
    """The document's id.

    Raises:
        DocumentNotFound: it is not a UUID, so no document can have it.
    """
    try:
        return UUID(str(value))
    except ValueError:
        raise DocumentNotFound("not_found", f"{value!r} is not a document id") from None


def wake(wake_up: WakeUp) -> None:
    """Send a wake-up; in eager mode, run its task here and now. If Redis is away the dispatcher sends it later."""
    if current_app.conf.task_always_eager:
        current_app.tasks[wake_up.task_name].apply((wake_up.document_id, wake_up.generation), task_id=wake_up.task_id).get(
            disable_sync_subtasks=False
        )
    else:
        producer.send([wake_up], get_settings())


def skipped(document_id: UUID) -> TaskResult:
    """The result of a wake-up that came twice, too early or too late, with what the row says.

    Raises:
        DocumentNotFound: there is no such row.
    """
    row = documents.status_of(document_id, get_settings())
    if row is None:
        raise DocumentNotFound("not_found", f"no document has the id {document_id}")
    reason = f"the document is {row.status}" + (f" and waits for {row.waits_for}" if row.waits_for else "")
    return {"status": "skipped", "document_id": str(document_id), "reason": reason}


def run_stage(
    stage: Stage, run: Callable[[UUID, Settings], _Result | None], document_id: str, generation: int | None
) -> _Result | TaskResult:
    """Run a stage's service for the document, with its log lines correlated.

    Returns what the service gave; or, where the stage ended otherwise, the task's result at once: ``skipped``, or
    ``retrying`` with ``error_code`` and ``retry_in`` in seconds, because the row has the next try scheduled.

    Raises:
        IngestError: there will be no other try; this is what ended the document.
    """
    identity = parse_document_id(document_id)
    with telemetry.document_context(document_id=str(identity), generation=generation, stage=stage.value):
        try:
            result = run(identity, get_settings())
        except LeaseLost:
            return skipped(identity)
        except StageFailed as failure:
            if failure.retry_in is not None:
                return {
                    "status": "retrying",
                    "document_id": str(identity),
                    "error_code": failure.code,
                    "retry_in": round(failure.retry_in, 1),
                }
            if isinstance(failure.error, IngestError):
                raise failure.error from None
            # Celery logs and stores what is raised, and the text of a foreign exception may quote the document.
            raise PermanentError(failure.code, f"unexpected {type(failure.error).__name__}") from None
        return skipped(identity) if result is None else result
