"""The event source mapping: what Lambda would send, and what becomes of each message."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.local import events
from infra.local.resources import MAX_RECEIVES


@pytest.fixture(scope="module")
def client(services: dict[str, str]) -> Iterator[Any]:
    keys = services["AWS_ACCESS_KEY_ID"], services["AWS_SECRET_ACCESS_KEY"]
    session = boto3.session.Session(*keys, region_name="us-east-1")
    with contextlib.closing(session.client("sqs", endpoint_url=services["AWS_ENDPOINT_URL"])) as client:
        # What other tests left there.
        client.purge_queue(QueueUrl=services["QUEUE_URL"])
        yield client


@pytest.fixture
def sqs(services: dict[str, str], client: Any) -> Iterator[Any]:
    yield client
    for name in ("QUEUE_URL", "DEAD_LETTER_QUEUE_URL"):
        for message in client.receive_message(QueueUrl=services[name], MaxNumberOfMessages=10).get("Messages", []):
            client.delete_message(QueueUrl=services[name], ReceiptHandle=message["ReceiptHandle"])


class Handler:
    """Answers as told, and keeps what it was called with."""

    def __init__(self, answer: Any = None) -> None:
        self.answer, self.calls = answer, []  # type: ignore[var-annotated]  # a list of (event, context)

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        self.calls.append((event, context))
        return self.answer(event) if callable(self.answer) else self.answer


def deliver(services: dict[str, str], sqs: Any, handler: Any) -> int:
    arn = "arn:aws:sqs:us-east-1:123456789012:lex-ingest-events"
    return events.deliver(sqs, services["QUEUE_URL"], arn, handler, wait=1)


def left(services: dict[str, str], sqs: Any, queue: str = "QUEUE_URL") -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=services[queue], AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def test_the_handler_gets_the_event_that_lambda_builds(services: dict[str, str], sqs: Any) -> None:
    attribute = {"trace": {"DataType": "String", "StringValue": "abc"}}
    sqs.send_message(QueueUrl=services["QUEUE_URL"], MessageBody="the body é", MessageAttributes=attribute)
    handler = Handler()

    assert deliver(services, sqs, handler) == 1

    [(event, context)] = handler.calls
    [record] = event["Records"]
    assert set(record) == {
        "messageId", "receiptHandle", "body", "attributes", "messageAttributes", "md5OfBody", "eventSource", "eventSourceARN",
        "awsRegion",
    }  # fmt: skip
    assert re.fullmatch(r"[0-9a-f-]{36}", record["messageId"])
    assert record["body"] == "the body é"
    assert record["md5OfBody"] == hashlib.md5("the body é".encode(), usedforsecurity=False).hexdigest()
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["attributes"].keys() >= {"SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"}
    assert record["messageAttributes"]["trace"] == {
        "stringValue": "abc", "binaryValue": None, "stringListValues": [], "binaryListValues": [], "dataType": "String",
    }  # fmt: skip
    assert (record["eventSource"], record["awsRegion"]) == ("aws:sqs", "us-east-1")
    assert record["eventSourceARN"].endswith(":lex-ingest-events")
    assert json.loads(json.dumps(event)) == event
    assert 0 < context.get_remaining_time_in_millis() <= 30_000
    for name in ("function_name", "memory_limit_in_mb", "invoked_function_arn", "aws_request_id"):
        assert getattr(context, name)
    assert left(services, sqs) == 0


def test_only_the_messages_that_the_handler_names_come_again(
    services: dict[str, str], sqs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "RETRY_AFTER", 0)
    for body in ("good 1", "bad", "good 2"):
        sqs.send_message(QueueUrl=services["QUEUE_URL"], MessageBody=body)

    def fail_bad(event: dict[str, Any]) -> dict[str, Any]:
        bad = [record["messageId"] for record in event["Records"] if record["body"] == "bad"]
        return {"batchItemFailures": [{"itemIdentifier": identity} for identity in bad]}

    handler = Handler(fail_bad)
    while left(services, sqs) > 1:
        deliver(services, sqs, handler)
    again = Handler()
    assert deliver(services, sqs, again) == 1
    [(event, _)] = again.calls
    assert event["Records"][0]["body"] == "bad"
    assert int(event["Records"][0]["attributes"]["ApproximateReceiveCount"]) >= 2


@pytest.mark.parametrize("answer", ["raises", {"batchItemFailures": [{"itemIdentifier": "unknown"}]}])
def test_an_exception_or_a_wrong_answer_deletes_nothing_and_many_of_them_end_in_the_dead_letter_queue(
    services: dict[str, str], sqs: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: Any
) -> None:
    monkeypatch.setattr(events, "RETRY_AFTER", 0)
    sqs.send_message(QueueUrl=services["QUEUE_URL"], MessageBody="poison")

    def fail(_: dict[str, Any]) -> Any:
        if answer == "raises":
            raise RuntimeError("the database is away")
        return answer

    handler = Handler(fail)
    for _ in range(MAX_RECEIVES):
        assert deliver(services, sqs, handler) == 1
    assert left(services, sqs) == 1
    assert deliver(services, sqs, handler) == 0
    assert len(handler.calls) == MAX_RECEIVES
    assert left(services, sqs) == 0
    [message] = sqs.receive_message(QueueUrl=services["DEAD_LETTER_QUEUE_URL"])["Messages"]
    assert message["Body"] == "poison"
    sqs.delete_message(QueueUrl=services["DEAD_LETTER_QUEUE_URL"], ReceiptHandle=message["ReceiptHandle"])
    assert ("the database is away" in capsys.readouterr().err) == (answer == "raises")


def test_it_imports_only_what_a_lambda_function_has() -> None:
    code = "import sys, infra.local.events; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    root = Path(events.__file__).parents[2]
    output = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in output if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert {"infra", "boto3"} <= ours
    assert ours <= {"infra", "boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3", "certifi", "awscrt", "distutils", "setuptools"}  # fmt: skip  # noqa: E501 - a list of names
