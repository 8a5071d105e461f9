"""The command that finds lost notifications: reconcile-bucket."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.connection import DataDir, connect
from infra.cli.output import console, errors, json_line, visible_key

if TYPE_CHECKING:
    from worker.domain.reconciling import Difference
    from worker.services.reconcile import Tally

# So many differences are shown to a person; --json gives all.
_SHOWN = 50
_IN_WORDS = {"missing": "not in the index", "changed": "another version", "gone": "not in the bucket"}


def reconcile_bucket(
    bucket: Annotated[str | None, typer.Option(help="One of BUCKET, if there are several.")] = None,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    allow_deletes: Annotated[
        bool, typer.Option("--allow-deletes", help="Also where more than 100 and more than 10% of the documents are gone.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell the differences.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line; the last one counts.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Compare the bucket with the documents, and have a worker look where they differ.

    Finds what a lost S3 notification has left behind: uploads, overwrites, removals. Exit code 1 says that too many documents
    were gone, so that no removal was passed on.
    """
    settings = connect(data_dir).require("database_url", "redis_url", "buckets")
    if bucket is not None and bucket not in settings.buckets:
        raise typer.BadParameter(f"{bucket!r} is not among BUCKET={','.join(settings.buckets)}", param_hint="--bucket")
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from worker.services.reconcile import reconcile

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    shown: list[Difference] = []
    tallies: list[Tally] = []
    # For a person, the progress goes first and the differences follow: both at once would write over each other.
    with Progress(*columns, console=errors, transient=True, disable=as_json or not errors.is_terminal) as progress:
        task = progress.add_task("comparing")

        def show_progress(tally: Tally) -> None:
            text = f"{tally.bucket}: {tally.objects:,} objects listed, {tally.documents:,} documents"
            progress.update(task, description=text)

        def take(found: Difference) -> None:
            if as_json:
                json_line(found)
            elif len(shown) < _SHOWN:
                shown.append(found)

        comparison = reconcile(
            [bucket] if bucket is not None else settings.buckets,
            settings,
            prefix=prefix,
            allow_deletes=allow_deletes,
            dry_run=dry_run,
            on_difference=take,
            on_progress=show_progress,
        )
        tallies.extend(comparison)
    if as_json:
        json_line(_sums(tallies))
    else:
        _print(shown, tallies, dry_run)
    for tally in tallies:
        if tally.unusable:
            errors.print(f"{tally.bucket}: {tally.unusable} keys hold a NUL, which PostgreSQL can't: they are left out")
        if tally.refused:
            again = ["lex-ingest", "reconcile-bucket", "--bucket", tally.bucket]
            again += ["--prefix", prefix] if prefix else []
            errors.print(_refusal(tally, shlex.join([*again, "--allow-deletes"])), highlight=False, markup=False, soft_wrap=True)
    if any(tally.refused for tally in tallies):
        raise typer.Exit(1)


def _sums(tallies: list[Tally]) -> dict[str, object]:
    """The last line of --json: the counts of all buckets together."""
    counts = [asdict(tally) for tally in tallies]
    names = [name for name in counts[0] if name not in ("bucket", "refused")]
    return {
        "buckets": [tally.bucket for tally in tallies],
        **{name: sum(count[name] for count in counts) for name in names},
        "refused": [tally.bucket for tally in tallies if tally.refused],
    }


def _print(shown: list[Difference], tallies: list[Tally], dry_run: bool) -> None:
    for found in shown:
        where = f"{found.bucket}: " if len(tallies) > 1 else ""
        line = f"{_IN_WORDS[found.difference]:<17}  {where}{visible_key(found.key)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    more = sum(tally.missing + tally.changed + tally.gone for tally in tallies) - len(shown)
    if more:
        console.print(f"… and {more:,} more; --json names them all")
    for tally in tallies:
        found_there = f"{tally.objects:,} objects, {tally.documents:,} documents"
        differences = f"{tally.missing:,} not in the index, {tally.changed:,} changed, {tally.gone:,} gone"
        hints = "dry run: no hint given" if dry_run else f"{tally.hinted:,} hints given"
        console.print(f"{tally.bucket}: {found_there}; {differences}; {hints}", highlight=False, markup=False, soft_wrap=True)


def _refusal(tally: Tally, command: str) -> str:
    others = f", and {tally.not_asked:,} more are not in its listing" if tally.not_asked else ""
    return (
        f"{tally.gone:,} of {tally.documents:,} documents are not in bucket {tally.bucket}{others}: more than 100 and more than"
        " 10%, so no removal was passed on. Check that BUCKET and the credentials are the right ones. If the objects really"
        f" were removed: {command}"
    )


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command()(reconcile_bucket)
