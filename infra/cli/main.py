"""``lex-ingest``: registers the commands, and turns expected errors into one line and an exit code.

Exit codes: 0 done, or the answer is yes; 1 it failed, or the answer is no; 2 wrong usage or setting; 3 nothing runs there,
or it can't be reached; 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from infra.cli import demo, documents, operate, stack
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
for module in (stack, documents, operate, demo):
    module.register(app)


def exit_code(error: Exception) -> int:
    """The exit code of an expected error."""
    if isinstance(error, SettingsError):
        return 2
    return 3 if isinstance(error, (NoStackError, TransientError)) else 1


def main() -> None:
    try:
        app()
    except (IngestError, SettingsError, StackError) as error:
        print(f"lex-ingest: {error}", file=sys.stderr)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
