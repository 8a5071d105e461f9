"""A page of pdfium -> its lines with their places.

pdfium puts what stands side by side into one line, across the gutter of two columns too; where the lines of a page have such a
gap in common, they are divided there, and ``pdf_columns`` tells columns from tables.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable

import pypdfium2
import pypdfium2.raw as pdfium

from worker.extract.pdf_columns import column_by_column
from worker.extract.pdf_layout import HYPHEN_MARKS, Line

_LINE = re.compile(f"[^\r\n{HYPHEN_MARKS}]*(?:[{HYPHEN_MARKS}]|\r?\n|\r|$)")
_SPACES = re.compile(r"(?<=\S) +(?=\S)")
_PADDING = HYPHEN_MARKS + " "
# A gap is wide from so many line heights on.
_WIDE = 0.8
# How many lines tell whether a closer look at a page is worth its time.
_PROBES = 4

# Left, bottom, right, top in points.
_Box = tuple[float, float, float, float]
_Place = Callable[[int], _Box | None]


def lines_of(textpage: pypdfium2.PdfTextPage, text: str) -> list[Line]:
    """The lines of a page's text, with the places of their first and last letters, in the file's order; or by columns, where
    the file draws two in turns."""
    lines: list[Line] = []
    starts: list[int] = []
    place, size = _places(textpage, text)
    for match in _LINE.finditer(text):
        # Marks stay: they say how to join.
        line = match[0].rstrip("\r\n")
        if not line or line.isspace():
            continue
        start = match.start()
        begin = start + len(line) - len(line.lstrip())
        first = place(begin)
        last = place(start + len(line.rstrip(_PADDING)) - 1)
        starts.append(start)
        if first is None or last is None:
            lines.append(Line(line))
        else:
            left, right = min(first[0], last[0]), max(first[2], last[2])
            lines.append(Line(line, left, first[1], right, first[3], last[3] - last[1], size(begin)))
    if len(lines) > _PROBES and _has_gaps(textpage, lines, starts):
        divided = [part for line, start in zip(lines, starts, strict=True) for part in _divide(line, start, place)]
        return column_by_column(divided) or lines
    return column_by_column(lines) or lines


def _places(textpage: pypdfium2.PdfTextPage, text: str) -> tuple[_Place, Callable[[int], float]]:
    """Two functions from an index of the text: to the box of that character, None where it has none, and to its font's size.

    One box is used again and again, and no call goes through pypdfium2's objects: a page has some eighty of them.
    """
    page, box = textpage.raw, pdfium.FS_RECTF()
    target = ctypes.byref(box)
    same = pdfium.FPDFText_CountChars(page) == len(text)

    def place(index: int) -> _Box | None:
        if not same:
            index = pdfium.FPDFText_GetCharIndexFromTextIndex(page, max(0, index))
        if index < 0 or not pdfium.FPDFText_GetLooseCharBox(page, index, target):
            return None
        return box.left, box.bottom, box.right, box.top

    def size(index: int) -> float:
        return float(pdfium.FPDFText_GetFontSize(page, index if same else pdfium.FPDFText_GetCharIndexFromTextIndex(page, index)))

    return place, size


def _has_gaps(textpage: pypdfium2.PdfTextPage, lines: list[Line], starts: list[int]) -> bool:
    """Whether a few of the longest lines are set in parts with a wide gap between them (pdfium's rectangles are such parts)."""
    long = sorted(range(len(lines)), key=lambda index: lines[index].left - lines[index].right)[: 4 * _PROBES : 4]
    page = textpage.raw
    edges = [ctypes.c_double() for _ in range(4)]
    left, top, right, bottom = map(ctypes.byref, edges)
    gaps = 0
    for index in long:
        line = lines[index]
        before = float("inf")
        for number in range(min(8, pdfium.FPDFText_CountRects(page, starts[index], len(line.text)))):
            pdfium.FPDFText_GetRect(page, number, left, top, right, bottom)
            if edges[0].value - before > _WIDE * line.height:
                gaps += 1
                break
            before = edges[2].value
    return 2 * gaps >= len(long)


def _divide(line: Line, start: int, place: _Place) -> list[Line]:
    """The parts of a line between its wide gaps."""
    parts: list[Line] = []
    begin, left = 0, line.left
    for match in _SPACES.finditer(line.text):
        before, after = place(start + match.start() - 1), place(start + match.end())
        if before and after and after[0] - before[2] > _WIDE * line.height:
            parts.append(line._replace(text=line.text[begin : match.start()], left=left, right=before[2]))
            begin, left = match.end(), after[0]
    return [*parts, line._replace(text=line.text[begin:], left=left)]
