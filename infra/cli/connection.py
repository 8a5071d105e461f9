"""Which system a command talks to: the local stack of a data folder, or the one that the environment names."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

import typer

from infra.cli.output import tell
from infra.local.folder import Folder, StackError
from worker.settings import Settings, SettingsError

if TYPE_CHECKING:
    from infra.local.stack import Stack

DEFAULT_DATA_DIR = Path(".lex-ingest")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="LEX_INGEST_DATA_DIR", help="Folder of the local stack.", show_default="./.lex-ingest"),
]
Bucket = Annotated[str | None, typer.Option("--bucket", help="Which bucket, if BUCKET names several.")]

# Variables whose values no two systems share, so that they show which system the environment belongs to.
_IDENTIFYING = ("REDIS_URL", "AWS_ENDPOINT_URL", "QUEUE_URL")
# Variables that boto3, openai or lex-ingest would read besides a stack's own, and that would lead them to another system.
_FOREIGN = frozenset(
    {
        "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_REGION",
        "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID",
    }
)  # fmt: skip


class NoStackError(StackError):
    """Nothing runs where the command looked."""


def data_dir_or_default(data_dir: Path | None) -> Path:
    return (data_dir or DEFAULT_DATA_DIR).absolute()


def option_of(data_dir: Path | None) -> str:
    """What a command that is shown to the user needs, so that it talks to the same stack: `` --data-dir D``, or nothing."""
    return f" --data-dir {shlex.quote(str(data_dir))}" if data_dir is not None else ""


def connect(data_dir: Path | None) -> Settings:
    """Return the settings of the system that the command talks to; boto3 and openai read the rest from ``os.environ``.

    The first of these that there is: the running stack of ``data_dir``; the database of ``DATABASE_URL``, unless that is the
    stack's own; the running stack of ./.lex-ingest. All settings come from that one system: from the stack's environment, which
    is put into ``os.environ``, or from the caller's variables. If there are two systems, a line on standard error names the one
    that is used.

    Raises:
        NoStackError: no stack runs there, and no database is named.
        SettingsError: a variable has a value that can't be used, or the variables belong to two systems.
    """
    from infra.local.stack import find

    folder = data_dir_or_default(data_dir)
    stack, url = find(folder), os.environ.get("DATABASE_URL", "").strip()
    # A stopped stack has an environment too: variables exported from it mean this stack, and no other system.
    known = stack.environment if stack is not None else Folder.load(folder).environment
    is_other = bool(url) and _database(url) != _database(known.get("DATABASE_URL", ""))
    if data_dir is not None:
        if stack is None:
            raise NoStackError(
                f"No stack is running in {data_dir}: start one with `lex-ingest up --detach{option_of(data_dir)}`."
            )
        if is_other:
            tell(f"lex-ingest: talks to the stack in {folder} (--data-dir), not to the database {_named(url)} (DATABASE_URL).")
        _use(stack)
    elif is_other:
        # A value that can't be used is the first thing to say.
        Settings.from_environment(os.environ)
        if known:
            tell(f"lex-ingest: talks to the database {_named(url)} (DATABASE_URL), not to the stack in {folder}.")
            _refuse_mixture(known, folder)
    elif stack is not None:
        _use(stack)
    elif not url:
        # If a variable has a bad value, a message about that variable helps more than "no stack is running".
        Settings.from_environment(os.environ)
        raise NoStackError(
            "No stack is running here: start one with `lex-ingest up --detach`, or set DATABASE_URL"
            " (and REDIS_URL, BUCKET, OPENAI_API_KEY) to talk to another system."
        )
    return Settings.from_environment(os.environ)


def is_of(stack: Stack, settings: Settings) -> bool:
    """Whether the settings are those of the stack. They may be of another system, which the environment names."""
    return stack.environment.get("DATABASE_URL") == settings.database_url


def full_disk(settings: Settings, data_dir: Path | None) -> str | None:
    """Say that the disk of the local stack is full; None if it is not, or if the settings are of another system."""
    from infra.local.folder import disk_space
    from infra.local.stack import find

    stack = find(data_dir_or_default(data_dir))
    if stack is None or not is_of(stack, settings):
        return None
    space = disk_space(stack.data_dir)
    if not space.is_full:
        return None
    return f"the disk of the data folder {stack.data_dir} is full ({space}): documents wait until there is space"


def _use(stack: Stack) -> None:
    """Let this process talk to the stack, and to nothing else."""
    for name in list(os.environ):
        if name in _FOREIGN or name.startswith("AWS_ENDPOINT_URL_"):
            del os.environ[name]
    os.environ.update(stack.environment)


def _refuse_mixture(environment: dict[str, str], folder: Path) -> None:
    """Refuse another system's database together with this stack's Redis, S3 or queue: their documents would be mixed up.

    Raises:
        SettingsError: one of these is the stack's own.
    """
    mixed = [name for name in _IDENTIFYING if os.environ.get(name) and os.environ[name] == environment.get(name)]
    if mixed:
        raise SettingsError(
            f"DATABASE_URL names another system than {' and '.join(mixed)}, which are those of the stack in {folder}:"
            " set the other system's values for these too, or unset DATABASE_URL."
        )


def _database(url: str) -> tuple[str, int | None, str] | str:
    """Identify the URL's database by host, port and name. The role and the password do not matter."""
    try:
        parts = urlsplit(url)
        host = "127.0.0.1" if parts.hostname in ("localhost", "::1") else parts.hostname or ""
        return host, parts.port or 5432, parts.path.strip("/") + (f"?{parts.query}" if not host else "")
    except ValueError:
        return url


def _named(url: str) -> str:
    """Name the database for a person: name, host and port, without the password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "this machine", parts.port or 5432
    except ValueError:
        return "…"
    return f"{unquote(parts.path.strip('/')) or '…'} on {host}:{port}"


def chosen_bucket(settings: Settings, name: str | None) -> str:
    """The bucket of ``--bucket``, else the first of BUCKET.

    Raises:
        typer.BadParameter: the bucket is not among BUCKET.
    """
    return chosen_buckets(settings, name)[0]


def chosen_buckets(settings: Settings, name: str | None) -> tuple[str, ...]:
    """The bucket of ``--bucket`` alone, else all of BUCKET.

    Raises:
        typer.BadParameter: the bucket is not among BUCKET.
    """
    if name is not None and name not in settings.buckets:
        raise typer.BadParameter(f"{name!r} is not among BUCKET={','.join(settings.buckets)}.", param_hint="--bucket")
    return settings.buckets if name is None else (name,)
