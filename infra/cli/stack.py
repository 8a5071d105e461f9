"""Commands of the local stack: up, down, ps, env."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.connection import DataDir, NoStackError, data_dir_or_default
from worker.settings import Settings

if TYPE_CHECKING:
    from infra.local.stack import Stack


def up(
    data_dir: DataDir = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything answers; else Ctrl-C stops it all.")] = False,
) -> None:
    """Start the local stack and wait until everything answers."""
    from rich.console import Console

    from infra.local.stack import down as stop
    from infra.local.stack import find
    from infra.local.stack import up as start

    console = Console(stderr=True)
    # A value that can't be used is told before anything is started.
    Settings.from_environment(os.environ)
    folder = data_dir_or_default(data_dir)
    # A SIGTERM ends it as Ctrl-C does, at any moment.
    signal.signal(signal.SIGTERM, _interrupt)
    was_running, answered = find(folder) is not None, False
    started = time.monotonic()
    try:
        with console.status("starting …") as status:

            def show(line: str) -> None:
                console.print(f"  {line}", highlight=False, markup=False)
                status.update("starting …")

            stack = start(folder, detach=detach, on_progress=show)
        console.print(f"[green]The stack answers[/green] after {time.monotonic() - started:.1f} s.", highlight=False)
        console.print(f"  {_embedded_by(stack.environment)}", highlight=False, markup=False)
        console.print(_how_to_go_on(folder, data_dir, detach or was_running), highlight=False, markup=False, soft_wrap=True)
        if not detach and not was_running:
            answered = True
            while stack.is_running():
                time.sleep(0.5)
    except KeyboardInterrupt:
        if not answered:
            raise typer.Exit(130) from None
    if answered:
        # A second Ctrl-C must not leave half of it running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        console.print("stopping …")
        stop(folder)


def _embedded_by(environment: Mapping[str, str]) -> str:
    """Which model embeds, and what to do where the settings name another one."""
    from worker.services.models import serving

    settings = Settings.from_environment(environment)
    profile = serving(settings)
    if profile is None:
        return "embeddings      no model: run `lex-ingest migrate`"
    own = profile.provider == settings.embedding_provider
    where = profile.base_url or (settings.openai_base_url if own else None) or f"at {profile.provider}"
    said = "on this machine" if profile.provider == "local" else where
    line = f"embeddings      {profile.model} {said} ({profile.dimensions} dimensions)"
    if own and (profile.model, profile.dimensions) == (settings.embedding_model, settings.embedding_dimensions):
        return line
    return f"{line}, which indexed what is there; `lex-ingest model` changes to {settings.embedding_model}"


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _how_to_go_on(folder: Path, data_dir: Path | None, detached: bool) -> str:
    option = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else ""
    stop = f"lex-ingest down{option}" if detached else "Ctrl-C"
    return f"""\
  put documents   lex-ingest put PATH --wait{option}
  search          lex-ingest search 'what you look for'{option}
  other clients   eval "$(lex-ingest env{option})"
  stop            {stop}   (logs: {folder / "log"})"""


def down(data_dir: DataDir = None) -> None:
    """Stop the local stack. Its data folder keeps everything."""
    from infra.local.stack import down as stop

    folder = data_dir_or_default(data_dir)
    typer.echo(f"stopped {folder}" if stop(folder) else f"nothing was running in {folder}")


def ps(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
) -> None:
    """Ask each part of the running stack whether it answers."""
    from infra.local import health

    parts = health.ask(_running(data_dir))
    if as_json:
        for part in parts:
            typer.echo(json.dumps(asdict(part)))
        return
    typer.echo(f"{'PART':<12}{'STATE':<15}{'PID':>8}{'UP':>10}")
    for part in parts:
        reason = f"  {part.reason}" if part.reason else ""
        typer.echo(f"{part.name:<12}{part.state:<15}{part.pid or '-':>8}{f'{part.uptime_s} s':>10}{reason}")


# Version 1 of the AWS CLI sends `aws sqs` to queue.amazonaws.com, whatever AWS_ENDPOINT_URL says
# (https://github.com/aws/aws-cli/issues/8737); only its option changes that. fish, which has no such functions, skips the line.
_AWS_FUNCTION = (
    "type fish_config >/dev/null 2>&1 || eval 'aws() { "
    'if [ "${1-}" = sqs ]; then shift; command aws sqs --endpoint-url "$AWS_ENDPOINT_URL" "$@"; else command aws "$@"; fi; '
    "}'"
)


def env(data_dir: DataDir = None) -> None:
    """Print shell exports for any other client of the running stack."""
    environment = _running(data_dir).environment
    for name, value in sorted(environment.items()):
        typer.echo(f"export {name}={shlex.quote(value)}")
    if "AWS_ENDPOINT_URL" in environment:
        typer.echo(_AWS_FUNCTION)


def _running(data_dir: Path | None) -> Stack:
    from infra.local.stack import find

    folder = data_dir_or_default(data_dir)
    stack = find(folder)
    if stack is None:
        option = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir else ""
        raise NoStackError(f"No stack is running in {folder}: start one with `lex-ingest up --detach{option}`.")
    return stack


def register(app: typer.Typer) -> None:
    for command in (up, down, ps, env):
        app.command()(command)
