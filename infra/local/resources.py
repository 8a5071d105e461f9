"""The bucket and its queues in the local S3 and SQS API, as template.yaml makes them on AWS."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import boto3

from infra.local.parts import ACCOUNT, BUCKET, DEAD_LETTERS, QUEUE, REGION

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import QueueConfigurationTypeDef
    from mypy_boto3_sqs import SQSClient

VISIBILITY_SECONDS = 60
MAX_RECEIVES = 100


def ensure(environment: Mapping[str, str]) -> None:
    """Create what is missing and set what differs; objects and messages stay."""
    session = boto3.session.Session(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], region_name=REGION)
    endpoint = environment["AWS_ENDPOINT_URL"]
    with contextlib.closing(session.client("sqs", endpoint_url=endpoint)) as sqs:
        _ensure_queues(sqs, environment["QUEUE_URL"])
    with contextlib.closing(session.client("s3", endpoint_url=endpoint)) as s3:
        _ensure_bucket(s3)


def _ensure_queues(sqs: SQSClient, queue_url: str) -> None:
    for name in (DEAD_LETTERS, QUEUE):
        sqs.create_queue(QueueName=name)  # as on AWS, no error where it is there
    redrive = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{DEAD_LETTERS}", "maxReceiveCount": MAX_RECEIVES}
    sqs.set_queue_attributes(
        QueueUrl=queue_url, Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS), "RedrivePolicy": json.dumps(redrive)}
    )


def _ensure_bucket(s3: S3Client) -> None:
    s3.create_bucket(Bucket=BUCKET)  # the same
    wanted: QueueConfigurationTypeDef = {
        "Id": "lex-ingest",
        "QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}",
        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
    }
    found = s3.get_bucket_notification_configuration(Bucket=BUCKET)
    if wanted not in found.get("QueueConfigurations", []):  # each change sends an s3:TestEvent
        s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [wanted]})
