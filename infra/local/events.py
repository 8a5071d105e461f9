"""The event source mapping of the local stack: what AWS runs between an SQS queue and a Lambda function.

Long-polls the queue, hands batches to ``handlers.s3_events.lambda_handler`` in the form that Lambda sends (page "Using
Lambda with Amazon SQS"), deletes what succeeded and leaves what is in ``batchItemFailures``. An exception fails the whole
batch. A failed message is visible again after a moment, and the queue moves it to its dead-letter queue once it was
received too often. Imports only what a Lambda function has: its package and boto3.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# Seconds: AWS waits for the queue's visibility timeout; a person in front of a laptop should not have to.
RETRY_AFTER = 5
# Seconds after which a batch comes back whose receiver was killed. The handler is bounded to a few.
HIDDEN = 15
TIMEOUT = 30.0
FUNCTION = "lex-ingest-s3-events"


def lambda_context() -> SimpleNamespace:
    """The attributes of Lambda's context object that handlers and powertools read."""
    deadline = time.monotonic() + TIMEOUT
    return SimpleNamespace(
        aws_request_id=str(uuid.uuid4()),
        function_name=FUNCTION,
        memory_limit_in_mb=512,
        invoked_function_arn=f"arn:aws:lambda:us-east-1:123456789012:function:{FUNCTION}",
        get_remaining_time_in_millis=lambda: max(0, int((deadline - time.monotonic()) * 1000)),
    )


def sqs_event(messages: list[Any], queue_arn: str, region: str) -> dict[str, Any]:
    """The event that Lambda builds of messages as ReceiveMessage returns them."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": {
                    name: {
                        "stringValue": value.get("StringValue"),
                        "binaryValue": value.get("BinaryValue"),
                        "stringListValues": [],
                        "binaryListValues": [],
                        "dataType": value["DataType"],
                    }
                    for name, value in message.get("MessageAttributes", {}).items()
                },
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": queue_arn,
                "awsRegion": region,
            }
            for message in messages
        ]
    }


def log(level: str, message: str, error: Exception) -> None:
    print(json.dumps({"level": level, "message": message, "error": repr(error)}), file=sys.stderr, flush=True)


def failed_messages(answer: Any, messages: list[Any]) -> set[str]:
    """The message ids that must come again. An answer that is no batch answer means success, a wrong one failure of all."""
    everything = {message["MessageId"] for message in messages}
    named = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    failures = {item.get("itemIdentifier") for item in named or []}
    unknown = failures - everything
    return everything if unknown else failures


def deliver(sqs: Any, queue_url: str, queue_arn: str, handler: Callable[[dict[str, Any], Any], Any], wait: int = 20) -> int:
    """Receive one batch, hand it over, settle it. How many messages it had."""
    received = sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=wait,
        VisibilityTimeout=HIDDEN,
        AttributeNames=["All"],
        MessageAttributeNames=["All"],
    )
    messages = received.get("Messages", [])
    if not messages:
        return 0
    try:
        failed = failed_messages(handler(sqs_event(messages, queue_arn, sqs.meta.region_name), lambda_context()), messages)
    except Exception as error:  # noqa: BLE001 - whatever a function raises, Lambda keeps the batch
        log("ERROR", "the handler failed", error)
        failed = {message["MessageId"] for message in messages}
    done = [message for message in messages if message["MessageId"] not in failed]
    if done:
        entries = [{"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]} for index, message in enumerate(done)]
        sqs.delete_message_batch(QueueUrl=queue_url, Entries=entries)
    for message in messages:
        if message["MessageId"] in failed:
            sqs.change_message_visibility(
                QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=RETRY_AFTER
            )
    return len(messages)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from handlers.s3_events import lambda_handler  # here, as a Lambda runtime imports it: it reads its settings then
    from worker import process

    process.hide_memory()

    queue_url = os.environ["QUEUE_URL"]
    config = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1})
    sqs = boto3.client("sqs", config=config)
    account, name = queue_url.rsplit("/", 2)[1:]
    queue_arn = f"arn:aws:sqs:{sqs.meta.region_name}:{account}:{name}"
    Path("run/events.ready").touch()  # in the data folder; `up` waits for it
    while True:
        try:
            deliver(sqs, queue_url, queue_arn, lambda_handler)
        except (BotoCoreError, ClientError) as error:
            # The API is being started again, or forgot a receipt when it was: the message comes once more.
            log("WARNING", "the queue did not answer", error)
            time.sleep(1)


if __name__ == "__main__":
    main()
