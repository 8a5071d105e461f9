"""The cells of a SpreadsheetML row as text: shared and inline strings, numbers in their format, merged cells once.

ISO/IEC 29500-1, 18.3, 18.4 and 18.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from worker.domain.errors import Rejected
from worker.extract.ooxml import Container
from worker.extract.ooxml_parts import elements
from worker.extract.xlsx_numbers import NumberFormat, number_format, shown

S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_T, _R, _V, _IS, _F = f"{S}t", f"{S}r", f"{S}v", f"{S}is", f"{S}f"
# A string costs some 60 bytes besides its text. A sheet has at most 1,048,576 rows.
MAX_STRINGS = 2_000_000
# What Excel allows is 65,490 formats, 16,384 columns and 1,048,576 rows.
_MAX_FORMATS = 1_000_000
_MAX_COLUMN = 16_384
_MAX_MERGED_COLUMNS = 1_000_000
# A whole number of so few digits is shown as it is.
_WHOLE_DIGITS = 15
# A character that XML can't hold is written as its number (22.9.2.19).
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_MERGED = re.compile(
    rb"<(?:\w{1,20}:)?mergeCell\s[^<>]{0,100}?\bref=[\"']\$?([A-Z]{1,3})\$?(\d{1,7}):\$?([A-Z]{1,3})\$?(\d{1,7})[\"']"
)
_LONGEST_MERGED = 200


def string(element: Any) -> str:
    """The text of a string item, an inline string or a comment: plain, or run by run; phonetic hints (rPh) are left out."""
    parts = []
    for child in element:
        if child.tag == _T:
            parts.append(child.text or "")
        elif child.tag == _R:
            parts.extend(text.text or "" for text in child.iterchildren(_T))
    return unescaped("".join(parts))


def unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


def shared_strings(container: Container, part: str, max_chars: int) -> list[str]:
    """The shared strings, each on one line.

    Raises:
        Rejected: ``too_large``, there are too many, or they hold more than ``max_chars`` characters.
    """
    strings: list[str] = []
    for item in elements(container.blocks(part), f"{S}si"):
        text = " ".join(string(item).split())
        max_chars -= len(text)
        if max_chars < 0 or len(strings) == MAX_STRINGS:
            raise Rejected("too_large", "the workbook's shared strings hold more text than allowed")
        strings.append(text)
    return strings


def cell_formats(container: Container, part: str) -> list[NumberFormat | None]:
    """The number format of each cell style, by its index."""
    codes: dict[str, str] = {}
    identifiers: list[str] = []
    # The other lists only to give their memory back.
    tags = [f"{S}{name}" for name in ("numFmt", "xf", "font", "fill", "border", "dxf", "cellStyle")]
    for element in elements(container.blocks(part), *tags):
        parent = element.getparent()
        if element.tag == tags[0] and parent is not None and parent.tag == f"{S}numFmts":
            codes[element.get("numFmtId", "")] = unescaped(element.get("formatCode", ""))
        elif element.tag == tags[1] and parent is not None and parent.tag == f"{S}cellXfs":
            identifiers.append(element.get("numFmtId", "0"))
        if len(codes) + len(identifiers) > _MAX_FORMATS:
            raise Rejected("too_large", f"the workbook has more than {_MAX_FORMATS} formats")
    known = {name: number_format(int(name), codes.get(name)) for name in set(identifiers) if name.isdecimal()}
    return [known.get(name) for name in identifiers]


class Merges:
    """The merged ranges of a sheet, asked row by row from the top.

    They stand behind the rows that they are about, so they are found beforehand, by their bytes.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        found = set()
        tail = b""
        width = 0
        for block in blocks:
            seen = tail + block
            for match in _MERGED.finditer(seen) if b"mergeCell" in seen else ():
                first, last = _column(match[1].decode()), _column(match[3].decode())
                width += last - first + 1
                # Ranges may not overlap; a file with this many columns in them is made to cost time.
                if width <= _MAX_MERGED_COLUMNS:
                    found.add((int(match[2]), first, last, int(match[4])))
            tail = seen[-_LONGEST_MERGED:]
        self._ranges = sorted(found, reverse=True)
        # By column: the last row of the range it is in, and the cell that shows the range's value.
        self._covered: dict[int, tuple[int, int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._ranges or self._covered)

    def hides(self, row: int, column: int) -> bool:
        """Whether the cell is in a range whose value another cell shows."""
        while self._ranges and self._ranges[-1][0] <= row:
            top, first, last, bottom = self._ranges.pop()
            for covered in range(first, last + 1):
                self._covered[covered] = (bottom, top, first)
        bottom, top, first = self._covered.get(column, (0, 0, 0))
        return row <= bottom and (row, column) != (top, first)


class Cells:
    """Reads rows of one workbook. ``formulas_without_result`` counts the cells that hold nothing else."""

    def __init__(self, strings: list[str], formats: list[NumberFormat | None], date1904: bool) -> None:
        self.formulas_without_result = 0
        self._strings = strings
        self._formats = formats
        self._date1904 = date1904
        self._columns: dict[str, int] = {}

    def row(self, row: Any, number: int, merges: Merges) -> list[tuple[int, str]]:
        """(column, text) of each cell with text, columns from 1 and rising.

        Raises:
            Rejected: ``damaged``, a cell names a shared string that isn't there.
        """
        cells = []
        column = 0
        rising = True
        for cell in row:
            given = self._column_of(cell.get("r", ""))
            rising = rising and (given == 0 or given > column)
            column = given or column + 1
            if not len(cell):
                continue
            text = self._text(cell)
            if text and not (merges and merges.hides(number, column)):
                cells.append((column, text))
        return cells if rising else sorted(dict(cells).items())

    def _column_of(self, reference: str) -> int:
        letters = reference.rstrip("0123456789")
        if letters not in self._columns:
            column = _column(letters) if len(letters) <= 3 and letters.isascii() and letters.isalpha() else 0
            if len(self._columns) > _MAX_COLUMN:
                return column
            self._columns[letters] = column
        return self._columns[letters]

    def _text(self, cell: Any) -> str:
        kind = cell.get("t")
        # The value is mostly the last child.
        child = cell[-1] if cell[-1].tag == _V else next(cell.iterchildren(_V, _IS), None)
        if child is not None and child.tag == _IS:
            return " ".join(string(child).split())
        value = child.text if child is not None else None
        if not value:
            self.formulas_without_result += value is None and cell.find(_F) is not None
            return ""
        if kind is None or kind == "n":
            return self._number(value, cell.get("s"))
        if kind == "s":
            return self._shared(value)
        if kind == "b":
            return "FALSE" if value.strip() in ("0", "false") else "TRUE"
        text = " ".join(unescaped(value).split())
        return text.removesuffix("T00:00:00") if kind == "d" else text

    def _shared(self, value: str) -> str:
        try:
            index = int(value)
            if index >= 0:
                return self._strings[index]
        except (ValueError, IndexError):
            pass
        raise Rejected("damaged", "a cell names a shared string that is not in the file")

    def _number(self, value: str, style: str | None) -> str:
        try:
            format = self._formats[int(style)] if style else None
            if format is None and len(value) <= _WHOLE_DIGITS and value.isdecimal() and value[0] != "0":
                return value
            number = float(value)
        except (ValueError, IndexError):
            return " ".join(value.split())
        return shown(number, format, self._date1904) or value


def _column(letters: str) -> int:
    """``A`` is 1, ``XFD`` 16,384; 0 beyond that."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number if number <= _MAX_COLUMN else 0
