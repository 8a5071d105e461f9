"""Printing of commands: lines for people, one JSON object per line for programs, and control characters always escaped."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
import unicodedata
from datetime import datetime
from typing import Any, TextIO
from uuid import UUID

from rich.console import Console

# Into a file or a pipe, a line stays a line: what reads it may look for a whole key.
_PIPE_WIDTH = 4000
# Characters that a shell takes as they are, besides letters and digits. Not =, which zsh expands at the beginning of a word.
_SAFE_IN_SHELL = frozenset("@%+:,./-_")


def _open_standard_streams() -> None:
    """Open the standard streams that the caller closed (``>&-``), so that no other file gets their descriptors.

    A character that the terminal's encoding lacks is printed as an escape instead of raising UnicodeEncodeError.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python has None for a stream that was closed when it started.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - it stays open as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - the same
    for stream in (sys.stdout, sys.stderr):
        # A test or a notebook may replace the stream by one without ``reconfigure``.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


_open_standard_streams()


class _Console(Console):
    """Lets BrokenPipeError through, so that ``infra.cli.main`` handles a closed pipe in one place."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


console = _Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
errors = _Console(stderr=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH)


def say(line: str) -> None:
    """Print a line of a command's result: without markup, and not wrapped at the terminal's width."""
    console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)


def tell(line: str, style: str | None = None) -> None:
    """Print a line on standard error, as ``say`` does on standard output: an error or progress, not a result."""
    errors.print(line, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)


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
    """Print a dataclass or a dict as one line of JSON. Times are ISO 8601.

    Characters beyond ASCII are printed as they are if the output's encoding has all of them, else as escapes.
    """
    data = dataclasses.asdict(record) if dataclasses.is_dataclass(record) and not isinstance(record, type) else record
    line = json.dumps(data, ensure_ascii=False, default=_plain)
    if not _can_hold(sys.stdout, line):
        line = json.dumps(data, default=_plain)
    sys.stdout.write(line + "\n")


def _can_hold(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def visible_key(key: str) -> str:
    """Quote a key as one word for a shell, so that it can be pasted after ``lex-ingest show``.

    A key with control characters takes the form ``$'…'`` of bash, zsh, ksh and POSIX 2024, in which these are escapes.
    """
    if not all(character.isprintable() for character in key):
        return f"$'{''.join(_escaped(character) for character in key)}'"
    if key and all(character.isalnum() or character in _SAFE_IN_SHELL for character in key):
        return key
    return shlex.quote(key) if "'" in key else f"'{key}'"


_NAMED_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", "'": "\\'"}


def _escaped(character: str) -> str:
    if character in _NAMED_ESCAPES:
        return _NAMED_ESCAPES[character]
    if character.isprintable():
        return character
    # Three octal digits per byte, so that a digit after them is not read as a part of the escape.
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


def visible_text(text: str) -> str:
    """Text of a document for a terminal: control characters other than line feeds and tabs become escapes."""
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" else character
        for character in text
    )


def visible_line(text: str) -> str:
    """The same as ``visible_text`` for a text that must stay on one line: line feeds and tabs become escapes too."""
    return visible_text(text).replace("\n", "\\n").replace("\t", "\\t")
