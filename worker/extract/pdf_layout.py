"""Lines with their place on a page -> paragraphs. Pure; both PDF engines end here.

The rules are those of a reader: a larger gap, another letter size or another column begins a paragraph; a line that had room
for the next line's first word was broken on purpose; a hyphen at a line's end in front of a small letter joins the word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

# What pdfium puts where a line ends in a hyphen (its CPDF_TextPage), and the soft hyphen.
HYPHEN_MARKS = "\ufffe\x02\xad"
_HYPHENS = "-\u2010"
_SOFT = "\xad"
_PRINTED = {ord(mark): "-" for mark in HYPHEN_MARKS}
_LAST_WORD, _FIRST_WORD = re.compile(r"[^\W_]+$"), re.compile(r"[^\W_]+")
_COMPOUND = re.compile(r"[^\W_]+(?:-[^\W_]+)+")
_SENTENCE_END = re.compile(r"[.!?:;\u3002\uff01\uff1f\u061f\u0964][\"'\u201d\u2019)\]]*$")
_ODD = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ue000-\uf8ff]")
_BAD = re.compile(f"{_ODD.pattern}|\\(cid:\\d+\\)")
# Letters alone, one after another: a word set with wide spacing, where a table has digits, points and line ends between.
_SPACED = re.compile(r"(?:(?<![^\W\d_])[^\W\d_] ){4,}")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line; coordinates in PDF points, y upwards. A line without a known place has no height."""

    text: str
    left: float = 0.0
    bottom: float = 0.0
    right: float = 0.0
    top: float = 0.0

    @property
    def height(self) -> float:
        return self.top - self.bottom


def paragraphs(lines: list[Line], is_compound: Callable[[str], bool] = lambda _: False) -> list[str]:
    """Join lines, given in reading order, to the paragraphs of a page.

    ``is_compound`` tells of ``well-known`` whether the document writes it so elsewhere: then a hyphen at a line's end is its own.
    """
    lines = [line for line in lines if line.text.strip()]
    usual = _usual_pitch(lines)
    found: list[list[Line]] = []
    for line in lines:
        if found and _continues(found[-1], line, usual):
            found[-1].append(line)
        else:
            found.append([line])
    return [_join(paragraph, is_compound) for paragraph in found]


def _usual_pitch(lines: list[Line]) -> float:
    """The distance from line to line that most of the page has, in line heights; 1.2 is a typesetter's default."""
    pitches = []
    for above, below in pairwise(lines):
        drop = above.bottom - below.bottom
        if above.height > 0 and 0.5 * above.height < drop < 3 * above.height:
            pitches.append(drop / above.height)
    return max(median(pitches), 1.0) if len(pitches) > 3 else 1.2


def _continues(paragraph: list[Line], line: Line, usual: float) -> bool:
    last = paragraph[-1]
    if last.height <= 0 or line.height <= 0:
        return True
    if min(last.height, line.height) < 0.8 * max(last.height, line.height):
        return False
    drop = last.bottom - line.bottom
    if abs(drop) < 0.5 * line.height:
        return True
    if drop < 0 or drop > 1.35 * usual * line.height:
        return False
    if line.left > last.right or line.right < last.left:
        return False
    indented = line.left > last.left + 0.8 * line.height and line.left > paragraph[0].left + 0.8 * line.height
    return not (indented and _SENTENCE_END.search(last.text.rstrip()))


def _join(paragraph: list[Line], is_compound: Callable[[str], bool]) -> str:
    edge = max(line.right for line in paragraph)
    parts = [paragraph[0].text.strip()]
    for last, line in pairwise(paragraph):
        text = line.text.strip()
        before = parts[-1]
        if _ends_in_hyphen(before):
            parts[-1] = before[:-1] + ("-" if _keeps_hyphen(before, text, is_compound) else "")
        elif _same_row(last, line) or _wrapped(last, text, edge):
            parts.append(" ")
        else:
            parts.append("\n")
        parts.append(text)
    # A mark that joins nothing was a printed hyphen.
    return "".join(parts).translate(_PRINTED)


def _ends_in_hyphen(line: str) -> bool:
    return line[-1] in HYPHEN_MARKS or (line[-1] in _HYPHENS and len(line) > 1 and line[-2].isalpha())


def _keeps_hyphen(before: str, after: str, is_compound: Callable[[str], bool]) -> bool:
    """Rhine-Main and COVID-19 have one of their own, and so has a compound that stands elsewhere; a soft one is never printed."""
    if before[-1] == _SOFT:
        return False
    left, right = _LAST_WORD.search(before[:-1]), _FIRST_WORD.match(after)
    if left is None or right is None:
        return True
    return not after[0].islower() or is_compound(f"{left[0]}-{right[0]}")


def _same_row(last: Line, line: Line) -> bool:
    return line.height > 0 and abs(last.bottom - line.bottom) < 0.5 * line.height


def _wrapped(last: Line, text: str, edge: float) -> bool:
    """Whether the first word of the next line had no room on this one."""
    if last.height <= 0 or last.right <= last.left:
        return False
    width = (last.right - last.left) / max(1, len(last.text))
    return last.right + width * (len(text.split(maxsplit=1)[0]) + 1) > edge


def compounds(texts: Iterable[str]) -> frozenset[str]:
    """The hyphenated pairs of words in these texts, in small letters: ``state-of-the-art`` has three."""
    found = (part for text in texts if "-" in text for part in _COMPOUND.findall(text))
    return frozenset(f"{left}-{right}" for part in found for left, right in pairwise(part.casefold().split("-")))


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
