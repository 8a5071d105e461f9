"""Lines with their place on a page -> paragraphs. Pure; both PDF engines end here.

The rules are those of a reader: a larger gap, another letter size or another column begins a paragraph; a line that had room
for the next line's first word was broken on purpose; a hyphen at a line's end in front of a small letter joins the word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from statistics import median
from typing import NamedTuple

# What pdfium puts where a line ends in a hyphen (its CPDF_TextPage), and the soft hyphen.
HYPHEN_MARKS = "\ufffe\x02\xad"
_HYPHENS = "-\u2010"
_SOFT = "\xad"
_MARK = re.compile(f"[{HYPHEN_MARKS}]")
_PRINTED = {ord(mark): "-" for mark in HYPHEN_MARKS}
_LAST_WORD, _FIRST_WORD = re.compile(r"[^\W_]+$"), re.compile(r"[^\W_]+")
_LONGEST_WORD = 60
SENTENCE_END = re.compile(r"[.!?:;\u3002\uff01\uff1f\u061f\u0964][\"'\u201d\u2019)\]]*$")
_ODD = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ue000-\uf8ff]")
_BAD = re.compile(f"{_ODD.pattern}|\\(cid:\\d+\\)")
# Letters alone, one after another: a word set with wide spacing, where a table has digits, points and line ends between.
_SPACED = re.compile(r"(?:(?<![^\W\d_])[^\W\d_] ){4,}")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
# Chinese and Japanese are written without spaces: a line's end is none in them.
_IDEOGRAPH = re.compile("[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")

# In nearly all fonts these take about half the width of the other letters, and half as much again.
_NARROW, _BROAD = re.compile(r"[ fijlrtI.,;:'!|()\[\]-]"), re.compile("[mwMW@%]")


class Line(NamedTuple):
    """One printed line; coordinates in PDF points, y upwards, of its first letter's box and its last one's right edge.

    ``last_height`` is that of the last letter; ``size`` is the font's, in units of the file's own choice. A line without a known
    place has no height.
    """

    text: str
    left: float = 0.0
    bottom: float = 0.0
    right: float = 0.0
    top: float = 0.0
    last_height: float = 0.0
    size: float = 0.0

    @property
    def height(self) -> float:
        return self.top - self.bottom


IsCompound = Callable[[str], bool]
"""Tells of ``well-known`` whether the document writes it so elsewhere: then a hyphen at a line's end is its own."""


def paragraphs(lines: list[Line], is_compound: IsCompound = lambda _: False) -> list[str]:
    """Join lines, given in reading order, to the paragraphs of a page."""
    return [join([paragraph], is_compound)[0] for paragraph in grouped(lines)]


def grouped(lines: list[Line]) -> list[list[Line]]:
    """Divide the lines of a page, given in reading order, into paragraphs."""
    lines = [line for line in lines if line.text and not line.text.isspace()]
    usual = _usual_pitch(lines)
    found: list[list[Line]] = []
    for line in lines:
        if found and _continues(found[-1], line, usual):
            found[-1].append(line)
        else:
            found.append([line])
    return found


def _usual_pitch(lines: list[Line]) -> float:
    """The distance from line to line that most of the page has, in line heights; 1.2 is a typesetter's default."""
    pitches = []
    for above, below in pairwise(lines):
        height, drop = above.top - above.bottom, above.bottom - below.bottom
        if 0.5 * height < drop < 3 * height:
            pitches.append(drop / height)
    return max(median(pitches), 1.0) if len(pitches) > 3 else 1.2


def _continues(paragraph: list[Line], line: Line, usual: float) -> bool:
    last = paragraph[-1]
    above, height = last.height, line.height
    if above <= 0 or height <= 0:
        return True
    if min(above, height) < 0.8 * max(above, height):
        return False
    drop = last.bottom - line.bottom
    if abs(drop) < 0.5 * height:
        return True
    if drop < 0 or drop > 1.35 * usual * height:
        return False
    if line.left > last.right or line.right < last.left:
        return False
    indented = line.left > last.left + 0.8 * height and line.left > paragraph[0].left + 0.8 * height
    return not (indented and SENTENCE_END.search(last.text.rstrip()))


def join(runs: Sequence[list[Line]], is_compound: IsCompound) -> tuple[str, list[int]]:
    """The text of one paragraph, of which each run stands on another page or column, and where in it each run begins."""
    parts = [runs[0][0].text.strip()]
    if len(runs) == 1 and len(runs[0]) == 1:
        return _printed(parts[0]), [0]
    begins = [0]
    before: list[Line] = []
    # What is left of a paragraph on a page may be its short lines only: how wide it is, all its runs say together. So it doesn't
    # matter where pages end.
    width = max(max(line.right for line in run) - min(line.left for line in run) for run in runs)
    for run in runs:
        edge = min(line.left for line in run) + width
        if before:
            # What is on another page was cut there, and nothing says that a line ended on purpose.
            text = run[0].text.strip()
            parts += _glue(parts, text, _space(before[-1].text, text), is_compound)
            begins.append(len(parts) - 1)
        for last, line in pairwise(run):
            text = line.text.strip()
            between = " " if _same_row(last, line) else "\n"
            if between == "\n" and wrapped(last, text, edge):
                between = _space(last.text, text)
            parts += _glue(parts, text, between, is_compound)
        before = run
    ends = [0, *accumulate(map(len, parts))]
    return _printed("".join(parts)), [ends[begin] for begin in begins]


def _printed(text: str) -> str:
    """A mark that joins nothing was a printed hyphen."""
    return text.translate(_PRINTED) if _MARK.search(text) else text


def _space(before: str, after: str) -> str:
    """What a line's end stands for: a space, but for Chinese and Japanese letters on both sides of it."""
    return "" if after[0] > "\u2fff" and _IDEOGRAPH.match(after) and _IDEOGRAPH.match(before.rstrip()[-1]) else " "


def _glue(parts: list[str], text: str, between: str, is_compound: IsCompound) -> tuple[str, ...]:
    """What follows the last part: the text, with what is between, or with that part's hyphen taken off or left."""
    before = parts[-1]
    if not ends_in_hyphen(before):
        return between, text
    parts[-1] = before[:-1] + ("-" if _keeps_hyphen(before, text, is_compound) else "")
    return (text,)


def ends_in_hyphen(line: str) -> bool:
    return line[-1] in HYPHEN_MARKS or (line[-1] in _HYPHENS and len(line) > 1 and line[-2].isalpha())


def _keeps_hyphen(before: str, after: str, is_compound: IsCompound) -> bool:
    """Rhine-Main and COVID-19 have one of their own, and so has a compound that stands elsewhere; a soft one is never printed."""
    if before[-1] == _SOFT:
        return False
    left, right = _LAST_WORD.search(before[:-1]), _FIRST_WORD.match(after)
    if left is None or right is None:
        return True
    return not after[0].islower() or is_compound(f"{left[0]}-{right[0]}")


def _same_row(last: Line, line: Line) -> bool:
    height = line.height
    return height > 0 and abs(last.bottom - line.bottom) < 0.5 * height


def wrapped(last: Line, text: str, edge: float) -> bool:
    """Whether the first word of the next line had no room on this one."""
    length = last.right - last.left
    if last.height <= 0 or length <= 0:
        return False
    width = length / max(1, len(last.text))
    word = text.split(maxsplit=1)[0]
    # A line may end behind each of these.
    if not word.isascii() and (ideograph := _IDEOGRAPH.search(word)):
        word = word[: max(1, ideograph.start())]
    if last.right + width * (len(word) + 1) > edge:
        return True
    # Nearly no room. A word of broad letters needs more than one of as many narrow ones.
    return last.right + length * _extent(f" {word}") / _extent(last.text) > edge


def _extent(text: str) -> float:
    """How long a text is in print, in letters of the usual width."""
    return len(text) + (len(_BROAD.findall(text)) - len(_NARROW.findall(text))) / 2


def compounds(texts: Iterable[str]) -> frozenset[str]:
    """The hyphenated pairs of words in these texts, in small letters: ``state-of-the-art`` has three."""
    found = set()
    for text in texts:
        for before, after in pairwise(text.split("-")):
            left, right = _LAST_WORD.search(before[-_LONGEST_WORD:]), _FIRST_WORD.match(after)
            if left and right:
                found.add(f"{left[0]}-{right[0]}".casefold())
    return frozenset(found)


def badness(text: str) -> float:
    """How unreadable a page's text is, from 0.0 to 1.0; above ``BAD_FROM`` another engine should read the page.

    The share of unmapped glyphs (U+FFFD, private use, control characters, ``(cid:n)``); or 0.5 for a long Latin text with
    almost no spaces, or with most letters standing alone.
    """
    marks = len(text) - text.count("\n") - text.count("\r") - text.count(" ")
    if not marks:
        return 0.0
    share = 0.0
    if _ODD.search(text) or "(cid:" in text:
        share = min(1.0, len(_BAD.findall(text)) / marks)
    # Words of an ordinary length need no closer look: with most letters alone there are at most four marks a word.
    if 4 < marks / len(text.split()) <= 40:
        return share
    latin = len(_LATIN.findall(text))
    if latin > 200 and latin > marks // 2:
        spaced = sum(len(run) for run in _SPACED.findall(text)) // 2
        if latin / len(text.split()) > 40 or spaced > latin // 2:
            share = max(share, 0.5)
    return share


BAD_FROM = 0.1
