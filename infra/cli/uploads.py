"""Upload files to the bucket, and wait until what was uploaded has been worked on."""

from __future__ import annotations

import mimetypes
import os
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

from infra.cli.output import visible_key
from worker.contract import MAX_KEY_BYTES
from worker.domain.document import TERMINAL, Status
from worker.domain.errors import PermanentError
from worker.domain.scope import Scope
from worker.objects import facts_of, s3_client
from worker.services.documents import DocumentStatus, statuses
from worker.settings import Settings
from worker.store.session import is_away

_PARALLEL = 8
# Seconds: between two looks at the documents, and between two counts of their chunks, which cost more.
_POLL, _COUNT_EVERY = 0.4, 2.0
# Seconds for which a request is repeated while S3 or PostgreSQL is away: during the work, since the local stack restarts a part
# that ended; and at its beginning, where a wrong address is likelier.
_PATIENCE, _FIRST_PATIENCE = 30.0, 2.0
# Error codes of S3 that are about one object. Any other refusal would also meet the next object.
_OF_ONE_OBJECT = frozenset(
    {"EntityTooLarge", "KeyTooLongError", "InvalidObjectName", "InvalidArgument", "InvalidURI", "BadDigest"}
)
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
    below it (``.git``) are left out without a word; links to folders, folders that can't be read, what is no regular file, and
    names that are no Unicode text are left out with the reason.

    Raises:
        PermanentError: ``no_such_file`` for a path that isn't there, ``same_key`` where two files would get one key,
            ``no_files`` where nothing is left to upload.
    """
    uploads: list[Upload] = []
    left_out: list[str] = []
    for path in paths:
        if path.is_dir():
            _plan_folder(path, prefix, uploads, left_out)
        elif path.is_file():
            uploads.append(Upload(path, prefix + path.name))
        elif path.exists():
            left_out.append(f"{visible_key(str(path))}: not a regular file")
        else:
            raise PermanentError("no_such_file", f"There is no file or folder {visible_key(str(path))}.")
    refused = {upload: reason for upload in uploads if (reason := _refusal_of(upload.key))}
    uploads = [upload for upload in uploads if upload not in refused]
    left_out.extend(f"{visible_key(str(upload.path))}: {reason}" for upload, reason in refused.items())
    if len({upload.key for upload in uploads}) < len(uploads):
        raise PermanentError("same_key", "Two of these files would get the same key: put them one after the other.")
    if not uploads:
        reasons = f": {'; '.join(left_out[:3])}{' …' if len(left_out) > 3 else ''}" if left_out else ""
        raise PermanentError("no_files", f"No file to upload was found{reasons}.")
    return uploads, left_out


def _plan_folder(folder: Path, prefix: str, uploads: list[Upload], left_out: list[str]) -> None:
    def unreadable(error: OSError) -> None:
        left_out.append(f"{visible_key(str(error.filename))}: {error.strerror}")

    found: list[Upload] = []
    for parent, folders, files in os.walk(folder, onerror=unreadable):
        # os.walk descends only into the folders that are left in this list.
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [path for path in (Path(parent, name) for name in folders) if path.is_symlink()]
        left_out.extend(f"{visible_key(str(path))}: a link to a folder, which is not followed" for path in links)
        for name in files:
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if path.is_file():
                found.append(Upload(path, prefix + str(PurePosixPath(path.relative_to(folder)))))
            else:
                left_out.append(f"{visible_key(str(path))}: not a regular file")
    uploads.extend(sorted(found, key=lambda upload: upload.path))


def _refusal_of(key: str) -> str | None:
    """Why S3 can't store an object under this key; None if it can."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "a key must be Unicode text, and this name is not"
    return f"a key has at most {MAX_KEY_BYTES:,} bytes, and this one has {size:,}" if size > MAX_KEY_BYTES else None


def never() -> bool:
    """Always False: nothing delays the uploads."""
    return False


def upload_all(
    uploads: Sequence[Upload], bucket: str, is_held_up: Callable[[], bool] = never
) -> Iterator[tuple[Upload, str | Exception]]:
    """Upload the files, eight at a time. Yields each file in order, with its ETag or with the error that is about it alone.

    Args:
        is_held_up: whether something is known, such as a full disk, that the uploads must wait for as long as it lasts. It is
            asked in several threads, after an attempt that failed.

    Raises:
        ClientError: S3 refuses for a reason that concerns every file, such as the credentials.
        NoConnection, HTTPClientError: S3 has not answered for 30 s.
    """
    client = s3_client()

    def send(upload: Upload) -> str:
        kind, _ = mimetypes.guess_type(upload.path.name)
        try:
            client.upload_file(
                str(upload.path), bucket, upload.key, ExtraArgs={"ContentType": kind or "application/octet-stream"}
            )
        except S3UploadFailedError as error:
            # boto3 wraps the error that says whether S3 refused or did not answer.
            raise error.__context__ or error from error
        return facts_of(client.head_object(Bucket=bucket, Key=upload.key)).etag

    def one(upload: Upload) -> tuple[Upload, str | Exception]:
        try:
            with upload.path.open("rb"):
                pass
            return upload, patiently(lambda: send(upload), is_held_up=is_held_up)
        except OSError as error:
            return upload, error
        except ClientError as error:
            if error.response["Error"]["Code"] in _OF_ONE_OBJECT:
                return upload, error
            raise

    pool = ThreadPoolExecutor(_PARALLEL)
    try:
        yield from pool.map(one, uploads)
    finally:
        # After an error or Ctrl-C start no further upload, and do not wait for those that run.
        pool.shutdown(wait=False, cancel_futures=True)


def patiently(work: Callable[[], _Answer], patience: float = _PATIENCE, is_held_up: Callable[[], bool] = never) -> _Answer:
    """Do it again while a part does not answer, for up to ``patience`` seconds after ``is_held_up`` was true the last time."""
    end = time.monotonic() + patience
    while True:
        try:
            return work()
        except (NoConnection, HTTPClientError, S3UploadFailedError, ClientError, DBAPIError) as error:
            is_passing = is_away(error) if isinstance(error, DBAPIError) else not _is_refusal(error)
            if is_passing and is_held_up():
                end = time.monotonic() + patience
            elif not is_passing or time.monotonic() + 0.5 > end:
                raise
            time.sleep(min(1.0, patience / 4))


def _is_refusal(error: Exception) -> bool:
    """Whether S3 has answered, and the answer is no."""
    return isinstance(error, ClientError) and error.response["ResponseMetadata"]["HTTPStatusCode"] < 500


def known_before(keys: Sequence[str], scope: Scope, settings: Settings) -> dict[str, Before]:
    """The documents among these keys that exist already."""
    return patiently(
        lambda: {row.key: Before(row.generation, row.status) for row in statuses(scope, settings, keys=keys)}, _FIRST_PATIENCE
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
    is_held_up: Callable[[], bool] = never,
) -> dict[str, DocumentStatus]:
    """Poll until every uploaded key is done; returns the last state of each key that has a document.

    ``on_change`` gets the states and how many are done, at every poll; every two seconds the states say how many chunks are
    embedded. After ``timeout`` seconds it returns what there is. ``is_held_up``: as for ``upload_all``.
    """
    end = time.monotonic() + timeout
    count_at = 0.0
    while True:
        with_progress = time.monotonic() >= count_at
        if with_progress:
            count_at = time.monotonic() + _COUNT_EVERY
        rows = patiently(
            lambda counted=with_progress: {  # type: ignore[misc]  # mypy knows no type for a lambda's default
                row.key: row for row in statuses(scope, settings, keys=etags, with_progress=counted)
            },
            is_held_up=lambda: time.monotonic() < end and is_held_up(),
        )
        done = sum(is_done(row, etags[key], before.get(key)) for key, row in rows.items())
        on_change(rows, done)
        if done == len(etags) or time.monotonic() > end:
            return rows
        time.sleep(_POLL)
