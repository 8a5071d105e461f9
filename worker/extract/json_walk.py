"""A walk over the values of a JSON text, in order, without recursion and without building them.

Own code around ``json``'s string scanner: ``json.loads`` raises RecursionError on deep nesting, drops repeated keys, and holds a
file of small arrays in fifty times its size; ijson is a dependency with a C library for the same walk. RFC 8259, with the NaN and
Infinity that many writers put in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

# A string without escapes, a bracket or comma, the quote of another string, or a scalar.
_TOKEN = re.compile(
    r"[ \t\r\n]*(?:\"([^\"\\]*)\"|"
    r"([{}\[\],\"]|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null|NaN|-?Infinity))"
)
_COLON = re.compile(r"[ \t\r\n]*:")
_SPACE = re.compile(r"[ \t\r\n]*")
# Control characters in strings are a common mistake of writers, and no trouble here.
_STRINGS = json.JSONDecoder(strict=False)
_CLOSING = {"{": "}", "[": "]"}
_NO_VALUE = frozenset("]},")


class Event(NamedTuple):
    """The start or end of an object or array, a string, or another value as it is written.

    ``key`` is the name under which it stands in an object; None for an element of an array and for the outermost value.
    ``text`` is the bracket of a start or end.
    """

    kind: Literal["start", "end", "string", "scalar"]
    text: str
    key: str | None = None


def walk(text: str) -> Iterator[Event]:
    """Give the events of one value after another until the text ends; what has no error so far is given before it is met.

    Raises:
        ValueError: the text is not JSON. The message does not quote it.
    """
    closings: list[str] = []
    position = 0
    # Whether a value was just read, which a comma or a closing bracket follows; and whether a closing bracket may come instead
    # of a value.
    after_value = may_close = False
    while found := _TOKEN.match(text, position):
        string, mark = found.groups()
        start, position = found.start(found.lastindex or 0), found.end()
        if mark is not None and closings and mark == closings[-1] and (after_value or may_close):
            closings.pop()
            after_value, may_close = bool(closings), False
            yield Event("end", mark)
            continue
        if after_value:
            if mark != ",":
                raise ValueError(f"no comma at character {start}")
            after_value = may_close = False
            continue
        if mark == '"':
            string, position = _escaped(text, start)
        key = None
        if closings and closings[-1] == "}":
            colon = _COLON.match(text, position)
            if string is None or colon is None:
                raise ValueError(f"no name and colon at character {start}")
            key = string
            found = _TOKEN.match(text, colon.end())
            if found is None:
                break
            string, mark = found.groups()
            start, position = found.start(found.lastindex or 0), found.end()
            if mark == '"':
                string, position = _escaped(text, start)
        may_close = False
        if string is not None:
            yield Event("string", string, key)
        elif mark in _CLOSING:
            closings.append(_CLOSING[mark])
            may_close = True
            yield Event("start", mark, key)
            continue
        elif mark in _NO_VALUE:
            raise ValueError(f"no value at character {start}")
        else:
            yield Event("scalar", mark, key)
        after_value = bool(closings)
    rest = _SPACE.match(text, position)
    if closings or rest is None or rest.end() < len(text):
        raise ValueError(f"no JSON at character {position} of {len(text)}")


def _escaped(text: str, start: int) -> tuple[str, int]:
    """The string that begins with the quote at ``start``, and where it ends."""
    try:
        value, end = _STRINGS.raw_decode(text, start)
    except json.JSONDecodeError:
        # Its message is about the position only, but it holds the whole text.
        raise ValueError(f"no string at character {start}") from None
    return str(value), end
