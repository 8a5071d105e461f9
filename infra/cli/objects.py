"""Commands that change the bucket: put, rm."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.connection import Bucket, DataDir, chosen_bucket, connect, full_disk, option_of
from infra.cli.output import errors, say, tell, visible_key, visible_line
from worker.domain.plurals import plural

if TYPE_CHECKING:
    from rich.progress import Progress

    from infra.cli.uploads import Upload
    from worker.services.documents import DocumentStatus
    from worker.settings import Settings

# Seconds until the first line of progress, and between two lines, if standard error is no terminal and so shows no bars.
_FIRST_LINE, _LINE_EVERY = 2.0, 10.0


def put(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files and folders.")],
    prefix: Annotated[str, typer.Option(help="What the keys begin with, as it is: end it with / for a folder.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Return when each document is indexed or has failed.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait, with --wait.")] = 1800,
    bucket: Bucket = None,
    data_dir: DataDir = None,
) -> None:
    """Upload files and folders to the bucket; hidden files in folders are left out.

    First prints which model embeds them and about what that costs. With --wait, exit code 1 means that a document FAILED; a
    document without text (NO_TEXT, UNSUPPORTED) is listed and is no failure.
    """
    settings = connect(data_dir).require("buckets", *(["database_url"] if wait else []))
    from infra.cli import bucket_check

    target = chosen_bucket(settings, bucket)
    disk = _DiskWatch(settings, data_dir)
    disk.is_full()
    if not bucket_check.answers(target):
        tell("S3 has not answered within 2 s; trying again for 30 s")
    from infra.cli import uploads
    from infra.cli.prices import estimate_embedding
    from worker.domain.document import Status
    from worker.domain.scope import Scope

    option = option_of(data_dir)
    watch = f"`lex-ingest status --watch{option}`"
    scope = Scope((target,), (prefix,))
    planned, left_out = uploads.plan(paths, prefix)
    before = uploads.known_before([item.key for item in planned], scope, settings) if wait else {}
    embedding = estimate_embedding((item.path for item in planned), settings)
    tell(embedding.line, style="bold yellow" if embedding.is_paid else None)
    with _bars() as progress:
        etags = _upload(planned, target, progress, left_out, disk)
        if not wait:
            progress.stop()
            say(f"{plural(len(etags), 'file')} uploaded to {target}; {watch} shows the progress")
            _tell_what_was_left_out(left_out)
            return
        report = _progress_reporter(progress, len(etags), settings, disk)
        try:
            rows = uploads.wait_for(etags, before, scope, settings, timeout, report, disk.is_full)
        except KeyboardInterrupt:
            progress.stop()
            tell(f"no longer waiting: the uploaded files are processed all the same; {watch} shows the progress")
            raise
    unfinished = {key for key, etag in etags.items() if key not in rows or not uploads.is_done(rows[key], etag, before.get(key))}
    ended = [row for key, row in rows.items() if key not in unfinished]
    failed = [row for row in ended if row.status is not Status.INDEXED]
    say(f"{len(ended) - len(failed):,} indexed, {len(failed):,} not, {len(unfinished):,} still waiting")
    for row in failed:
        say(f"  {row.status} {visible_key(row.key)}: {visible_line(row.error or '')}")
    if unfinished:
        look = f"`lex-ingest status{option}` says what they wait for, `lex-ingest doctor{option}` says why"
        tell(f"not done after {timeout:g} s; {look}")
    _tell_what_was_left_out(left_out)
    if unfinished or any(row.status is Status.FAILED for row in failed):
        raise typer.Exit(1)


class _DiskWatch:
    """Whether the disk of the local stack is full, which is told every ten seconds: what is uploaded then waits for space."""

    def __init__(self, settings: Settings, data_dir: Path | None) -> None:
        self._settings, self._data_dir = settings, data_dir
        self._told_at = float("-inf")

    def is_full(self) -> bool:
        full = full_disk(self._settings, self._data_dir)
        if full and time.monotonic() - self._told_at > _LINE_EVERY:
            self._told_at = time.monotonic()
            tell(full)
        return full is not None


def _bars() -> Progress:
    """Progress bars on a terminal. Elsewhere they print nothing, and ``_progress_reporter`` prints lines instead."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    said = TextColumn("{task.fields[said]}", markup=False)
    return Progress(*columns, said, console=errors, disable=not errors.is_terminal)


def _upload(planned: list[Upload], bucket: str, progress: Progress, left_out: list[str], disk: _DiskWatch) -> dict[str, str]:
    """Upload the files. Returns the ETags by key; adds the files that failed, with the reason, to ``left_out``."""
    from infra.cli import uploads

    task = progress.add_task("uploading", total=len(planned), said="")
    etags = {}
    for item, answer in uploads.upload_all(planned, bucket, disk.is_full):
        progress.advance(task)
        if isinstance(answer, str):
            etags[item.key] = answer
        else:
            left_out.append(f"{visible_key(str(item.path))}: {getattr(answer, 'strerror', None) or answer}")
    return etags


def _progress_reporter(
    progress: Progress, documents: int, settings: Settings, disk: _DiskWatch
) -> Callable[[dict[str, DocumentStatus], int], None]:
    """Return a function that shows, at each poll, how many documents and chunks are done: as bars, or as a line per 10 s."""
    from infra.cli.progress import ChunkProgress

    chunks = ChunkProgress(settings)
    indexing = progress.add_task("documents", total=documents, said="")
    embedding = progress.add_task("chunks", total=None, said="", visible=False)
    line_at = time.monotonic() + _FIRST_LINE

    def show(rows: dict[str, DocumentStatus], done: int) -> None:
        nonlocal line_at
        chunks.look(rows.values())
        if progress.disable and time.monotonic() < line_at:
            return
        line_at = time.monotonic() + _LINE_EVERY
        disk.is_full()
        said = chunks.sentence() or ("" if done == documents or rows else "waiting for the uploads' events")
        progress.update(indexing, completed=done)
        progress.update(embedding, completed=chunks.embedded, total=chunks.total, said=said, visible=bool(chunks.total or said))
        if progress.disable:
            counts = f"{done:,} of {plural(documents, 'document')}, {chunks.embedded:,} of {plural(chunks.total, 'chunk')}"
            tell(f"{counts}{'; ' if said else ''}{visible_line(said)}")

    return show


def _tell_what_was_left_out(left_out: list[str]) -> None:
    """Name the files that were not uploaded, and end with exit code 1 where there are any."""
    for line in left_out:
        tell(f"not uploaded: {visible_line(line)}")
    if left_out:
        raise typer.Exit(1)


def rm(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key, exactly.")],
    bucket: Bucket = None,
    data_dir: DataDir = None,
) -> None:
    """Delete an object from the bucket; its document leaves the index."""
    if not key:
        raise typer.BadParameter("a key has at least one character", param_hint="KEY")
    settings = connect(data_dir).require("buckets")
    from botocore.exceptions import ClientError

    from infra.cli import bucket_check
    from worker.objects import s3_client

    target = chosen_bucket(settings, bucket)
    bucket_check.answers(target)
    try:
        s3_client().head_object(Bucket=target, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        tell(f"there is no object {visible_key(key)} in {target}")
        raise typer.Exit(1) from None
    s3_client().delete_object(Bucket=target, Key=key)
    say(f"removed {visible_key(key)} from {target}")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (put, rm):
        app.command()(command)
