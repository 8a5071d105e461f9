"""Upload files to the bucket, and wait until what was uploaded has been worked on."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection
from sqlalchemy.exc import DBAPIError

from worker.domain.document import TERMINAL, Status
from worker.domain.errors import PermanentError
from worker.domain.scope import Scope
from worker.objects import facts_of, s3_client
from worker.services.documents import DocumentStatus, statuses
from worker.settings import Settings
from worker.store.session import is_away

_PARALLEL = 8
_POLL = 0.4
_PATIENCE = 30.0
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file and the key that it gets."""

    path: Path
    key: str


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a key before it was uploaded."""

    generation: int
    status: Status


def plan(paths: Sequence[Path], prefix: str) -> tuple[list[Upload], list[str]]:
    """What to upload, and what is left out, with the reason.

    A file's key is the prefix and its name; a folder's files keep their path below the folder. Hidden files and folders
    below it (``.git``) and what is no regular file are left out.

    Raises:
        PermanentError: ``no_such_file`` for a path that isn't there, ``same_key`` where two files would get one key,
            ``no_files`` where nothing is left to upload.
    """
    uploads: list[Upload] = []
    left_out: list[str] = []
    for path in paths:
        if path.is_dir():
            for item in sorted(path.rglob("*")):
                below = item.relative_to(path)
                if any(part.startswith(".") for part in below.parts):
                    continue
                if item.is_file():
                    uploads.append(Upload(item, prefix + str(PurePosixPath(below))))
                elif not item.is_dir():
                    left_out.append(f"{below}: not a regular file")
        elif path.is_file():
            uploads.append(Upload(path, prefix + path.name))
        else:
            raise PermanentError("no_such_file", f"there is no file or folder {str(path)!r}")
    for upload in list(uploads):
        if not _is_unicode(upload.key):
            uploads.remove(upload)
            left_out.append(f"{upload.key!r}: a key must be Unicode text, and this name is not")
    if len({upload.key for upload in uploads}) < len(uploads):
        raise PermanentError("same_key", "two of these files would get the same key: put them one after the other")
    if not uploads:
        raise PermanentError("no_files", "no file to upload was found")
    return uploads, left_out


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def upload_all(uploads: Sequence[Upload], bucket: str) -> Iterator[tuple[Upload, str | OSError]]:
    """Upload a few at a time; yields each as it is done, with its ETag, or with why the file could not be read."""
    client = s3_client()

    def send(upload: Upload) -> str:
        kind, _ = mimetypes.guess_type(upload.path.name)
        client.upload_file(str(upload.path), bucket, upload.key, ExtraArgs={"ContentType": kind or "application/octet-stream"})
        return facts_of(client.head_object(Bucket=bucket, Key=upload.key)).etag

    def one(upload: Upload) -> tuple[Upload, str | OSError]:
        try:
            with upload.path.open("rb"):
                pass
        except OSError as error:
            return upload, error
        return upload, patiently(lambda: send(upload))

    with ThreadPoolExecutor(_PARALLEL) as pool:
        yield from pool.map(one, uploads)


def patiently(work: Callable[[], _Answer]) -> _Answer:
    """Do it again for up to 30 s while a part does not answer: the local stack's supervisor brings it back in a few."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return work()
        except (NoConnection, HTTPClientError, S3UploadFailedError, ClientError, DBAPIError) as error:
            passing = is_away(error) if isinstance(error, DBAPIError) else not _is_refusal(error)
            if not passing or time.monotonic() > end:
                raise
            time.sleep(1)


def _is_refusal(error: Exception) -> bool:
    """Whether S3 has answered, and the answer is no."""
    return isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] < 500


def known_before(keys: Sequence[str], scope: Scope, settings: Settings) -> dict[str, Before]:
    """The documents among these keys that exist already."""
    wanted = set(keys)
    return patiently(
        lambda: {row.key: Before(row.generation, row.status) for row in statuses(scope, settings) if row.key in wanted}
    )


def is_done(row: DocumentStatus, etag: str, before: Before | None) -> bool:
    """Whether this row is the end of that upload, and not still the end of an earlier one."""
    if row.status not in TERMINAL:
        return False
    if before is not None and row.generation > before.generation and row.error_code is not None:
        return True
    if row.etag != etag:
        return before is None and row.error_code is not None
    return (
        before is None
        or before.status in (Status.INDEXED, Status.NO_TEXT, Status.UNSUPPORTED)
        or (row.generation > before.generation)
    )


def wait_for(
    etags: dict[str, str],
    before: dict[str, Before],
    scope: Scope,
    settings: Settings,
    timeout: float,
    on_change: Callable[[dict[str, DocumentStatus], int], None],
) -> dict[str, DocumentStatus]:
    """Poll until every uploaded key is done; returns the last state of each key that has a document.

    ``on_change`` gets the states and how many are done, at every poll. After ``timeout`` seconds it returns what there is.
    """
    end = time.monotonic() + timeout
    while True:
        rows = patiently(lambda: {row.key: row for row in statuses(scope, settings) if row.key in etags})
        done = sum(is_done(row, etags[key], before.get(key)) for key, row in rows.items())
        on_change(rows, done)
        if done == len(etags) or time.monotonic() > end:
            return rows
        time.sleep(_POLL)
