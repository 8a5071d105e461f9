"""Running headers, footers and page numbers: what stands at one place of many pages. Pure.

A line is one if its very words stand at the same height of enough pages, or do so but for a number that grows with the pages.
So a line goes only if another page has it, or a page number is all that it says.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

from worker.extract.pdf_layout import Line

# Rows from the top and from the bottom of a page that may be running ones, and the share of its height that they stand in.
_ROWS = 3
_EDGE = 0.15
# Points by which the same line may stand higher or lower on another page.
_SAME_PLACE = 2.0
_ENOUGH_PAGES = 3
# A line's numbers that may be the page's; a longer line than this is no page number with a title.
_NUMBERS = 4
_LONGEST = 120
# Beside words, a number like this is a year.
_YEARS = range(1900, 2101)

# Of its own: no part of a date, a version, a mark.
_NUMBER = re.compile(r"(?<![\w.,:/])\d{1,6}(?![\w:]|[.,]\d)")
_ROMAN = re.compile(r"\W*([ivxlc]{1,8}|[IVXLC]{1,8})\W*")
_ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}
_ROMAN_LENGTH = 12
# In keys: the place of the page number; the mark of a key that is that number alone.
_PAGE, _ALONE = "\x00", "\x01"


@dataclass(slots=True)
class Running:
    """What was found. ``headers`` and ``footers`` have each distinct one once, as page -> texts, at the page that has it first;
    ``bodies`` are the lines of the pages without them all."""

    bodies: dict[int, list[Line]]
    headers: dict[int, list[str]] = field(default_factory=dict)
    footers: dict[int, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Candidate:
    page: int
    index: int
    line: Line
    is_header: bool


def separate(pages: Mapping[int, list[Line]]) -> Running:
    """Take the running lines out of pages, numbered in any way in which the next page has the next number."""
    nothing = Running(dict(pages))
    with_text = {number: lines for number, lines in pages.items() if any(line.height > 0 for line in lines)}
    if len(with_text) < 2:
        return nothing
    # A title page often has no header. Of two pages that say the same, both may mean it.
    enough = 2 if len(with_text) == _ENOUGH_PAGES else _ENOUGH_PAGES
    found = _running(list(_candidates(with_text)), enough, 2 if len(with_text) == 2 else enough)
    gone: dict[int, set[int]] = defaultdict(set)
    for candidate, _ in found:
        gone[candidate.page].add(candidate.index)
    bodies = {
        number: [line for index, line in enumerate(lines) if index not in gone[number]] if number in gone else lines
        for number, lines in pages.items()
    }
    # Pages that say nothing else are not pages with headers: labels, certificates, the same form again and again.
    if not found or 2 * sum(bool(bodies[number]) for number in with_text) < len(with_text):
        return nothing
    result = Running(bodies)
    longest = max(len(candidate.line.text) for candidate, _ in found)
    known = {_letters(line.text) for lines in bodies.values() for line in lines if len(line.text) <= longest}
    for candidate, words in found:
        letters = _letters(words)
        # A chapter's title stands where the chapter begins.
        if letters and letters not in known:
            known.add(letters)
            side = result.headers if candidate.is_header else result.footers
            side.setdefault(candidate.page, []).append(candidate.line.text.strip())
    return result


def _candidates(pages: Mapping[int, list[Line]]) -> Iterator[_Candidate]:
    """The first and last rows of the pages, if they stand where most pages begin and end."""
    tops = median(max(line.top for line in lines) for lines in pages.values())
    bottoms = median(min(line.bottom for line in lines if line.height > 0) for lines in pages.values())
    edge = _EDGE * (tops - bottoms)
    for number, lines in pages.items():
        for is_header in (True, False):
            outer = [
                (line.bottom if is_header else -line.bottom, index)
                for index, line in enumerate(lines)
                if (line.bottom > tops - edge if is_header else line.top < bottoms + edge) and line.height > 0
            ]
            rows = 0
            last = float("inf")
            for place, index in sorted(outer, reverse=True):
                rows += last - place > _SAME_PLACE
                if rows > _ROWS:
                    break
                last = place
                if len(lines[index].text) <= 2 * _LONGEST:
                    yield _Candidate(number, index, lines[index], is_header)


def _running(candidates: list[_Candidate], enough: int, counting: int) -> list[tuple[_Candidate, str]]:
    """The candidates, by page, that stand at one height of enough pages, and their words without the page number.

    Those that are surely page numbers, by the rule of ``_counts_on``, need ``counting`` pages only.
    """
    by_key: dict[str, list[tuple[float, int]]] = defaultdict(list)
    keys = []
    for number, candidate in enumerate(candidates):
        keys.append(_keys(candidate))
        for key, _ in keys[-1]:
            by_key[key].append((candidate.line.bottom, number))
    running: dict[int, str] = {}
    for key, places in by_key.items():
        wanted = _ENOUGH_PAGES if key[0] == _ALONE else enough
        if len(places) < min(wanted, counting):
            continue
        for group in _at_one_height(places):
            needed = counting if _counts_on(key, candidates[group[0]]) else wanted
            if len({candidates[number].page for number in group}) >= needed:
                for number in group:
                    words = dict(keys[number])[key]
                    # Of two ways to see a line, the one that finds its page number.
                    running[number] = min(words, running.get(number, words), key=len)
    return [(candidates[number], running[number]) for number in sorted(running)]


def _counts_on(key: str, candidate: _Candidate) -> bool:
    """A number that grows with the pages at their foot, or one without words; "Question 1" at the top may be a heading."""
    return _PAGE in key and not (candidate.is_header and any(map(str.isalpha, candidate.line.text)))


def _at_one_height(places: list[tuple[float, int]]) -> Iterator[list[int]]:
    group: list[int] = []
    last = float("-inf")
    for bottom, number in sorted(places):
        if group and bottom - last > _SAME_PLACE:
            yield group
            group = []
        group.append(number)
        last = bottom
    yield group


def _keys(candidate: _Candidate) -> list[tuple[str, str]]:
    """What this line may have in common with those of other pages, and its words besides that.

    The words themselves; the words with one number told from the page on; and that number alone, at the beginning or the end of
    a line, so that "12 Chapter One" and "13 Chapter Two" are known as headers if those before them are.
    """
    text = " ".join(candidate.line.text.split())
    # The same number at one place of some pages is a cell of a table.
    keys = [(text, text)] if any(map(str.isalpha, text)) else []
    for match in islice(_NUMBER.finditer(text), _NUMBERS):
        distance = int(match[0]) - candidate.page
        before, after = text[: match.start()], text[match.end() :]
        if int(match[0]) in _YEARS and (before + after).strip():
            continue
        rest = f"{before}{_PAGE}{after}"
        keys.append((f"{rest}{distance}", rest))
        if len(text) <= _LONGEST and bool(before) != bool(after):
            keys.append((f"{_ALONE}{distance} {bool(before)}", rest))
    if len(text) <= _ROMAN_LENGTH and (roman := _ROMAN.fullmatch(text)):
        keys.append((f"{_PAGE}{_roman(roman[1].lower()) - candidate.page} roman", _PAGE))
    return keys


def _roman(digits: str) -> int:
    values = [_ROMAN_DIGITS[digit] for digit in digits]
    return sum(-value if value < max(values[index:]) else value for index, value in enumerate(values))


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text)).casefold()
