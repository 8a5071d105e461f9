"""S3 events for the Lambda handler, delivered as SQS does: what is reported failed comes again."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote_plus
from uuid import uuid4

import boto3

from worker.settings import Settings


def notification(bucket: str, key: str, etag: str | None = None, *, removed: bool = False) -> dict[str, Any]:
    """The body of one message: an S3 notification without a sequencer, as the local S3 sends it."""
    item = {"key": quote_plus(key), **({"eTag": etag} if etag else {})}
    name = "ObjectRemoved:Delete" if removed else "ObjectCreated:Put"
    return {"Records": [{"eventSource": "aws:s3", "eventName": name, "s3": {"bucket": {"name": bucket}, "object": item}}]}


def batch(*bodies: dict[str, Any]) -> dict[str, Any]:
    """The event of one invocation, a message for each body."""
    return {"Records": [{"messageId": str(uuid4()), "eventSource": "aws:sqs", "body": json.dumps(body)} for body in bodies]}


def failed(answer: Any) -> set[str]:
    """The ids of the messages that have to come again."""
    return {item["itemIdentifier"] for item in answer["batchItemFailures"]}


def deliver(event: dict[str, Any], seconds: float = 90) -> int:
    """Invoke the handler in this process until it has taken every message; return how often it was called."""
    from handlers.s3_events import lambda_handler

    deadline = time.monotonic() + seconds
    calls = 0
    while event["Records"]:
        assert time.monotonic() < deadline, f"the handler did not take {len(event['Records'])} messages"
        calls += 1
        again = failed(lambda_handler(event, None))
        event = {"Records": [message for message in event["Records"] if message["messageId"] in again]}
    return calls


def upload(settings: Settings, bodies: dict[str, bytes]) -> None:
    """Put the objects, key by key, and deliver their events in batches of ten."""
    client, bucket = boto3.client("s3"), settings.buckets[0]
    messages = []
    for key, body in bodies.items():
        answer = client.put_object(Bucket=bucket, Key=key, Body=body)
        messages.append(notification(bucket, key, answer["ETag"].strip('"')))
    for start in range(0, len(messages), 10):
        deliver(batch(*messages[start : start + 10]))
