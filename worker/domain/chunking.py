"""Chunks: overlapping pieces of the document text, cut where a reader would cut and where the text itself says so.

Which boundary becomes a cut depends only on the text near it, never on where the previous chunk ended: a boundary is
a cut if it is the best within a fixed reach to both sides (its kind first, then a checksum of the words behind it). So
an edit moves only the cuts within reach of it, and all other chunks stay byte for byte the same and are not embedded
again. The idea is content-defined chunking by local maxima (Bjørner, Blass, Gurevich: "Content-dependent chunking for
differential compression", 2010). A cut between two pieces that fit into one chunk is then left out, and a piece that is
too long is divided into as few as can be, at its best boundaries. Pages are no boundaries: the same text on other pages
has the same chunks. All in time linear in the text, but for sorting the boundaries.

Filling each chunk to the brim instead takes a quarter fewer chunks, and an edit changes all that follow; the cheapest cuts of
the whole text take a fifth fewer, and an edit changes 4 to 9 on average.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from worker.domain.boundaries import HIGHEST, LINES, SENTENCES, SPACES, Boundaries, find, skip_space
from worker.domain.graphemes import joined, starts
from worker.domain.text import DocumentText, is_visible

# The reach to each side, as a share of the longest piece. Measured at 4000/400: chunks of 40 documents, and how many insertions
# of a paragraph, on the first page or anywhere, changed more than 3 chunks: 0.4 gives 362, 0.1 and 0.1 %; 0.45 352, 0.2 and
# 0.3 %; 0.5 337, 0.2 and 0.7 %; 0.6 327, 0.7 and 1.5 %; 0.7 318, 0.8 and 1.6 % (tests/benchmarks/chunk_stability.py).
_REACH = 0.5


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


def chunk(document: DocumentText, size: int = 4000, overlap: int = 400) -> list[Chunk]:
    """Cut the document text into chunks of at most ``size`` characters, each beginning with up to ``overlap`` of the one before.

    All text that a reader sees is in a chunk, and no chunk is without any. No chunk lies inside the one before it. A text of at
    most ``size`` is one chunk.

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
        reach = int(longest * _REACH)
        # A longer stretch without any boundary would leave a reach with too few to choose from.
        boundaries = find(document, max(1, reach // 4), longest)
        peaks = _without_needless(_peaks(boundaries, reach, len(text)), boundaries, len(text), longest)
        cuts = _divide(peaks, boundaries, len(text), longest)
    pages = _pages(document)
    chunks: list[Chunk] = []
    for start, end in pairwise(cuts):
        piece = text[start:end]
        if not is_visible(piece):
            continue
        first = start + len(piece) - len(piece.lstrip())
        last = end - (len(piece) - len(piece.rstrip()))
        if chunks and overlap:
            first = min(first, _overlap_start(text, chunks[-1].char_start, start, overlap))
        page_start, page_end = pages(first, last)
        chunks.append(Chunk(len(chunks), text[first:last], page_start, page_end, first, last))
    return chunks


def _peaks(boundaries: Boundaries, reach: int, length: int) -> list[int]:
    """Indexes of the boundaries that no other within reach outranks; of equals within reach, the first. The text's ends keep
    their distance."""
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
            peaks.append(index)
    return peaks


def _without_needless(peaks: list[int], boundaries: Boundaries, length: int, longest: int) -> list[int]:
    """Leave out each peak lower than both neighbours whose two pieces fit into one. Two side by side never go."""
    places = [0, *(boundaries.positions[index] for index in peaks), length]
    ranks = [HIGHEST, *(boundaries.ranks[index] for index in peaks), HIGHEST]
    return [
        peak
        for number, peak in enumerate(peaks, 1)
        if places[number + 1] - places[number - 1] > longest
        or ranks[number] >= ranks[number - 1]
        or ranks[number] > ranks[number + 1]
    ]


def _divide(peaks: list[int], boundaries: Boundaries, length: int, longest: int) -> list[int]:
    """The cuts: the text's ends, the peaks, and the cheapest ones that leave no piece longer than ``longest``."""
    positions = [*boundaries.positions, length]
    cuts, done = [0], 0
    for peak in [*peaks, len(boundaries.positions)]:
        if positions[peak] - cuts[-1] > longest:
            prices = [0.0, *map(_price, boundaries.ranks[done:peak]), 0.0]
            cuts += _cheapest([cuts[-1], *positions[done : peak + 1]], prices, longest)
        else:
            cuts.append(positions[peak])
        done = peak + 1
    return cuts


def _price(rank: int) -> float:
    """What a cut here costs, in chunks. One more chunk is worth it for a paragraph's end instead of a mere word's."""
    return 1 + (HIGHEST - rank) / 2**33


def _cheapest(places: list[int], prices: list[float], longest: int) -> list[int]:
    """The way from the first place, left out, to the last: steps of at most ``longest``, the least sum of prices."""
    costs, before = [0.0], [0]
    # Places within a step, costs rising: the first is the best.
    window = deque([0])
    for index in range(1, len(places)):
        while places[window[0]] < places[index] - longest:
            window.popleft()
        before.append(window[0])
        costs.append(costs[window[0]] + prices[index])
        while window and costs[window[-1]] > costs[index]:
            window.pop()
        window.append(index)
    way = [len(places) - 1]
    while before[way[-1]]:
        way.append(before[way[-1]])
    return [places[index] for index in reversed(way)]


def _overlap_start(text: str, before: int, cut: int, overlap: int) -> int:
    """Where the overlap in front of a cut begins: the first line or sentence start in it, else the first word, else any
    letter. ``before`` is the cut before, and as far as it may go back."""
    low = max(before, cut - overlap)
    for patterns in ((LINES, SENTENCES), (SPACES,)):
        found = (skip_space(text, match.end()) for pattern in patterns for match in pattern.finditer(text, low, cut))
        start = min((at for at in found if not joined(text, at)), default=cut)
        if start < cut:
            return start
    if SPACES.search(text, low, cut):
        return cut
    return next((at for at in starts(text, before, cut) if at >= low), cut)


def _pages(document: DocumentText) -> Callable[[int, int], tuple[int | None, int | None]]:
    """A function from a range of the text to the first and last page in it."""
    sections = document.sections
    starts = [section.char_start for section in sections]

    def pages(start: int, end: int) -> tuple[int | None, int | None]:
        first, last = max(0, bisect_right(starts, start) - 1), bisect_left(starts, end)
        found = [section.page for section in sections[first:last] if section.page is not None]
        return (min(found), max(found)) if found else (None, None)

    return pages
