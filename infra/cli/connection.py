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
Bucket = Annotated[str | None, typer.Option("--bucket", help="One of BUCKET, if there are several.")]

# Values that no two systems share, so that they tell whose the others in the environment are.
_TELLING = ("REDIS_URL", "AWS_ENDPOINT_URL", "QUEUE_URL")
# What boto3 and openai would read besides a stack's own variables, and go to another system by.
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


def connect(data_dir: Path | None) -> Settings:
    """The settings of the system that the command is to talk to; boto3 and openai find the rest in ``os.environ``.

    In this order: the running stack of ``data_dir``; the database of ``DATABASE_URL``; the running stack of ./.lex-ingest, whose
    own URL in ``DATABASE_URL`` is no other system. Everything comes from one of them: from the stack's environment, which is put
    into ``os.environ``, or from the variables of the caller. Where both would do, a line on standard error names the one.

    Raises:
        NoStackError: no stack runs there, and no database is named.
        SettingsError: a variable has a value that can't be used, or the variables are of two systems.
    """
    from infra.local.stack import find

    folder = data_dir_or_default(data_dir)
    stack, url = find(folder), os.environ.get("DATABASE_URL", "").strip()
    # A stopped stack has an environment too: who has set its variables means that stack.
    known = stack.environment if stack is not None else Folder.load(folder).environment
    is_other = bool(url) and _database(url) != _database(known.get("DATABASE_URL", ""))
    if data_dir is not None:
        if stack is None:
            start = f"lex-ingest up --detach --data-dir {shlex.quote(str(data_dir))}"
            raise NoStackError(f"No stack is running in {data_dir}: start one with `{start}`.")
        if is_other:
            tell(f"lex-ingest: talks to the stack in {folder} (--data-dir), not to the database {_named(url)} (DATABASE_URL).")
        _use(stack)
    elif is_other:
        if known:
            tell(f"lex-ingest: talks to the database {_named(url)} (DATABASE_URL), not to the stack in {folder}.")
            _refuse_mixture(known, folder)
    elif stack is not None:
        _use(stack)
    elif not url:
        # A value that can't be used is a mistake whether or not a stack runs, and the message about it helps more.
        Settings.from_environment(os.environ)
        raise NoStackError(
            "No stack is running here: start one with `lex-ingest up --detach`, or set DATABASE_URL"
            " (and REDIS_URL, BUCKET, OPENAI_API_KEY) to talk to another system."
        )
    return Settings.from_environment(os.environ)


def is_of(stack: Stack, settings: Settings) -> bool:
    """Whether the settings are those of the stack; the environment may name another system than the stack that runs here."""
    return stack.environment.get("DATABASE_URL") == settings.database_url


def full_disk(settings: Settings, data_dir: Path | None) -> str | None:
    """A sentence about the disk of the local stack that the settings are of, if that disk is full; else None."""
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
    """Refuse another database together with the stack's own queue or bucket: each would be told of the other's documents."""
    mixed = [name for name in _TELLING if os.environ.get(name) and os.environ[name] == environment.get(name)]
    if mixed:
        raise SettingsError(
            f"DATABASE_URL names another system than {' and '.join(mixed)}, which are those of the stack in {folder}:"
            " set the other system's values for these too, or unset DATABASE_URL."
        )


def _database(url: str) -> tuple[str, int | None, str] | str:
    """Where the URL's database is: host, port and name. Roles and passwords of one database are no other system."""
    try:
        parts = urlsplit(url)
        host = "127.0.0.1" if parts.hostname in ("localhost", "::1") else parts.hostname or ""
        return host, parts.port or 5432, parts.path.strip("/") + (f"?{parts.query}" if not host else "")
    except ValueError:
        return url


def _named(url: str) -> str:
    """The database for people: its name, host and port. Never its password."""
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
