"""Chunks: overlapping pieces of the document text, cut where a reader would cut and where the text itself says so.

Which boundary becomes a cut depends only on the text near it, never on where the previous chunk ended: a boundary is
a cut if it is the best within a fixed reach to both sides (its kind first, then a checksum of the words around it). So
an edit moves only the cuts within reach of it, and all other chunks stay byte for byte the same and are not embedded
again. The idea is content-defined chunking by local maxima (Bjørner, Blass, Gurevich: "Content-dependent chunking for
differential compression", 2010). Pieces that come out too long are halved at the best boundary near their middle. All in
time linear in the text, but for sorting the boundaries.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from worker.domain.text import DocumentText

# The reach to each side, as a share of the longest piece. Measured on 40 documents, 4000/400: 0.5 gives 338 chunks, 0.4 363,
# 0.3 418
# (filling each chunk from the left: 249, and an edit changes all that follow).
_REACH = 0.5
_CONTEXT = 24

_SECTION, _BLOCK, _LINE, _SENTENCE, _WORD = 5, 4, 3, 2, 1
# The end of a sentence. Full stops of scripts without capital letters need no space behind them; a Latin one does.
_SENTENCES = re.compile(
    "[.!?\u2026\u061f\u06d4][\"'\u201d\u2019)\\]]*(?=\\s)"
    "|[\u3002\uff01\uff1f\uff0e\u0964\u0965\u104b\u1362\u17d4][\u300d\u300f\u201d\u2019\uff09)]*"
)
_SPACES = re.compile(r"\s+")
_LINES = re.compile(r"\n\s*")
_ZWJ = "\u200d"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece: ``text == document.text[char_start:char_end]``. ``ordinal`` counts from 0; pages are None where there are
    none."""

    ordinal: int
    text: str
    page_start: int | None
    page_end: int | None
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class _Boundaries:
    """The places where a new piece may begin, in order, and the rank of each: its kind, then a checksum of what is around it."""

    positions: list[int]
    ranks: list[int]


def chunk(document: DocumentText, size: int = 4000, overlap: int = 400) -> list[Chunk]:
    """Cut the document text into chunks of at most ``size`` characters, each beginning with up to ``overlap`` of the one before.

    All text but white space is in a chunk; no chunk lies inside the one before it; a text of at most ``size`` is one chunk.

    Raises:
        ValueError: ``overlap`` is not from 0 to half of ``size``.
    """
    if not 0 <= overlap <= size // 2:
        raise ValueError("overlap must be from 0 to half of size")
    text = document.text
    if len(text) <= size:
        cuts = [0, len(text)]
    else:
        longest = size - overlap
        boundaries = _boundaries(document, longest)
        cuts = _split([0, *_peaks(boundaries, int(longest * _REACH), len(text)), len(text)], boundaries, text, longest)
    pages = _pages(document)
    chunks: list[Chunk] = []
    for start, end in pairwise(cuts):
        piece = text[start:end]
        if not piece.strip():
            continue
        first = start + len(piece) - len(piece.lstrip())
        last = end - (len(piece) - len(piece.rstrip()))
        if chunks and overlap:
            first = min(first, _overlap_start(text, start, overlap))
        page_start, page_end = pages(first, last)
        chunks.append(Chunk(len(chunks), text[first:last], page_start, page_end, first, last))
    return chunks


def _boundaries(document: DocumentText, longest: int) -> _Boundaries:
    """All places for a cut in order: block starts, line starts, sentence ends; word starts only where those are far apart."""
    text = document.text
    kinds: dict[int, int] = {match.end(): _SENTENCE for match in _SENTENCES.finditer(text)}
    kinds = {_skip_space(text, position): kind for position, kind in kinds.items()}
    kinds.update((match.end(), _LINE) for match in _LINES.finditer(text))
    kinds.update((position, _BLOCK) for position in document.block_starts)
    kinds.update((section.char_start, _SECTION) for section in document.sections if section.heading is not None)
    places = sorted(position for position in kinds if 0 < position < len(text))
    # A stretch this long would leave a reach without any boundary.
    far = max(1, int(longest * _REACH) // 4)
    for before, after in zip([0, *places], [*places, len(text)], strict=True):
        if after - before > far:
            kinds.update((match.end(), _WORD) for match in _SPACES.finditer(text, before + 1, after - 1))
    positions = [position for position in sorted(kinds) if 0 < position < len(text)]
    # Four bytes a character, so that a place in the text is a place in the bytes.
    data = memoryview(text.encode("utf-32-le", "surrogatepass"))
    around = 4 * _CONTEXT
    ranks = [kinds[at] << 32 | zlib.crc32(data[max(0, 4 * at - around) : 4 * at + around]) for at in positions]
    return _Boundaries(positions, ranks)


def _skip_space(text: str, position: int) -> int:
    match = _SPACES.match(text, position)
    return match.end() if match else position


def _peaks(boundaries: _Boundaries, reach: int, length: int) -> list[int]:
    """The boundaries that no other within reach outranks; of equals within reach, the first. The text's ends keep their
    distance."""
    positions, ranks = boundaries.positions, boundaries.ranks
    peaks = []
    # Indexes of boundaries within reach, ranks falling: the first is the best.
    window: deque[int] = deque()
    ahead = 0
    for index, position in enumerate(positions):
        while ahead < len(positions) and positions[ahead] <= position + reach:
            while window and ranks[window[-1]] < ranks[ahead]:
                window.pop()
            window.append(ahead)
            ahead += 1
        while positions[window[0]] < position - reach:
            window.popleft()
        if window[0] == index and reach // 2 <= position <= length - reach // 2:
            peaks.append(position)
    return peaks


def _split(cuts: list[int], boundaries: _Boundaries, text: str, longest: int) -> list[int]:
    """Add cuts until no piece is longer than ``longest``."""
    done = [cuts[0]]
    waiting = cuts[:0:-1]
    while waiting:
        start, end = done[-1], waiting[-1]
        if end - start <= longest:
            done.append(waiting.pop())
        else:
            waiting.append(_best_cut(start, end, boundaries, text, longest))
    return done


def _best_cut(start: int, end: int, boundaries: _Boundaries, text: str, longest: int) -> int:
    """The best boundary that leaves two pieces that fit, else the best in the middle half, else a letter's start."""
    quarter = max(1, (end - start) // 4)
    for low, high in ((end - longest, start + longest), (start + quarter, end - quarter)):
        first = bisect_left(boundaries.positions, max(low, start + quarter))
        last = bisect_right(boundaries.positions, min(high, end - quarter))
        if first < last:
            return boundaries.positions[max(range(first, last), key=boundaries.ranks.__getitem__)]
    # A stretch without sentences, lines or even words: its first part is cut off at full length.
    return _letter_start(text, min(start + longest, end - 1), start)


def _letter_start(text: str, position: int, start: int) -> int:
    """The nearest place at or before ``position`` that divides no grapheme cluster; ``position`` if there is none behind
    ``start``."""
    for candidate in range(position, start, -1):
        if not _joined(text, candidate):
            return candidate
    return position


def _joined(text: str, position: int) -> bool:
    """Whether a cut here would divide a letter from its marks, the parts of an emoji, a flag's pair, or Hangul's jamo.

    The rules of Unicode Standard Annex 29 that matter where a text has no spaces.
    """
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    if (
        unicodedata.category(after) in ("Mn", "Mc", "Me")
        or after == _ZWJ
        or before == _ZWJ
        or "\U0001f3fb" <= after <= "\U0001f3ff"
    ):
        return True
    if "\U0001f1e6" <= after <= "\U0001f1ff":
        flags = 0
        while position - flags > 0 and "\U0001f1e6" <= text[position - flags - 1] <= "\U0001f1ff":
            flags += 1
        return flags % 2 == 1
    return ("\u1160" <= after <= "\u11ff") or (before == "\r" and after == "\n")


def _overlap_start(text: str, cut: int, overlap: int) -> int:
    """Where the overlap in front of a cut begins: the first line or sentence start in it, else the first word, else any
    letter."""
    low = max(0, cut - overlap)
    starts = [
        min((_skip_space(text, match.end()) for match in pattern.finditer(text, low, cut)), default=cut)
        for pattern in (_LINES, _SENTENCES)
    ]
    if min(starts) < cut:
        return min(starts)
    word = _SPACES.search(text, low, cut)
    if word and word.end() < cut:
        return word.end()
    if word:
        return cut
    return next((position for position in range(low, cut) if not _joined(text, position)), cut)


def _pages(document: DocumentText) -> Callable[[int, int], tuple[int | None, int | None]]:
    """A function from a range of the text to the first and last page in it."""
    sections = document.sections
    starts = [section.char_start for section in sections]

    def pages(start: int, end: int) -> tuple[int | None, int | None]:
        first, last = max(0, bisect_right(starts, start) - 1), bisect_left(starts, end)
        found = [section.page for section in sections[first:last] if section.page is not None]
        return (min(found), max(found)) if found else (None, None)

    return pages
