"""The local S3 and SQS API: what it keeps through a kill, and the events that it sends."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.local.stack import Stack, down, up

BUCKET = "documents"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("aws stack")
    yield up(folder, parts=("aws",))
    down(folder)


def client(stack: Stack, service: str) -> Any:
    session = boto3.session.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
    return session.client(service, endpoint_url=stack.environment["AWS_ENDPOINT_URL"])  # type: ignore[call-overload]  # by name


@pytest.fixture
def s3(stack: Stack) -> Any:
    return client(stack, "s3")


@pytest.fixture
def sqs(stack: Stack) -> Iterator[Any]:
    queue = client(stack, "sqs")
    yield queue
    drain(stack, queue)


def drain(stack: Stack, sqs: Any) -> list[dict[str, Any]]:
    """Every record in the queue, deleted from it."""
    records = []
    url = stack.environment["QUEUE_URL"]
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            records += json.loads(message["Body"]).get("Records", [])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return records


def names(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(item["eventName"], urllib.parse.unquote_plus(item["s3"]["object"]["key"])) for item in records]


def kill(stack: Stack) -> None:
    """kill -9 of the API, and wait until its successor answers."""
    before = int((stack.data_dir / "run" / "aws.pid").read_text())
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.1)
        part = stack.parts()[0]
        if part.pid not in (None, before):
            try:
                client(stack, "s3").list_buckets()
            except Exception:
                continue
            return
    raise AssertionError("the API did not come back")


def test_objects_settings_and_undelivered_messages_survive_a_kill(stack: Stack, s3: Any, sqs: Any) -> None:
    key = "a b+c%20é\n.txt"
    s3.create_bucket(Bucket="other")
    s3.put_bucket_versioning(Bucket="other", VersioningConfiguration={"Status": "Enabled"})
    versions = [s3.put_object(Bucket="other", Key=key, Body=text)["VersionId"] for text in (b"one", b"two", b"three")]
    marker = s3.delete_object(Bucket="other", Key=key)["VersionId"]
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"text", ContentType="text/plain", Metadata={"colour": "blue"}, Tagging="x=1")
    s3.put_object(Bucket=BUCKET, Key="gone", Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key="gone")

    kill(stack)

    found = s3.get_object(Bucket=BUCKET, Key=key)
    assert (found["Body"].read(), found["ContentType"], found["Metadata"]) == (b"text", "text/plain", {"colour": "blue"})
    assert s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"] == [{"Key": "x", "Value": "1"}]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [key]
    listed = s3.list_object_versions(Bucket="other")
    assert {item["VersionId"] for item in listed["Versions"]} == set(versions)
    assert [(item["VersionId"], item["IsLatest"]) for item in listed["DeleteMarkers"]] == [(marker, True)]
    assert s3.get_object(Bucket="other", Key=key, VersionId=versions[1])["Body"].read() == b"two"
    assert names(drain(stack, sqs)) == [
        ("ObjectCreated:Put", key),
        ("ObjectCreated:Put", "gone"),
        ("ObjectRemoved:Delete", "gone"),
    ]
    attributes = sqs.get_queue_attributes(QueueUrl=stack.environment["QUEUE_URL"], AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "60"
    assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] == 5
    s3.put_object(Bucket=BUCKET, Key="after", Body=b"x")
    assert names(drain(stack, sqs)) == [("ObjectCreated:Put", "after")]


def test_a_message_that_was_received_but_not_deleted_comes_again_after_a_kill(stack: Stack, s3: Any, sqs: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="in flight", Body=b"x")
    url = stack.environment["QUEUE_URL"]
    assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1
    assert "Messages" not in sqs.receive_message(QueueUrl=url)

    kill(stack)

    assert names(drain(stack, sqs)) == [("ObjectCreated:Put", "in flight")]


def test_a_delete_in_a_versioned_bucket_sends_an_event_and_so_does_the_end_of_a_version(stack: Stack, s3: Any, sqs: Any) -> None:
    s3.create_bucket(Bucket="versioned")
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    configuration = s3.get_bucket_notification_configuration(Bucket=BUCKET)
    s3.put_bucket_notification_configuration(
        Bucket="versioned", NotificationConfiguration={"QueueConfigurations": configuration["QueueConfigurations"]}
    )
    first = s3.put_object(Bucket="versioned", Key="k", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket="versioned", Key="k", Body=b"2")["VersionId"]
    s3.delete_object(Bucket="versioned", Key="k", VersionId=second)
    marker = s3.delete_object(Bucket="versioned", Key="k")["VersionId"]
    s3.delete_objects(Bucket="versioned", Delete={"Objects": [{"Key": "k", "VersionId": marker}]})
    s3.delete_object(Bucket="versioned", Key="k", VersionId=first)

    records = drain(stack, sqs)

    assert [(item["eventName"], item["s3"]["object"]["versionId"]) for item in records] == [
        ("ObjectCreated:Put", first),
        ("ObjectCreated:Put", second),
        ("ObjectRemoved:Delete", second),
        ("ObjectRemoved:DeleteMarkerCreated", marker),
        ("ObjectRemoved:Delete", marker),
        ("ObjectRemoved:Delete", first),
    ]
    sequencers = [item["s3"]["object"]["sequencer"] for item in records]
    assert sequencers == sorted(set(sequencers))


def test_an_upload_in_parts_sends_one_event_and_survives_a_kill(stack: Stack, s3: Any, sqs: Any) -> None:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
    bodies = [b"x" * 5 * 1024 * 1024, b"the end"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(Bucket=BUCKET, Key="parts", UploadId=upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]  # fmt: skip
    s3.complete_multipart_upload(Bucket=BUCKET, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    etag = s3.head_object(Bucket=BUCKET, Key="parts")["ETag"]
    assert names(drain(stack, sqs)) == [("ObjectCreated:CompleteMultipartUpload", "parts")]

    kill(stack)

    found = s3.get_object(Bucket=BUCKET, Key="parts")
    assert found["ETag"] == etag
    assert found["Body"].read() == b"".join(bodies)


def test_a_long_poll_waits_without_stopping_others_and_returns_when_an_object_comes(stack: Stack, s3: Any, sqs: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        started = time.monotonic()
        poll = pool.submit(sqs.receive_message, QueueUrl=stack.environment["QUEUE_URL"], WaitTimeSeconds=20)
        time.sleep(0.5)
        s3.put_object(Bucket=BUCKET, Key="polled", Body=b"x")
        message = poll.result()["Messages"][0]
    assert time.monotonic() - started < 5
    assert names(json.loads(message["Body"])["Records"]) == [("ObjectCreated:Put", "polled")]
    sqs.delete_message(QueueUrl=stack.environment["QUEUE_URL"], ReceiptHandle=message["ReceiptHandle"])


def test_what_was_written_last_is_read_after_kills_in_the_middle_of_writing(stack: Stack, s3: Any) -> None:
    """Each kill falls at another moment of the writes; what was answered is there, whole."""
    from concurrent.futures import ThreadPoolExecutor

    for round_number in range(3):
        answered = 0

        def write() -> None:
            nonlocal answered
            for number in range(1, 200):
                s3.put_object(Bucket=BUCKET, Key=f"kill-{round_number}", Body=str(number).encode() * 20_000)
                answered = number

        s3 = client(stack, "s3")
        s3.meta.events.register("needs-retry.s3.PutObject", lambda **_: None)
        with ThreadPoolExecutor() as pool:
            writing = pool.submit(write)
            time.sleep(0.15 + 0.1 * round_number)
            at_kill = answered
            Path(stack.data_dir / "run" / "aws.pid").read_text()
            kill(stack)
            body = s3.get_object(Bucket=BUCKET, Key=f"kill-{round_number}")["Body"].read() if at_kill else b""
            writing.cancel()
            writing.exception()
        number = int(body[: len(body) // 20_000]) if body else 0
        assert number >= at_kill
        assert body == str(number).encode() * 20_000
