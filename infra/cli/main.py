"""``lex-ingest``: registers the commands, and turns expected errors into one line and an exit code.

Exit codes: 0 done, or the answer is yes; 1 it failed, or the answer is no; 2 wrong usage or setting; 3 nothing runs there,
or it can't be reached; 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from infra.cli import cost, demo, documents, models, objects, operate, reconcile, search, stack
from infra.cli.connection import NoStackError
from infra.local.folder import StackError
from worker.domain.errors import IngestError, TransientError
from worker.settings import SettingsError

app = typer.Typer(
    name="lex-ingest",
    help="Drop a document into an S3 bucket; seconds later its text is searchable by meaning in PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lex-ingest {version('lex-ingest')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Drop a document into an S3 bucket; seconds later its text is searchable by meaning in PostgreSQL."""


for module in (stack, objects, documents, search, cost, models, operate, reconcile, demo):
    module.register(app)


# Of drivers that a command may have imported, the errors that mean "nobody answers there".
UNREACHABLE = {
    "botocore.exceptions": ("HTTPClientError", "EndpointConnectionError"),
    "psycopg": ("OperationalError",),
    "redis.exceptions": ("ConnectionError", "TimeoutError"),
    "sqlalchemy.exc": ("OperationalError",),
}


def is_unreachable(error: Exception) -> bool:
    """Whether the error says that a part of the system does not answer. Imports no driver: one that raised is loaded."""
    known = [
        getattr(sys.modules[module], name) for module, names in UNREACHABLE.items() if module in sys.modules for name in names
    ]
    return isinstance(error, (NoStackError, TransientError, ConnectionError, *known))


def main() -> None:
    try:
        app()
    except Exception as error:
        if is_unreachable(error):
            next_step = "" if isinstance(error, NoStackError) else " Run `lex-ingest doctor` to see which part does not answer."
            _end(f"{_sentence(error)}{next_step}", 3)
        if isinstance(error, SettingsError):
            _end(str(error), 2)
        if isinstance(error, (IngestError, StackError, OSError)):
            _end(_sentence(error), 1)
        raise


def _sentence(error: Exception) -> str:
    """The error on one line, without a driver's background."""
    if isinstance(error, (IngestError, StackError)):
        return str(error)
    return f"{str(error).splitlines()[0]} ({type(error).__name__})." if str(error) else f"{type(error).__name__}."


def _end(sentence: str, code: int) -> NoReturn:
    print(f"lex-ingest: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
