"""Upload files to the bucket, and wait until what was uploaded has been worked on."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from worker.domain.document import TERMINAL, Status
from worker.domain.errors import PermanentError
from worker.domain.scope import Scope
from worker.objects import facts_of, s3_client
from worker.services.documents import DocumentStatus, statuses
from worker.settings import Settings

_PARALLEL = 8
_POLL = 0.4


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


def plan(paths: Sequence[Path], prefix: str) -> list[Upload]:
    """A file's key is the prefix and its name; a folder's files keep their path below the folder.

    Raises:
        PermanentError: ``no_such_file`` for a path that isn't there, ``no_files`` where nothing is left to upload.
    """
    uploads = []
    for path in paths:
        if path.is_dir():
            files = sorted(item for item in path.rglob("*") if item.is_file())
            uploads += [Upload(item, prefix + str(PurePosixPath(item.relative_to(path)))) for item in files]
        elif path.is_file():
            uploads.append(Upload(path, prefix + path.name))
        else:
            raise PermanentError("no_such_file", f"there is no file or folder {str(path)!r}")
    if not uploads:
        raise PermanentError("no_files", "no file to upload was found")
    return uploads


def upload_all(uploads: Sequence[Upload], bucket: str) -> Iterator[tuple[Upload, str]]:
    """Upload a few at a time; yields each with its ETag as it is done."""
    client = s3_client()

    def one(upload: Upload) -> tuple[Upload, str]:
        kind, _ = mimetypes.guess_type(upload.path.name)
        client.upload_file(str(upload.path), bucket, upload.key, ExtraArgs={"ContentType": kind or "application/octet-stream"})
        return upload, facts_of(client.head_object(Bucket=bucket, Key=upload.key)).etag

    with ThreadPoolExecutor(_PARALLEL) as pool:
        yield from pool.map(one, uploads)


def known_before(keys: Sequence[str], scope: Scope, settings: Settings) -> dict[str, Before]:
    """The documents among these keys that exist already."""
    wanted = set(keys)
    return {row.key: Before(row.generation, row.status) for row in statuses(scope, settings) if row.key in wanted}


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
        rows = {row.key: row for row in statuses(scope, settings) if row.key in etags}
        done = sum(is_done(row, etags[key], before.get(key)) for key, row in rows.items())
        on_change(rows, done)
        if done == len(etags) or time.monotonic() > end:
            return rows
        time.sleep(_POLL)
