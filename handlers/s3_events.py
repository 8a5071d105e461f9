"""Lambda function of the ingest queue: S3 events in, recorded documents and wake-ups out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Metrics

from handlers import envelopes
from worker import telemetry
from worker.domain.errors import TransientError
from worker.services import intake
from worker.settings import SettingsError, get_settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse

log = telemetry.get_logger(__name__)
metrics = Metrics(namespace=telemetry.SERVICE, service="s3-events")


@telemetry.traced
def lambda_handler(event: Any, context: Any) -> PartialItemFailureResponse:
    """Record what the event says, and wake the workers.

    Takes SQS batches of S3, SNS and EventBridge messages, and each of those directly (``handlers.envelopes``).

    Returns:
        ``{"batchItemFailures": [{"itemIdentifier": messageId}]}``: the SQS messages that have to come again. The list may
        name all of them; Lambda then retries the batch just as it would after an exception.

    Raises:
        MalformedEvent: a direct event can't be read.
        TransientError: a direct event could not be recorded; its sender tries again.
        SettingsError: the function is not configured.
    """
    try:
        settings = get_settings().require("database_url", "redis_url")
    except SettingsError as error:
        log.error("the settings can't be used", extra={"code": "settings", "reason": str(error)})
        raise
    telemetry.configure(settings.log_level)
    with telemetry.log_context(request_id=getattr(context, "aws_request_id", None)):
        batch = envelopes.parse(event)
        malformed = [message for message in batch.messages if message.error is not None]
        for message in malformed:
            _log_malformed(message)
        # Malformed ones too: the ledger keeps what came, readable or not.
        result = intake.record_and_enqueue([(message.message_id, message.events) for message in batch.messages], settings)
        _count(batch, malformed, result)
        if not batch.from_queue:
            _raise_for_direct(malformed, result)
    # Not powertools' BatchProcessor: it calls a function for each record, and a batch here is one round trip.
    failed = dict.fromkeys([*(message.message_id for message in malformed), *result.failed_message_ids])
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _log_malformed(message: envelopes.Message) -> None:
    if message.error is not None:
        extra = {"message_id": message.message_id, "code": message.error.code, "reason": message.error.message}
        log.error("malformed message", extra=extra)


def _raise_for_direct(malformed: list[envelopes.Message], result: intake.IntakeResult) -> None:
    for message in malformed:
        if message.error is not None:
            raise message.error
    if result.failed_message_ids:
        raise TransientError("record_failed", "the event could not be recorded; the log says why")


def _count(batch: envelopes.Batch, malformed: list[envelopes.Message], result: intake.IntakeResult) -> None:
    counts = {
        "ObjectsReceived": sum(len(message.changes) for message in batch.messages),
        "DocumentsRecorded": len(result.recorded),
        "EnqueueFailures": result.enqueue_failures,
        "MalformedMessages": len(malformed),
        "RecordFailures": len(result.failed_message_ids),
        "BucketNotAllowed": result.not_allowed,
    }
    for name, count in counts.items():
        metrics.add_metric(name=name, unit="Count", value=count)
    metrics.flush_metrics()
