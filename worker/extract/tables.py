"""Rows to blocks: how a long table becomes pieces that a reader of one of them understands. Pure.

A row is one line ``a | b | c``; blocks of 1000 to 3000 characters, some 2000. Three rules:

* Where a block ends is told by the rows themselves (a checksum of the row that follows), not by how many came before: a row that
  is added or removed moves the ends near it only, and the chunks elsewhere stay the same and are not embedded again.
* Every later block of a table begins with the table's header row again, where there is one. The repeated line is part of the
  document text, so a chunk is still an exact slice of it; the chunker prefers a block's start to all other places.
* An empty cell keeps its place (``a |  | c``) where its column is in use, so that cells stand under their header.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left
from collections.abc import Sequence

from worker.extract.blocks import BlockBuilder, Limits

# The cells of a row that have text, on one line each: (column, text), columns rising.
Row = Sequence[tuple[int, str]]

_MIN_BLOCK, _MEAN_REST, _MAX_BLOCK = 1000, 1000, 3000
_LOOK_AHEAD = 10
# A longer run of empty cells in one row is shown as one: nobody counts them.
_MAX_EMPTY = 20
# Without a header each group of rows may bring columns of its own.
_MAX_COLUMNS = 2000
# A header this long takes a fifth of a block.
_MAX_HEADER, _MAX_LABEL = 400, 60
_LETTER = re.compile(r"[^\W\d_]")
_PERIOD = re.compile(r"(?:19|20)\d\d(?:-\d\d-\d\d)?")
_SIGNS = frozenset("#№%€$£")
_NO_LABELS = frozenset({"TRUE", "FALSE"})
_SEPARATOR = " | "


class TableWriter:
    """Takes the rows of a sheet or file in order and adds blocks to the builder."""

    def __init__(self, builder: BlockBuilder, limits: Limits, page: int | None = None) -> None:
        self._builder = builder
        self._page = page
        self._limits = limits
        self._characters = 0
        # Rows at the beginning, or behind an empty row, until it is known whether they begin a table of their own.
        self._waiting: list[Row] | None = []
        # The columns in use, once in order.
        self._known: set[int] = set()
        self._columns: list[int] = []
        self._has_header = False
        self._header: str | None = None
        self._lines: list[str] = []
        self._length = 0

    def add(self, row: Row) -> None:
        """Take the next row; it has at least one cell.

        Raises:
            Rejected: ``too_large``, ``bomb``.
        """
        # Counted before anything is joined: a long text may be the text of every cell.
        self._characters += sum([len(text) for _, text in row])
        self._limits.check(self._characters)
        if self._waiting is None:
            self._write(self._render(row))
            return
        self._waiting.append(row)
        if len(self._waiting) == _LOOK_AHEAD:
            self._decide()
            self._waiting = None

    def gap(self) -> None:
        """Take an empty row: what follows may be another table."""
        self._decide()
        self._waiting = []

    def finish(self) -> None:
        """Add what is left."""
        self._decide()
        self._flush()

    def _decide(self) -> None:
        rows, self._waiting = self._waiting or [], None
        header = _header_index(rows, proven=self._has_header)
        columns = {column for row in rows for column, _ in row}
        if header is not None and self._has_header:
            self._flush()
            self._header = None
            self._known = columns
            self._columns = sorted(columns)
        elif not self._has_header and not columns <= self._known and len(self._known) < _MAX_COLUMNS:
            self._known |= columns
            self._columns = sorted(self._known)
        for index, row in enumerate(rows):
            line = self._render(row)
            self._write(line)
            if index == header:
                self._has_header = True
                self._header = line if len(line) <= _MAX_HEADER else None

    def _render(self, row: Row) -> str:
        if [column for column, _ in row] == self._columns:
            return _SEPARATOR.join([text for _, text in row])
        cells: list[str] = []
        place = 0
        for column, text in row:
            index = bisect_left(self._columns, column, place)
            empty = index - place
            if empty:
                cells.extend([""] * (empty if empty <= _MAX_EMPTY else 1))
            cells.append(text)
            known = index < len(self._columns) and self._columns[index] == column
            place = index + 1 if known else index
        return _SEPARATOR.join(cells).strip()

    def _write(self, line: str) -> None:
        if self._lines and (self._length + len(line) > _MAX_BLOCK or (self._length >= _MIN_BLOCK and _begins_block(line))):
            self._flush()
            if self._header is not None:
                self._keep(self._header)
        self._keep(line)

    def _keep(self, line: str) -> None:
        self._lines.append(line)
        self._length += len(line) + 1

    def _flush(self) -> None:
        self._builder.add("\n".join(self._lines), "table", self._page)
        self._lines = []
        self._length = 0


def _begins_block(line: str) -> bool:
    """True of so many rows, by their own text only, that a block goes on for some 1000 characters."""
    return zlib.crc32(line.encode("utf-8", "surrogatepass")) * _MEAN_REST < len(line) << 32


def _header_index(rows: Sequence[Row], proven: bool) -> int | None:
    """Which row names the columns: the first with two thirds as many cells as the fullest, if all its cells are labels.

    Rows above it are a title. ``proven`` asks besides that the row below has a value where this one has a label.
    """
    fullest = max(map(len, rows), default=0)
    for index, row in enumerate(rows):
        if len(row) < 2 or 3 * len(row) < 2 * fullest:
            continue
        below = dict(rows[index + 1]) if index + 1 < len(rows) else {}
        if not all(_is_label(text, below.get(column, "")) for column, text in row):
            return None
        values = any(column in below and not _LETTER.search(below[column]) for column, _ in row)
        return index if values or not proven else None
    return None


def _is_label(text: str, below: str) -> bool:
    if len(text) > _MAX_LABEL:
        return False
    if _LETTER.search(text):
        return text not in _NO_LABELS and not text.startswith("#")
    # A year or a date is a label where it stands over something else.
    return text in _SIGNS or (_PERIOD.fullmatch(text) is not None and _PERIOD.fullmatch(below) is None)
