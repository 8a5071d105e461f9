"""Two columns whose lines a file draws in turns, left, right, left: read one after the other. Pure.

Most files draw a column at a time, and then their order is kept. A table is drawn in turns too, and must stay rows: so only a
page that looks like running text on both sides of one clear gutter is put in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from worker.extract.pdf_layout import Line

# A column of fewer lines may as well be a cell.
_LEAST_LINES = 6
# Of the lines, at most so many may cross the gutter: titles, abstracts, wide tables.
_CROSSING = 0.35
# A line is full at this share of its column's width. Most lines of running text are, and most cells are not.
_FULL, _MOST_FULL = 0.75, 0.6
# Lines of running text are this many times longer than they are high.
_LENGTH = 10
# In running text with small letters, so many lines go on in the middle of a sentence.
_GOES_ON = 0.25


def column_by_column(lines: Sequence[Line]) -> list[Line] | None:
    """The lines of a page in the order of its two columns; None where there are none, or they stand in order already.

    What crosses the gutter divides the page: columns above it are read before it.
    """
    gutter = _gutter(lines)
    if gutter is None:
        return None
    left, right, crossing = _sides(lines, gutter)
    if not _are_columns(left, right) or len(crossing) > _CROSSING * len(lines):
        return None
    sides = [line.left >= gutter for line in lines if line.right <= gutter or line.left >= gutter]
    if sum(before != after for before, after in pairwise(sides)) < max(4, len(sides) // 3):
        return None
    crossing.sort(key=lambda line: -line.bottom)
    ordered: list[Line] = []
    above = float("inf")
    for divider in [*crossing, None]:
        below = divider.bottom if divider else float("-inf")
        for side in (left, right):
            ordered += [line for line in side if below < line.bottom <= above]
        if divider:
            ordered.append(divider)
        above = below
    return ordered


def _gutter(lines: Sequence[Line]) -> float | None:
    """The middle of the widest strip, somewhere in the middle of the page, that no line of half its width stands in."""
    if len(lines) < 2 * _LEAST_LINES or any(line.height <= 0 for line in lines):
        return None
    start, end = min(line.left for line in lines), max(line.right for line in lines)
    width = end - start
    narrow = sorted((line.left, line.right) for line in lines if line.right - line.left < 0.55 * width)
    best, covered = (0.0, 0.0), start
    for left, right in narrow:
        middle = (left + covered) / 2
        if 0.35 * width < middle - start < 0.65 * width:
            best = max(best, (left - covered, middle))
        covered = max(covered, right)
    return best[1] if best[0] > 0.5 * median(line.height for line in lines) else None


def _sides(lines: Sequence[Line], gutter: float) -> tuple[list[Line], list[Line], list[Line]]:
    left = [line for line in lines if line.right <= gutter]
    right = [line for line in lines if line.left >= gutter]
    return left, right, [line for line in lines if line.left < gutter < line.right]


def _are_columns(left: list[Line], right: list[Line]) -> bool:
    """Whether both sides are running text, in columns of about one width."""
    if min(len(left), len(right)) < _LEAST_LINES:
        return False
    widths = [max(line.right for line in side) - min(line.left for line in side) for side in (left, right)]
    return min(widths) > 0.7 * max(widths) and all(map(_is_running_text, (left, right), widths))


def _is_running_text(side: list[Line], width: float) -> bool:
    full = sum(line.right - line.left > _FULL * width for line in side)
    if full < _MOST_FULL * len(side) or median((line.right - line.left) / line.height for line in side) < _LENGTH:
        return False
    starts = [first for line in side if (first := line.text.lstrip()[:1]).isalpha()]
    # A script without capital letters has no small ones to tell by.
    cased = [first for first in starts if first.islower() or first.isupper()]
    return sum(map(str.islower, cased)) >= _GOES_ON * len(cased) if cased else len(starts) >= len(side) // 2
