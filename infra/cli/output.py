"""How commands print: lines for people, one JSON object per line for machines, and no line that a terminal would act on."""

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
# What may stand in a word of a shell without quotes, besides letters and digits. Not =, which zsh expands at a word's beginning.
_SAFE_IN_SHELL = frozenset("@%+:,./-_")


def _open_standard_streams() -> None:
    """Give the process the standard streams that its caller closed (``>&-``), so that no file of ours gets their numbers; and
    let no stream fail on a character that the terminal's encoding lacks: that one is shown as an escape."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python has None for a stream that was closed when it started.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - it stays open as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - the same
    for stream in (sys.stdout, sys.stderr):
        # A test's or a notebook's stream may be of another class.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


_open_standard_streams()


class _Console(Console):
    """Raises what a closed pipe raises, so that ``infra.cli.main`` ends the program alike for every way of printing."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


console = _Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
errors = _Console(stderr=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH)


def say(line: str) -> None:
    """Print a line for a person, as it is: whole, whatever the terminal's width, and without markup."""
    console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)


def tell(line: str, style: str | None = None) -> None:
    """Print a line on standard error, as ``say`` does: what went wrong, or what is going on, and no result."""
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
    """Print a dataclass or a dict as one line of JSON; text stays readable where the output can hold it, times are ISO 8601."""
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
    """A key as one word of a shell, so that what is printed can be pasted behind ``lex-ingest show``.

    What a shell would act on is in quotes. A key with control characters, which a terminal would act on, is in the form
    ``$'…'`` of bash, zsh, ksh and POSIX 2024, in which they are escapes.
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
    # By its bytes and three octal digits, so that no digit behind them is taken for a part of the escape.
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


def visible_text(text: str) -> str:
    """Text of a document for a terminal: control characters are shown as escapes, but for line feeds and tabs."""
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" else character
        for character in text
    )


def visible_line(text: str) -> str:
    """The same for what must stay on one line, such as an error's message."""
    return visible_text(text).replace("\n", "\\n").replace("\t", "\\t")


def shortened(text: str, width: int) -> str:
    """At most ``width`` columns of the text, with … in its middle where some is left out."""
    if len(text) <= width:
        return text
    head = max(1, (width - 1) // 2)
    return f"{text[:head]}…{text[len(text) - max(0, width - 1 - head) :]}"
