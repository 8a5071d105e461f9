"""Two or three columns whose lines a file draws in turns, left, right, left: read one after the other. Pure.

Most files draw a column at a time, and then their order is kept. A table is drawn in turns too, and must stay rows: so only a
page that looks like running text on all sides of clear gutters is put in another order.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from statistics import median

from worker.extract.pdf_layout import Line

# A column of fewer lines may as well be a cell.
_LEAST_LINES = 6
# How often the lines of a page step to the right, at least, where columns are drawn in turns.
_LEAST_TURNS = 2
# A gutter is so many line heights wide.
_GUTTER = 0.5
# Of the lines of a column's length, at most so many may stand in it: what is centred on the page, page numbers.
_IN_GUTTER = 0.04
# Of the lines, at most so many may cross a gutter: titles, abstracts, wide tables.
_CROSSING = 0.35
# A line is full at this share of its column's width. Most lines of running text are, and most cells are not.
_FULL, _MOST_FULL = 0.75, 0.6
# Lines of running text are this many times longer than they are high.
_LENGTH = 10
# In running text with small letters, so many lines go on in the middle of a sentence.
_GOES_ON = 0.25


def column_by_column(lines: Sequence[Line]) -> list[Line] | None:
    """The lines of a page in the order of its two or three columns; None where there are none, or they stand in order already.

    What crosses a gutter divides the page: columns above it are read before it.
    """
    leaps = sum(after.left > before.right for before, after in pairwise(lines))
    if leaps < _LEAST_TURNS or len(lines) < 2 * _LEAST_LINES or any(line.height <= 0 for line in lines):
        return None
    return next((found for gutters in _gutters(lines) if (found := _in_order(lines, gutters))), None)


def _gutters(lines: Sequence[Line]) -> Iterator[list[float]]:
    """The middles of the strips that no line stands in that could stand in one of two columns, then in one of three."""
    width = max(line.right for line in lines) - min(line.left for line in lines)
    least = _GUTTER * median(line.height for line in lines)
    for columns in (2, 3):
        spans = [(line.left, line.right) for line in lines if line.right - line.left < width / (columns - 0.2)]
        gutters = [(left + right) / 2 for left, right in _free_strips(spans) if right - left > least]
        if len(gutters) == columns - 1:
            yield gutters


def _free_strips(spans: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The strips that next to none of the spans stands in, with enough of them on both sides."""
    few = _IN_GUTTER * len(spans)
    open_from: float | None = None
    begun = ended = 0
    for at, is_begin in sorted([(left, True) for left, _ in spans] + [(right, False) for _, right in spans]):
        begun += is_begin
        ended += not is_begin
        is_free = begun - ended <= few
        if is_free and open_from is None and ended >= _LEAST_LINES:
            open_from = at
        elif not is_free and open_from is not None:
            yield open_from, at
            open_from = None


def _in_order(lines: Sequence[Line], gutters: list[float]) -> list[Line] | None:
    columns: list[list[Line]] = [[] for _ in range(len(gutters) + 1)]
    crossing: list[Line] = []
    turns: list[int] = []
    for line in lines:
        number = bisect(gutters, line.left)
        if number != bisect(gutters, line.right):
            crossing.append(line)
        else:
            columns[number].append(line)
            turns.append(number)
    changes = sum(before != after for before, after in pairwise(turns))
    if len(crossing) > _CROSSING * len(lines) or changes < max(2 * _LEAST_TURNS, len(turns) // 3) or not _are_columns(columns):
        return None
    crossing.sort(key=lambda line: -line.bottom)
    dividers = [-line.bottom for line in crossing]
    # Behind each divider, the parts of the columns below it; the sort keeps the file's order within a part.
    places = [((bisect(dividers, -line.bottom), number), line) for number, column in enumerate(columns) for line in column]
    places += [((number, -1), line) for number, line in enumerate(crossing, 1)]
    return [line for _, line in sorted(places, key=itemgetter(0))]


def _are_columns(columns: list[list[Line]]) -> bool:
    """Whether all are running text, and about as wide as each other."""
    if min(map(len, columns)) < _LEAST_LINES:
        return False
    widths = [max(line.right for line in column) - min(line.left for line in column) for column in columns]
    return min(widths) > 0.7 * max(widths) and all(map(_is_running_text, columns, widths))


def _is_running_text(side: list[Line], width: float) -> bool:
    full = sum(line.right - line.left > _FULL * width for line in side)
    if full < _MOST_FULL * len(side) or median((line.right - line.left) / line.height for line in side) < _LENGTH:
        return False
    starts = [first for line in side if (first := line.text.lstrip()[:1]).isalpha()]
    # A script without capital letters has no small ones to tell by.
    cased = [first for first in starts if first.islower() or first.isupper()]
    return sum(map(str.islower, cased)) >= _GOES_ON * len(cased) if cased else len(starts) >= len(side) // 2
