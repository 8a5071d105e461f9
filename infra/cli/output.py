"""How commands print: tables for people, one JSON object a line for machines."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import datetime
from typing import Any
from uuid import UUID

from rich.console import Console

# Into a file or a pipe, a line stays a line: what reads it may look for a whole key.
_PIPE_WIDTH = 4000
console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
errors = Console(stderr=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH)


def heading(text: str) -> None:
    """A heading between two parts of a command's output."""
    console.print(f"\n[bold]── {text}[/]", highlight=False)


STATUS_STYLE = {
    "INDEXED": "green",
    "FAILED": "red",
    "UNSUPPORTED": "yellow",
    "NO_TEXT": "yellow",
    "DELETED": "dim",
}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def json_line(record: Any) -> None:
    """Print a dataclass or a dict as one line of JSON; text stays readable, and times are ISO 8601."""
    data = dataclasses.asdict(record) if dataclasses.is_dataclass(record) and not isinstance(record, type) else record
    sys.stdout.write(json.dumps(data, ensure_ascii=False, default=_plain) + "\n")


def visible_key(key: str) -> str:
    """A key on one line of a terminal: control characters are shown as escapes, so that they can't act on it."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in key)
