"""The command that finds lost notifications: reconcile-bucket."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.connection import Bucket, DataDir, chosen_buckets, connect
from infra.cli.output import errors, json_line, say, tell, visible_key
from worker.domain.plurals import plural

if TYPE_CHECKING:
    from worker.domain.reconciling import Difference
    from worker.services.reconcile import Tally

# So many differences are shown to a person; --json gives all.
_SHOWN = 50
_IN_WORDS = {"missing": "not in the index", "changed": "another version", "gone": "not in the bucket"}


def reconcile_bucket(
    bucket: Bucket = None,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    allow_deletes: Annotated[
        bool, typer.Option("--allow-deletes", help="Also where more than 100 and more than 10% of the documents are gone.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell the differences.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line; the last one has the counts.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Compare the bucket with the documents, and have a worker look where they differ.

    Finds what a lost S3 notification has left behind: uploads, overwrites, removals. Exit code 1 says that too many documents
    were gone, so that no removal was passed on.
    """
    settings = connect(data_dir).require("database_url", "redis_url", "buckets")
    buckets = chosen_buckets(settings, bucket)
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from worker.services.reconcile import reconcile

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    shown: list[Difference] = []
    tallies: list[Tally] = []
    # For a person, the progress goes first and the differences follow: both at once would write over each other.
    with Progress(*columns, console=errors, transient=True, disable=as_json or not errors.is_terminal) as progress:
        task = progress.add_task("comparing")

        def show_progress(tally: Tally) -> None:
            text = f"{tally.bucket}: {plural(tally.objects, 'object')} listed, {plural(tally.documents, 'document')}"
            progress.update(task, description=text)

        def take(found: Difference) -> None:
            if as_json:
                json_line(found)
            elif len(shown) < _SHOWN:
                shown.append(found)

        comparison = reconcile(
            buckets,
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
            tell(f"{tally.bucket}: {plural(tally.unusable, 'key')} left out, because PostgreSQL can't store the NUL in them")
        if tally.refused:
            again = ["lex-ingest", "reconcile-bucket", "--bucket", tally.bucket]
            again += ["--prefix", prefix] if prefix else []
            tell(_refusal(tally, shlex.join([*again, "--allow-deletes"])))
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
        say(line)
    more = sum(tally.missing + tally.changed + tally.gone for tally in tallies) - len(shown)
    if more:
        say(f"… and {more:,} more; --json names them all")
    for tally in tallies:
        found_there = f"{plural(tally.objects, 'object')}, {plural(tally.documents, 'document')}"
        differences = f"{tally.missing:,} not in the index, {tally.changed:,} changed, {tally.gone:,} gone"
        hints = "dry run: no hint given" if dry_run else f"{plural(tally.hinted, 'hint')} given"
        say(f"{tally.bucket}: {found_there}; {differences}; {hints}")


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
