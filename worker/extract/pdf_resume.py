"""Whether a paragraph that a page or a column cuts goes on at the top of the next one. Pure.

Where letters are small and capital, a small letter says so. Chinese, Japanese, Korean, Arabic and Hebrew have none: there the
line must end in a letter or a comma, be full by another line of its own page, and the next page must not begin with an indent.
Thai, and others that end no sentence by a mark, stay cut.
"""

from __future__ import annotations

import re

from worker.extract.pdf_layout import SENTENCE_END, Line, ends_in_hyphen, wrapped

# The two parts' heights, and widths, differ by less than this share.
_ALIKE = 0.07
# What begins an item of a list with a small letter; "it. The" is the end of a sentence.
_ITEM = re.compile(r"o\s|(?:\d{1,3}|[a-z]|[ivx]{1,4})[.)]\s|\w{1,3}\)\s")
# The letters of scripts without small ones; marks and circled figures are none of them.
_IDEOGRAPHS = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
_RIGHT_TO_LEFT = "\u05d0-\u05f4\u0620-\u0669\u066e-\u06d3\u06d5-\u06fc\u0750-\u077f\u08a0-\u08ff\ufb1d-\ufdfb\ufe70-\ufefc"
_HANGUL = "\uac00-\ud7a3"
_BEGINS, _BEGINS_RIGHT = (re.compile(f"[{letters}]") for letters in (_IDEOGRAPHS + _HANGUL + _RIGHT_TO_LEFT, _RIGHT_TO_LEFT))
_OPEN_END = re.compile(rf"[\w{_IDEOGRAPHS}{_RIGHT_TO_LEFT}\u0591-\u05c7\u064b-\u065f\u0670,\u060c\u3001\uff0c]$")
# 第三章, 제3장, 一、, ١. … begin a heading or an item; so does a letter with a bracket or a point.
_MARKED = re.compile(
    r"第\s*[\d〇一二三四五六七八九十百千]+\s*[章節节条條款項项編编部回]|제\s*\d+\s*[장절조항편부]"
    r"|[一二三四五六七八九十]{1,3}\s*[、，.．)）]|\w{1,3}\s*[.．)）]|(?:الفصل|الباب|المادة|פרק|סעיף)\s"
)
# Of a letter's height.
_INDENT = 0.8


def resumes(before: list[Line], after: list[Line]) -> bool:
    """Whether the lines at the top of a page or a column go on with the paragraph of those before.

    They do if those end in the middle of a sentence with a full line, and these are letters of the same size, in a column of the
    same width or at the same edge, that begin no sentence.
    """
    last, first = before[-1], after[0]
    # One line alone doesn't tell whether it is full.
    if len(before) + len(after) < 3 or not (0 < (1 - _ALIKE) * max(last.height, first.height) < min(last.height, first.height)):
        return False
    ending, beginning = last.text.strip(), first.text.strip()
    if _ITEM.match(beginning):
        return False
    if SENTENCE_END.search(ending):
        return ending[-1] in ".!?" and beginning[0].isupper() and _fills_both(before, after)
    hyphen = ends_in_hyphen(ending)
    if not (beginning[0].islower() or (hyphen and beginning[0].isalnum())):
        return not beginning.isascii() and _resumes_caseless(before, after, ending, beginning)
    (left, right), (other_left, other_right) = _edges(before), _edges(after)
    width, other_width = right - left, other_right - other_left
    if abs(left - other_left) > last.height and not _alike(before, after):
        return False
    return hyphen or wrapped(last, beginning, left + max(width, other_width))


def _fills_both(before: list[Line], after: list[Line]) -> bool:
    """Whether a line that ends a sentence is full, and so is the first one overleaf, which no indent begins.

    Many lines of running text end a sentence, and few last lines of paragraphs are full. (Of 27 such page ends in made-up text,
    the paragraph went on at 19, and it did at 3 of 173 others.)
    """
    last, first = before[-1], after[0]
    if min(len(before), len(after)) < 2:
        return False
    (left, right), (other_left, other_right) = _edges(before), _edges(after)
    width = max(right - left, other_right - other_left)
    if abs(left - other_left) > last.height or first.left - other_left > _INDENT * first.height:
        return False
    return wrapped(last, first.text.strip(), left + width) and wrapped(first, after[1].text.strip(), other_left + width)


def _resumes_caseless(before: list[Line], after: list[Line], ending: str, beginning: str) -> bool:
    last, first = before[-1], after[0]
    if not _BEGINS.match(beginning) or not _OPEN_END.search(ending) or _MARKED.match(beginning):
        return False
    # Without a second line on its own page nothing tells how wide the column is; an ideographic space indents a paragraph.
    if len(before) < 2 or first.text[0] == "\u3000":
        return False
    rightward = _BEGINS_RIGHT.match(beginning) is not None
    (left, right), (other_left, other_right) = _edges(before), _edges(after)
    here, there = (right, other_right) if rightward else (left, other_left)
    # A column of the other part's margins is as wide, and its indents are seen by its own lines.
    shift = 0.0 if abs(here - there) <= last.height else there - here
    if shift and not _alike(before, after):
        return False
    begun = first.right if rightward else first.left
    indent = here + shift - begun if rightward else begun - here - shift
    if len(after) > 1:
        rest = max(line.right for line in after[1:]) if rightward else min(line.left for line in after[1:])
        indent = max(indent, rest - begun if rightward else begun - rest)
    if indent > _INDENT * first.height:
        return False
    if rightward:
        return wrapped(last._replace(left=-last.right, right=-last.left), beginning, -left)
    return wrapped(last, beginning, right)


def _alike(before: list[Line], after: list[Line]) -> bool:
    """Pages bound as a book have two margins, and columns as many as they are: then both parts must show their width."""
    (left, right), (other_left, other_right) = _edges(before), _edges(after)
    return abs(right - left - other_right + other_left) < _ALIKE * (right - left) and min(len(before), len(after)) > 1


def _edges(lines: list[Line]) -> tuple[float, float]:
    return min(line.left for line in lines), max(line.right for line in lines)
