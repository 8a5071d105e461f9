"""Commands for operators: doctor, migrate, purge, replay."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from infra.cli.connection import Bucket, DataDir, chosen_buckets, connect, data_dir_or_default, option_of
from infra.cli.documents import Json, parse_status
from infra.cli.output import console, json_line, say, tell, visible_key
from worker.domain.plurals import plural


def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the newest schema; safe to run again."""
    settings = connect(data_dir).require("database_url")
    from worker.services import migration

    before = migration.state(settings)
    profile = migration.migrate(settings)
    after = migration.state(settings)
    change = f"{before.current or 'empty'} → {after.current}" if before != after else f"already at {after.current}"
    say(f"schema: {change}\nvectors of {profile.model} ({profile.dimensions} dimensions): table {profile.table}")


def replay(
    key: Annotated[str | None, typer.Option(help="One document.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Documents whose key begins so.")] = None,
    only: Annotated[str | None, typer.Option("--status", help="Documents in this status, such as FAILED.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every document.")] = False,
    bucket: Bucket = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Read, chunk and embed documents again; each one's old version serves until its new one is ready."""
    if not (everything or key is not None or prefix is not None or only is not None):
        raise typer.BadParameter("say which documents: --key, --prefix, --status or --all")
    if everything and not (key is prefix is only is None):
        raise typer.BadParameter("--all goes with no other choice")
    status = parse_status(only)
    settings = connect(data_dir).require("database_url", "buckets", "redis_url")
    from worker.domain.scope import Scope
    from worker.services.replay import replay as replay_documents

    scope = Scope.of_buckets(chosen_buckets(settings, bucket)).within(prefix or "")
    number = 0
    for item in replay_documents(scope, settings, key=key, status=status):
        number += 1
        if as_json:
            json_line(item)
    if number == 0:
        tell("no document matches; deleted ones are never replayed")
        raise typer.Exit(1)
    if not as_json:
        what = visible_key(key) if key is not None and number == 1 else plural(number, "document")
        say(f"replaying {what}; `lex-ingest status --watch{option_of(data_dir)}` shows the progress")


def purge(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key; its object must be gone from the bucket.")],
    bucket: Bucket = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Erase everything about a removed object now, its key and its events too; else that happens within a day."""
    settings = connect(data_dir).require("buckets", "database_url")
    if bucket is None and len(settings.buckets) > 1:
        raise typer.BadParameter(f"one of {', '.join(settings.buckets)}", param_hint="--bucket")
    (target,) = chosen_buckets(settings, bucket)
    from worker.services.purge import purge as erase

    purged = erase(target, key, settings)
    if as_json:
        json_line(purged)
    if not purged.anything:
        tell(f"nothing was known of {visible_key(key)}")
        raise typer.Exit(1)
    if not as_json:
        what = f"{'the document and ' if purged.document else ''}{plural(purged.events, 'event')} in the ledger"
        say(f"erased {visible_key(key)}: {what}, and every vector that no document needs")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False, data_dir: DataDir = None
) -> None:
    """Check each part, and say what to do about what is wrong."""
    settings = connect(data_dir)
    from rich.markup import escape

    from infra.cli.checks import run_checks
    from infra.local.stack import find

    folder = data_dir_or_default(data_dir)
    option = option_of(data_dir) if folder != data_dir_or_default(None) else ""
    bad = False
    for check in run_checks(settings, find(folder), option):
        bad = bad or not check.ok
        if as_json:
            json_line(check)
        else:
            mark = "[green]ok[/]  " if check.ok else "[red]bad[/] "
            console.print(f"{mark} {check.name:<11} {escape(check.found)}", highlight=False, soft_wrap=True)
            if check.advice:
                console.print(f"     {'':<11} [bold]{escape(check.advice)}[/]", highlight=False, soft_wrap=True)
        sys.stdout.flush()  # a pipe too gets each finding at once
    if bad:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (doctor, migrate, purge, replay):
        app.command()(command)
