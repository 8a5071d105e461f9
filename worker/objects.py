"""Objects in S3: one GET that is pinned to what it returned, streamed to a file, with a size limit; and what a bucket lists.

The Content-Encoding of an object is undone: its key, its type and its readers are about the decoded content.

A single GET is a consistent snapshot of one version (Amazon S3 User Guide, "Amazon S3 data consistency model"); ETag and
VersionId of that answer are recorded with what was read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from worker.domain.content_encoding import BrokenCoding, UnknownCoding, decoded
from worker.domain.errors import Rejected, Unavailable, Unsupported
from worker.domain.reconciling import Listed

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

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
    """What was read: the object's facts, and the size and the sha256 of the bytes that it holds, its Content-Encoding undone."""

    facts: ObjectFacts
    size: int
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
        TooLarge: before it is read, or as soon as more has come than was announced, or unpacks to more.
        RejectedUnread: ``damaged``, the bytes are not what its Content-Encoding says.
        UnsupportedUnread: there is no decoder for its Content-Encoding.
        Archived: it must be restored first.
        Unavailable: ``access_denied``, ``bucket_missing``: somebody must act, and then it goes on by itself;
            ``s3_unavailable``: no answer, or one that broke off; ``worker_disk``: this worker can't keep the bytes.
    """
    try:
        answer = s3_client().get_object(Bucket=bucket, Key=key)
        facts = facts_of(answer)
        if facts.size > max_bytes:
            answer["Body"].close()
            raise TooLarge(facts, max_bytes)
        return _read(answer, facts, target, max_bytes)
    except ClientError as error:
        if _code(error) == "InvalidObjectState":
            raise Archived(head(bucket, key)) from error
        # S3 repeats the key in its error document, and a control character makes that no XML: nothing but a 404 is left of
        # it, as of any web server's. The listing can say such a key.
        if _code(error) == "404" and all(item.key != key for item in listing(bucket, key)):
            raise ObjectMissing from error
        raise _translate(error, bucket) from error
    except (BotoCoreError, OSError) as error:
        raise _no_answer(error) from error


def _read(answer: GetObjectOutputTypeDef, facts: ObjectFacts, target: BinaryIO, max_bytes: int) -> Download:
    digest = hashlib.sha256()
    size = 0
    try:
        for block in decoded(_counted(answer["Body"], facts, max_bytes), answer.get("ContentEncoding", "")):
            size += len(block)
            if size > max_bytes:
                raise TooLarge(facts, max_bytes, unpacked=True)
            digest.update(block)
            _write(target, block)
    except BrokenCoding as error:
        message = f"the object's Content-Encoding is {error.coding}, and its bytes break off or are damaged: upload it again"
        raise RejectedUnread("damaged", message, facts) from error
    except UnknownCoding as error:
        raise UnsupportedUnread(error.coding, facts) from error
    finally:
        answer["Body"].close()
    return Download(facts, size, digest.digest())


def _counted(body: StreamingBody, facts: ObjectFacts, max_bytes: int) -> Iterator[bytes]:
    """Yield the blocks of an answer.

    Raises:
        TooLarge: they have more than ``max_bytes`` together.
    """
    count = 0
    for block in body.iter_chunks(_BLOCK):
        count += len(block)
        if count > max_bytes:  # whatever the server said before
            raise TooLarge(replace(facts, size=count), max_bytes)
        yield block


def _write(target: BinaryIO, block: bytes) -> None:
    try:
        target.write(block)
        target.flush()
    except OSError as error:
        raise Unavailable("worker_disk", f"the worker can't store the object: {error.strerror}") from error


def head(bucket: str, key: str) -> ObjectFacts:
    """The facts of the current object, archived or not.

    Raises:
        ObjectMissing: S3 answered 404. HEAD has no body to say whether for the key or the bucket.
        Unavailable: as for ``download``.
    """
    try:
        return facts_of(s3_client().head_object(Bucket=bucket, Key=key))
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            raise ObjectMissing from error
        raise _translate(error, bucket) from error
    except (BotoCoreError, OSError) as error:
        raise _no_answer(error) from error


def require_bucket(bucket: str) -> None:
    """Tell a missing key from a missing bucket, for which HEAD has one answer.

    Raises:
        Unavailable: ``bucket_missing``, or as for ``download``.
    """
    try:
        s3_client().head_bucket(Bucket=bucket)
    except ClientError as error:
        raise (_no_bucket(bucket) if _code(error) == "404" else _translate(error, bucket)) from error
    except (BotoCoreError, OSError) as error:
        raise _no_answer(error) from error


def listing(bucket: str, prefix: str = "", page: int = 1000) -> Iterator[Listed]:
    """The bucket's current objects, ``page`` of them a request, in the order in which S3 gives them.

    Raises:
        Unavailable: as for ``download``, or the listing broke off.
    """
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": page}
    while True:
        try:
            answer = s3_client().list_objects_v2(**request)
        except ClientError as error:
            raise _translate(error, bucket, "list the bucket: this role needs s3:ListBucket") from error
        except (BotoCoreError, OSError) as error:
            raise _no_answer(error) from error
        for item in answer.get("Contents", ()):
            yield Listed(item["Key"], item["ETag"].strip('"'), item["Size"])
        if not answer["IsTruncated"]:
            return
        if "NextContinuationToken" not in answer:
            raise Unavailable("s3_unavailable", "S3 cut the bucket's listing off and did not say where it goes on")
        request["ContinuationToken"] = answer["NextContinuationToken"]


class RejectedUnread(Rejected):
    """The object was not read. ``facts`` tell what it is, so that ``status`` can show it."""

    def __init__(self, code: str, message: str, facts: ObjectFacts) -> None:
        super().__init__(code, message)
        self.facts = facts


class UnsupportedUnread(Unsupported):
    """The object was not read, because there is no decoder for its Content-Encoding. ``facts`` tell what it is."""

    def __init__(self, coding: str, facts: ObjectFacts) -> None:
        super().__init__(f"no decoder reads the object's Content-Encoding, {coding}: upload it without one, or with gzip")
        self.facts = facts


class TooLarge(RejectedUnread):
    """The object is over the limit."""

    def __init__(self, facts: ObjectFacts, max_bytes: int, unpacked: bool = False) -> None:
        size = "unpacks to more bytes than" if unpacked else f"has {facts.size:,} bytes, over"
        message = f"the object {size} LEX_INGEST_MAX_OBJECT_BYTES={max_bytes:,}"
        super().__init__("too_large", message, facts)


class Archived(RejectedUnread):
    """The object is in an archive class, and S3 gives its bytes only after it was restored."""

    def __init__(self, facts: ObjectFacts) -> None:
        super().__init__("archived", "the object is archived (Glacier): restore it, and the event of that has it read", facts)


_TO_READ = "read the object: the worker's role needs s3:GetObject and, to tell a missing key, s3:ListBucket"


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _no_answer(error: Exception) -> Unavailable:
    return Unavailable("s3_unavailable", f"S3 did not answer: {type(error).__name__}")


def _no_bucket(bucket: str) -> Unavailable:
    return Unavailable("bucket_missing", f"there is no bucket {bucket!r}: check BUCKET and the account")


def _translate(error: ClientError, bucket: str, refused_to: str = _TO_READ) -> Exception:
    code = _code(error)
    http_status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchKey":
        return ObjectMissing()
    if code == "NoSuchBucket":
        return _no_bucket(bucket)
    if http_status in (401, 403):
        return Unavailable("access_denied", f"S3 refused to {refused_to}")
    return Unavailable("s3_unavailable", f"S3 answered {code or http_status}")
