"""A page of pdfium -> its lines with their places.

pdfium puts what stands side by side into one line, across the gutter of two columns too; where the lines of a page have such a
gap in common, they are divided there, and at a leap back, and ``pdf_columns`` tells columns from tables.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable

import pypdfium2
import pypdfium2.raw as pdfium

from worker.extract.pdf_columns import column_by_column
from worker.extract.pdf_layout import HYPHEN_MARKS, Line

_LINE = re.compile(f"[^\r\n{HYPHEN_MARKS}]*(?:[{HYPHEN_MARKS}]|\r?\n|\r|$)")
_SPACES = re.compile(r"(?<=\S) +(?=\S)")
_PADDING = HYPHEN_MARKS + " "
# A gap is wide from so many line heights on, and a leap to the left one from a column to another.
_WIDE, _LEAP = 0.8, 10
# How many lines tell whether a closer look at a page is worth its time.
_PROBES = 4
_MOST_PARTS = 8
# The gap of a leap to the left.
_ANYWHERE = (-1e9, 1e9)

# Left, top, right, bottom in points, as FS_RECTF has them.
_Box = tuple[float, float, float, float]
_Place = Callable[[int], _Box | None]
# Without the types of its arguments, which to check takes longer than the call: a page has some 140 of them.
_get_box = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.cast(pdfium.FPDFText_GetLooseCharBox, ctypes.c_void_p).value or 0)
_edges = struct.Struct("4f").unpack


def lines_of(textpage: pypdfium2.PdfTextPage, text: str) -> list[Line]:
    """The lines of a page's text, with the places of their first and last letters, in the file's order; or by columns, where
    the file draws two in turns."""
    lines: list[Line] = []
    starts: list[int] = []
    place, size = _places(textpage, text)
    height, font_size = 0.0, 0.0
    for match in _LINE.finditer(text):
        # Marks stay: they say how to join.
        line = match[0].rstrip("\r\n")
        if not line or line.isspace():
            continue
        start = begin = match.start()
        if line[0].isspace():
            begin += len(line) - len(line.lstrip())
        first, last = place(begin), place(start + len(line.rstrip(_PADDING)) - 1)
        starts.append(start)
        if first is None or last is None:
            lines.append(Line(line))
            continue
        left, top, right, bottom = first
        if height != top - bottom:
            # Letters of one height in a row are of one size, nearly always, and not to ask saves a fifth of this.
            height, font_size = top - bottom, size(begin)
        lines.append(Line(line, min(left, last[0]), bottom, max(right, last[2]), top, last[1] - last[3], font_size))
    if len(lines) > _PROBES and _has_gaps(textpage, lines, starts):
        divided = [part for line, start in zip(lines, starts, strict=True) for part in _divide(line, start, place)]
        return column_by_column(divided) or lines
    return column_by_column(lines) or lines


def _places(textpage: pypdfium2.PdfTextPage, text: str) -> tuple[_Place, Callable[[int], float]]:
    """Two functions from an index of the text: to the box of that character, None where it has none, and to its font's size.

    One box is used again and again, and no call goes through pypdfium2's objects.
    """
    page, box = textpage.raw, pdfium.FS_RECTF()
    pointer, target = ctypes.cast(page, ctypes.c_void_p), ctypes.byref(box)
    same = pdfium.FPDFText_CountChars(page) == len(text)

    def place(index: int) -> _Box | None:
        if not same:
            index = pdfium.FPDFText_GetCharIndexFromTextIndex(page, max(0, index))
        return _edges(box) if index >= 0 and _get_box(pointer, index, target) else None

    def size(index: int) -> float:
        return float(pdfium.FPDFText_GetFontSize(page, index if same else pdfium.FPDFText_GetCharIndexFromTextIndex(page, index)))

    return place, size


def _has_gaps(textpage: pypdfium2.PdfTextPage, lines: list[Line], starts: list[int]) -> bool:
    """Whether some of the longest lines are set in parts, with a wide gap between them in one place, or leap to the left."""
    long = sorted(range(len(lines)), key=lambda index: lines[index].left - lines[index].right)[: 4 * _PROBES : 4]
    gaps = [_gaps(textpage.raw, starts[index], lines[index]) for index in long]
    places = {(begin + end) / 2 for found in gaps for begin, end in found}
    return any(2 * sum(any(begin <= place <= end for begin, end in found) for found in gaps) >= len(long) for place in places)


def _gaps(page: pdfium.FPDF_TEXTPAGE, start: int, line: Line) -> list[tuple[float, float]]:
    """The wide gaps between the rectangles that pdfium sees in a line, one for each of the file's pieces of text."""
    edges = [ctypes.c_double() for _ in range(4)]
    left, top, right, bottom = map(ctypes.byref, edges)
    gaps: list[tuple[float, float]] = []
    before = 0.0
    for number in range(min(_MOST_PARTS, pdfium.FPDFText_CountRects(page, start, len(line.text)))):
        pdfium.FPDFText_GetRect(page, number, left, top, right, bottom)
        if number and _apart(before, edges[0].value, line.height):
            gaps.append((before, edges[0].value) if before < edges[0].value else _ANYWHERE)
        before = edges[2].value
    return gaps


def _divide(line: Line, start: int, place: _Place) -> list[Line]:
    """The parts of a line between its wide gaps, and between its leaps to the left."""
    parts: list[Line] = []
    begin, first, last = 0, place(start + len(line.text) - len(line.text.lstrip())), None
    for match in _SPACES.finditer(line.text):
        last, after = place(start + match.start() - 1), place(start + match.end())
        if first and last and after and _apart(last[2], after[0], line.height):
            parts.append(_part(line.text[begin : match.start()], first, last, line))
            begin, first = match.end(), after
    last = place(start + len(line.text.rstrip(_PADDING)) - 1)
    if not parts or first is None or last is None:
        return [line]
    return [*parts, _part(line.text[begin:], first, last, line)]


def _part(text: str, first: _Box, last: _Box, line: Line) -> Line:
    return Line(text, first[0], first[3], last[2], first[1], last[1] - last[3], line.size)


def _apart(right: float, left: float, height: float) -> bool:
    return left - right > _WIDE * height or right - left > _LEAP * height
