"""Which system a command talks to: the local stack of a data folder, or the one that the environment names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from infra.local.folder import StackError
from worker.settings import Settings

DEFAULT_DATA_DIR = Path(".lex-ingest")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="LEX_INGEST_DATA_DIR", help="Folder of the local stack.", show_default="./.lex-ingest"),
]


class NoStackError(StackError):
    """Nothing runs where the command looked."""


def data_dir_or_default(data_dir: Path | None) -> Path:
    return (data_dir or DEFAULT_DATA_DIR).absolute()


def connect(data_dir: Path | None) -> Settings:
    """The settings of what the command is to talk to; boto3 and openai find the rest in ``os.environ``.

    A running stack in ``data_dir`` (or, without one, in ./.lex-ingest) goes before ``DATABASE_URL``: its environment is
    put into ``os.environ``.

    Raises:
        NoStackError: no stack runs there, and no database is named.
        SettingsError: a variable has a value that can't be used.
    """
    from infra.local.stack import find

    stack = find(data_dir_or_default(data_dir))
    if stack:
        os.environ.update(stack.environment)
    elif data_dir is not None:
        raise NoStackError(f"No stack is running in {data_dir}: start one with `lex-ingest up --detach --data-dir {data_dir}`.")
    elif not os.environ.get("DATABASE_URL"):
        # A value that can't be used is a mistake whether or not a stack runs, and the message about it helps more.
        Settings.from_environment(os.environ)
        raise NoStackError(
            "No stack is running here: start one with `lex-ingest up --detach`, or set DATABASE_URL"
            " (and REDIS_URL, BUCKET, OPENAI_API_KEY) to talk to another system."
        )
    return Settings.from_environment(os.environ)
