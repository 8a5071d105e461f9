"""The walk over an HTML page's elements: what a person sees of each, with scripts on or off, becomes blocks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

from lxml import etree

from worker.domain.text import BlockKind
from worker.extract import html_objects
from worker.extract.blocks import BlockBuilder

# Chinese and Japanese letters: between two of them a line end in the source is no space (CSS Text 3, 4.1.3).
_WIDE = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_HAS_WIDE = re.compile(f"[{_WIDE}]")
_WIDE_BREAK = re.compile(f"(?<=[{_WIDE}])\r(?=[{_WIDE}])")
_SPACES = re.compile(r"[ \t\r\n\f\xa0]+")

# Never seen: code, what scripts make copies of, and the parts of drawings that only describe or define.
_SKIPPED = frozenset(["script", "style", "template", "title", "defs", "metadata", "desc", "datalist"])
# The HTML standard reads these as bare text, which is markup for whoever can't show frames: a reader of text is one.
_MARKUP_AS_TEXT = frozenset(["iframe", "noframes", "noembed"])
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCK_NAMES = """
    address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure footer form
    frameset header hgroup hr html iframe legend listing main marquee menu nav noframes ol p plaintext pre search section
    summary table tbody td tfoot th thead tr ul xmp
"""
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_LINES = frozenset(["br", "li", "option", "optgroup", "text", "textarea"])
_KEEPS_LINES = frozenset(["pre", "listing", "plaintext", "xmp", "textarea"])
_APART = frozenset(["button", "select", "noscript"])
_COUNTED = _KEEPS_LINES | {"nav", "noscript"}
_SILENT_INPUTS = frozenset(["hidden", "password", "checkbox", "radio", "file", "range", "color"])
_SRCDOC_DEPTH = 3
_NUMBER = re.compile(r"-?\d{1,6}")
_MARKERS: dict[str, Callable[[int], str]] = {
    "a": lambda number: chr(96 + number) if 0 < number < 27 else str(number),
    "A": lambda number: chr(64 + number) if 0 < number < 27 else str(number),
}


class Page:
    """Turns a walk over the elements into blocks. ``parse`` reads markup that stands in an attribute or as bare text.

    ``rows`` is not None inside a table of data, which becomes one block; every other table only lays out the page.
    """

    def __init__(self, builder: BlockBuilder, parse: Callable[[str], Any]) -> None:
        self.builder = builder
        self.first_heading: str | None = None
        self._parse = parse
        self._depth = 0
        self._parts: list[str] = []
        self._rows: list[str] | None = None
        self._cells: list[str] = []
        self._data_table: Any = None
        self._open: Counter[str] = Counter()
        self._pre = 0
        self._lists: list[tuple[Any, int]] = []
        self._marker = ""
        self._brackets = True
        self._alternatives: set[str] = set()

    def walk(self, root: Any) -> None:
        """Read an element and all within it."""
        walk = etree.iterwalk(root, events=("start", "end"))
        for event, element in walk:
            tag = element.tag if isinstance(element.tag, str) else ""
            skipped = not tag or tag in _SKIPPED
            if event == "start":
                if skipped:
                    walk.skip_subtree()
                else:
                    self._start(element, tag)
                continue
            if not skipped:
                self._end(element, tag)
            if element is not root:
                self._text(element.tail)
        self._flush()

    def _start(self, element: Any, tag: str) -> None:
        if tag in _HEADINGS or tag in _BLOCKS:
            self._flush()
        elif tag in _LINES:
            self._parts.append("\n" if self._data_table is None else " ")
        elif tag in _APART:
            self._parts.append(" ")
        if tag in _COUNTED:
            self._open[tag] += 1
            self._pre += tag in _KEEPS_LINES
        if tag == "table" and self._data_table is None and _holds_data(element):
            self._data_table, self._rows = element, []
        elif tag in ("td", "th", "tr", "caption") and self._rows is not None:
            self._stray(tag)
        elif tag == "ol":
            self._lists.append((element, _integer(element.get("start"), 1)))
        elif tag == "li":
            self._number(element)
        elif tag == "ruby":
            # Readings of Chinese letters; some bring brackets of their own for readers of plain text.
            self._brackets = element.find("rp") is None
        self._text(self._spoken(element, tag))
        if tag in _MARKUP_AS_TEXT:
            self._embedded(element)
        else:
            self._text(element.text)

    def _end(self, element: Any, tag: str) -> None:
        if self._rows is not None:
            self._end_of_cell(tag)
        if element is self._data_table:
            self._data_table = None
            self.builder.add("\n".join(self._rows or ()), "table")
            self._rows = None
        elif tag in _HEADINGS and self._data_table is None:
            heading = self._take()
            self.first_heading = self.first_heading or heading
            self.builder.add_heading(_HEADINGS[tag], heading)
        elif tag in _BLOCKS:
            self._flush()
        elif tag in _APART:
            self._parts.append(" ")
        elif tag == "q":
            self._parts.append("\u201d")
        elif tag == "rt" and self._brackets:
            self._parts.append(")")
        if tag in _COUNTED:
            self._open[tag] -= 1
            self._pre -= tag in _KEEPS_LINES
        if self._lists and element is self._lists[-1][0]:
            self._lists.pop()
        if tag == "li":
            self._marker = ""

    def _text(self, text: str | None) -> None:
        if not text:
            return
        if self._marker and text.strip():
            self._parts.append(self._marker)
            self._marker = ""
        if self._pre:
            self._parts.append(text)
        elif text.isascii() or not _HAS_WIDE.search(text):
            self._parts.append(_SPACES.sub(" ", text))
        else:
            self._parts.append(_SPACES.sub(lambda space: "\r" if "\n" in space[0] else " ", text))

    def _take(self) -> str:
        """The text since the last block, white space folded as a browser does."""
        joined = "".join(self._parts)
        self._parts.clear()
        if self._pre:
            return joined
        joined = _WIDE_BREAK.sub("", joined).replace("\r", " ")
        return "\n".join(line.strip() for line in re.sub(" {2,}", " ", joined).split("\n") if line.strip())

    def _flush(self, kind: BlockKind = "paragraph") -> None:
        if self._data_table is None:
            self.builder.add(self._take(), kind)
        else:
            self._parts.append(" ")

    def _stray(self, tag: str) -> None:
        """Text of a table that stands in no cell, which browsers show as well."""
        stray = " ".join(self._take().split())
        if stray:
            self._cells.append(stray)
        if tag in ("tr", "caption"):
            self._end_of_row()

    def _end_of_cell(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cells.append(" ".join(self._take().split()))
        elif tag in ("tr", "table", "caption"):
            self._stray("tr")

    def _end_of_row(self) -> None:
        if any(self._cells) and self._rows is not None:
            self._rows.append(" | ".join(self._cells))
        self._cells.clear()

    def _number(self, item: Any) -> None:
        """The number before an item of a numbered list. A menu is numbered in its source only."""
        if not self._lists or item.getparent() is not self._lists[-1][0] or self._open["nav"]:
            return
        numbered, number = self._lists[-1]
        if numbered.get("reversed") is not None:
            return
        number = _integer(item.get("value"), number)
        self._lists[-1] = (numbered, number + 1)
        self._marker = f"{_MARKERS.get(numbered.get('type', ''), str)(number)}. "

    def _spoken(self, element: Any, tag: str) -> str:
        """What an element shows that is no text within it: a picture's words, a field's value, a quotation mark."""
        match tag:
            case "img" | "area":
                # The author's words in the picture's place; a page for browsers without scripts often repeats the picture.
                alternative = element.get("alt") or element.get("title") or html_objects.picture_name(element)
                if self._open["noscript"] and alternative in self._alternatives:
                    return ""
                self._alternatives.add(alternative)
                return f" {alternative} "
            case "input":
                kind = element.get("type", "").lower()
                shown = element.get("alt") if kind == "image" else element.get("value") or element.get("placeholder")
                return "" if kind in _SILENT_INPUTS or not shown else f" {shown} "
            case "textarea":
                return "" if element.text else str(element.get("placeholder", ""))
            case "optgroup":
                return str(element.get("label", "")) + "\n"
            case "option":
                return "" if (element.text or "").strip() else str(element.get("label", ""))
            case "q":
                return "\u201c"
            case "rt":
                return "(" if self._brackets else ""
        return html_objects.note(element, tag)

    def _embedded(self, frame: Any) -> None:
        """The page that a frame holds in its own attribute, or else what its author wrote for readers without frames."""
        markup = frame.get("srcdoc") or frame.text
        if not markup or not markup.strip() or self._depth >= _SRCDOC_DEPTH:
            return
        self._depth += 1
        root = self._parse(markup)
        if root is not None:
            self.walk(root)
        self._depth -= 1


def _holds_data(table: Any) -> bool:
    """A table whose rows are lines of data; one with tables, headings or single cells in it only lays out a page."""
    # The first that iter gives is the table itself.
    if sum(1 for _ in islice(table.iter("table"), 2)) > 1:
        return False
    if next(table.iter(*_HEADINGS), None) is not None:
        return False
    return any(len(row.findall("td")) + len(row.findall("th")) > 1 for row in table.iter("tr"))


def _integer(value: str | None, default: int) -> int:
    return int(value) if value and _NUMBER.fullmatch(value.strip()) else default
