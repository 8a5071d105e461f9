"""Commands that change the bucket: put, rm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.connection import DataDir, connect
from infra.cli.output import console, errors, visible_key

if TYPE_CHECKING:
    from worker.services.documents import DocumentStatus
    from worker.settings import Settings


def _bucket(settings: Settings, name: str | None) -> str:
    if name is not None and name not in settings.buckets:
        raise typer.BadParameter(f"{name!r} is not among BUCKET={','.join(settings.buckets)}", param_hint="--bucket")
    return name or settings.buckets[0]


def put(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    prefix: Annotated[str, typer.Option(help="What the keys begin with, as it is: end it with / for a folder.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Return when each document is indexed or has failed.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait, with --wait.")] = 1800,
    bucket: Annotated[str | None, typer.Option(help="One of BUCKET, if there are several.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Upload files and folders to the bucket; hidden files in folders are left out.

    With --wait, exit code 1 says that a document FAILED; one without text (NO_TEXT, UNSUPPORTED) is told and is no failure.
    """
    settings = connect(data_dir).require("buckets")
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from infra.cli import uploads
    from worker.domain.document import Status
    from worker.domain.scope import Scope

    target = _bucket(settings, bucket)
    scope = Scope((target,), (prefix,))
    planned, left_out = uploads.plan(paths, prefix)
    before = uploads.known_before([item.key for item in planned], scope, settings) if wait else {}
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors) as progress:
        uploading = progress.add_task("uploading", total=len(planned))
        etags = {}
        for item, answer in uploads.upload_all(planned, target):
            progress.advance(uploading)
            if isinstance(answer, str):
                etags[item.key] = answer
            else:
                left_out.append(f"{item.path}: {answer.strerror}")
        if not wait:
            progress.stop()
            console.print(f"{len(etags)} uploaded to {target}; `lex-ingest status --watch` shows how they come along")
            _tell_what_was_left_out(left_out)
            return
        indexing = progress.add_task("indexing", total=len(etags))

        def show_progress(_: dict[str, DocumentStatus], done: int) -> None:
            progress.update(indexing, completed=done)

        rows = uploads.wait_for(etags, before, scope, settings, timeout, show_progress)
    unfinished = [key for key, etag in etags.items() if key not in rows or not uploads.is_done(rows[key], etag, before.get(key))]
    failed = [row for row in rows.values() if row.status is not Status.INDEXED and row.key not in unfinished]
    indexed = sum(row.status is Status.INDEXED and row.key not in unfinished for row in rows.values())
    console.print(f"{indexed} indexed, {len(failed)} not, {len(unfinished)} still waiting")
    for row in failed:
        console.print(f"  [yellow]{row.status}[/] {visible_key(row.key)}: {row.error}", highlight=False, soft_wrap=True)
    if unfinished:
        errors.print(f"not done after {timeout:g} s; `lex-ingest status` says what they wait for, `lex-ingest doctor` why")
    _tell_what_was_left_out(left_out)
    if unfinished or any(row.status is Status.FAILED for row in failed):
        raise typer.Exit(1)


def _tell_what_was_left_out(left_out: list[str]) -> None:
    """Name the files that were not uploaded, and end with exit code 1 where there are any."""
    for line in left_out:
        errors.print(f"not uploaded: {visible_key(line)}", highlight=False, markup=False, soft_wrap=True)
    if left_out:
        raise typer.Exit(1)


def rm(
    key: Annotated[str, typer.Argument(help="The key, exactly.")],
    bucket: Annotated[str | None, typer.Option(help="One of BUCKET, if there are several.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Delete an object from the bucket; its document leaves the index."""
    settings = connect(data_dir).require("buckets")
    from botocore.exceptions import ClientError

    from worker.objects import s3_client

    target = _bucket(settings, bucket)
    try:
        s3_client().head_object(Bucket=target, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        errors.print(f"there is no object {visible_key(key)!r} in {target}", soft_wrap=True)
        raise typer.Exit(1) from None
    s3_client().delete_object(Bucket=target, Key=key)
    console.print(f"removed {visible_key(key)} from {target}", soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (put, rm):
        app.command()(command)
