"""Commands of the local stack: up, down, ps, env."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infra.cli.connection import DataDir, NoStackError, data_dir_or_default, option_of
from infra.cli.step_display import StepDisplay
from worker.contract import LOCAL_PROVIDER
from worker.settings import Settings

if TYPE_CHECKING:
    from infra.local.stack import Stack


class ProviderName(StrEnum):
    """The values of ``--provider``."""

    local = "local"
    env = "env"


def up(
    data_dir: DataDir = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything answers; else Ctrl-C stops it all.")] = False,
    provider: Annotated[
        ProviderName | None,
        typer.Option(
            help="Which model embeds: `local` is a model on this machine, `env` sends the documents' text to the provider of"
            " OPENAI_API_KEY (and OPENAI_BASE_URL). The stack remembers the choice; the default is `local`.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start the local stack and wait until everything answers."""
    # A value that can't be used is told before anything is started.
    Settings.from_environment(os.environ)
    folder = data_dir_or_default(data_dir)
    print(f"starting the stack in {folder}", file=sys.stderr, flush=True)
    started = time.monotonic()
    # A SIGTERM ends it as Ctrl-C does, at any moment.
    signal.signal(signal.SIGTERM, _interrupt)
    stack, detached = None, detach
    try:
        # These imports take seconds if Python has to compile the modules.
        with StepDisplay() as steps:
            steps.wait("loading")
            from infra.local.stack import provider_of
            from infra.local.stack import up as start

            remembered = provider_of(folder)
        chosen = provider.value if provider else remembered or _ask_for_provider()
        with StepDisplay() as steps:
            stack = start(folder, provider=chosen, detach=detach, on_progress=steps.done, on_wait=steps.wait)
            steps.wait("the model that serves")
            embedded_by = describe_provider(Settings.from_environment(stack.environment))
        detached = detach or stack.supervisor is None  # None: the stack ran already
        print(f"The stack answers after {time.monotonic() - started:.1f} s.", file=sys.stderr)
        print(f"  embeddings      {embedded_by}", file=sys.stderr)
        if chosen == "local" and _has_provider_key():
            print(f"  {_KEY_UNUSED}", file=sys.stderr)
        print(_how_to_go_on(folder, data_dir, detached), file=sys.stderr)
        if detached or stack.supervisor is None:
            return
        while stack.supervisor.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        if stack is None or detached:
            raise typer.Exit(130) from None
    # A second Ctrl-C must not leave a part of the stack running.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StepDisplay() as steps:
        steps.done("stopping")
        steps.wait("the parts to end")
        stack.end()


_KEY_UNUSED = (
    "OPENAI_API_KEY is set and not used: the documents' text stays on this machine."
    " `lex-ingest up --provider env` sends it to that provider."
)


def _has_provider_key() -> bool:
    """Whether OPENAI_API_KEY is the user's own, and not the local model's key that `lex-ingest env` exports."""
    from infra.local.parts import of_user

    return bool(of_user(os.environ).get("OPENAI_API_KEY"))


def _ask_for_provider() -> Literal["local", "env"]:
    """Choose the provider of a new stack. An exported key alone is no consent to send documents away and to pay, so ask."""
    if not (_has_provider_key() and sys.stdin.isatty() and sys.stderr.isatty()):
        return "local"
    target = os.environ.get("OPENAI_BASE_URL") or "OpenAI"
    question = (
        f"OPENAI_API_KEY is set. Send the text of every document to {target}, which may cost money? (no: a model on this machine)"
    )
    return "env" if typer.confirm(question, default=False, err=True) else "local"


def describe_provider(settings: Settings) -> str:
    """Say which model embeds and where, and what to do if the settings name another model."""
    from worker.services.models import serving

    profile = serving(settings)
    if profile is None:
        return "no model: run `lex-ingest migrate`"
    own = profile.provider == settings.embedding_provider
    where = profile.base_url or (settings.openai_base_url if own else None) or f"at {profile.provider}"
    said = "on this machine" if profile.provider == LOCAL_PROVIDER else where
    line = f"{profile.model} {said} ({profile.dimensions} dimensions)"
    if own and (profile.model, profile.dimensions) == (settings.embedding_model, settings.embedding_dimensions):
        return line
    return f"{line}, which indexed what is there; `lex-ingest model` changes to {settings.embedding_model}"


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _how_to_go_on(folder: Path, data_dir: Path | None, detached: bool) -> str:
    option = option_of(data_dir)
    stop = f"lex-ingest down{option}" if detached else "Ctrl-C"
    return f"""\
  put documents   lex-ingest put PATH --wait{option}
  search          lex-ingest search 'what you look for'{option}
  other clients   eval "$(lex-ingest env{option})"
  stop            {stop}   (logs: {folder / "log"})"""


def down(
    data_dir: DataDir = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the bucket, the documents and the index too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --delete: do not ask.")] = False,
) -> None:
    """Stop the local stack. Its data folder keeps everything, unless --delete is given."""
    from infra.local.stack import down as stop

    folder = data_dir_or_default(data_dir)
    if yes and not delete:
        raise typer.BadParameter("it goes with --delete only", param_hint="--yes")
    if delete:
        _delete(folder, yes)
        return
    with StepDisplay() as steps:
        steps.wait("the parts to end")
        was_running = stop(folder)
    typer.echo(f"stopped {folder}" if was_running else f"nothing was running in {folder}")


def _delete(folder: Path, yes: bool) -> None:
    """List what will be deleted, ask for consent unless ``yes``, and delete it."""
    from infra.local.folder import Folder, require_private, size
    from infra.local.stack import StackError
    from infra.local.stack import delete as delete_stack

    require_private(folder)
    if not Folder.is_stack(folder):
        raise StackError(f"{folder} is not the data folder of a stack: nothing was deleted.")
    contents = {
        "the bucket": ("aws.sqlite", "aws.sqlite-wal", "aws.sqlite-shm"),
        "documents and index": ("postgres",),
        "messages": ("valkey",),
        "logs": ("log",),
    }
    sizes = ", ".join(f"{what} {sum(size(folder / name) for name in names) / 1e6:.1f} MB" for what, names in contents.items())
    typer.echo(f"{folder} will be stopped and deleted: {sizes}.", err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter(
                "no terminal to ask for consent: add --yes to delete without a question", param_hint="--delete"
            )
        typer.confirm("Delete it?", default=False, abort=True, err=True)
    with StepDisplay() as steps:
        steps.wait("the parts to end")
        left = delete_stack(folder)
    typer.echo(f"deleted {folder}" if not left else f"deleted the stack; {folder} still holds other files: {', '.join(left)}")


def ps(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
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
        raise NoStackError(f"No stack is running in {folder}: start one with `lex-ingest up --detach{option_of(data_dir)}`.")
    return stack


def register(app: typer.Typer) -> None:
    for command in (up, down, ps, env):
        app.command()(command)
