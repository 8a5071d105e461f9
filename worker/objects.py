"""Objects in S3: one GET that is pinned to what it returned, streamed to a file, with a size limit.

A single GET is a consistent snapshot of one version (Amazon S3 User Guide, "Amazon S3 data consistency model"); ETag and
VersionId of that answer are recorded with what was read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from worker.domain.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BLOCK = 1 << 20


class ObjectMissing(Exception):
    """S3 answered 404 for exactly this key, which alone proves that the object is gone."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What S3 said of the object that was read. ``etag`` is unquoted; it is no content hash."""

    etag: str
    version_id: str | None
    size: int
    content_type: str | None
    last_modified: datetime | None


@dataclass(frozen=True, slots=True)
class Download:
    """What was read: the object's facts, and the sha256 of its bytes."""

    facts: ObjectFacts
    sha256: bytes


@lru_cache(maxsize=1)
def s3_client() -> S3Client:
    """The client of this process. Endpoint, region and credentials come from the AWS_* variables."""
    return boto3.client(
        "s3",
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=4,
        ),
    )


def facts_of(answer: Any) -> ObjectFacts:
    """The facts in an answer to GetObject or HeadObject."""
    version = answer.get("VersionId")
    return ObjectFacts(
        etag=str(answer["ETag"]).strip('"'),
        version_id=None if version in (None, "null") else version,
        size=int(answer["ContentLength"]),
        content_type=answer.get("ContentType"),
        last_modified=answer.get("LastModified"),
    )


def download(bucket: str, key: str, target: BinaryIO, max_bytes: int) -> Download:
    """Read the current version of the object into ``target``, an open file.

    Raises:
        ObjectMissing: S3 answered 404 for the key (not for the bucket).
        Rejected: ``too_large``, before or while it is read.
        Rejected: ``archived``: it must be restored first.
        Unavailable: ``access_denied``, ``bucket_missing``: somebody must act, and then it goes on by itself;
            ``s3_unavailable``: no answer, or one that broke off; ``worker_disk``: this worker can't keep the bytes.
    """
    try:
        answer = s3_client().get_object(Bucket=bucket, Key=key)
        facts = facts_of(answer)
        if facts.size > max_bytes:
            answer["Body"].close()
            raise TooLarge(facts, max_bytes)
        digest = hashlib.sha256()
        for block in answer["Body"].iter_chunks(_BLOCK):
            digest.update(block)
            _write(target, block)
    except ClientError as error:
        raise _translate(error, bucket) from error
    except (BotoCoreError, OSError) as error:
        raise Unavailable("s3_unavailable", f"S3 did not answer: {type(error).__name__}") from error
    return Download(facts, digest.digest())


def _write(target: BinaryIO, block: bytes) -> None:
    try:
        target.write(block)
        target.flush()
    except OSError as error:
        raise Unavailable("worker_disk", f"the worker can't store the object: {error.strerror}") from error


class TooLarge(Rejected):
    """The object is over the limit. ``facts`` tell what it is, so that ``status`` can show it."""

    def __init__(self, facts: ObjectFacts, max_bytes: int) -> None:
        super().__init__("too_large", f"the object has {facts.size:,} bytes, over LEX_INGEST_MAX_OBJECT_BYTES={max_bytes:,}")
        self.facts = facts


def _translate(error: ClientError, bucket: str) -> Exception:
    code = error.response.get("Error", {}).get("Code", "")
    http_status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchKey":
        return ObjectMissing()
    if code == "NoSuchBucket":
        return Unavailable("bucket_missing", f"there is no bucket {bucket!r}: check BUCKET and the account")
    if code == "InvalidObjectState":
        return Rejected("archived", "the object is archived (Glacier): restore it, then replay the document")
    if http_status in (401, 403):
        return Unavailable(
            "access_denied",
            "S3 refused to read the object: the worker's role needs s3:GetObject and, to tell a missing key, s3:ListBucket",
        )
    return Unavailable("s3_unavailable", f"S3 answered {code or http_status}")
