"""The lines of all pages -> the blocks of the document, as a reader sees them who turns the pages. Pure.

Running headers and footers stand once each as notes, a paragraph that goes over a page's end is one block, and a short
paragraph in letters clearly larger than the usual ones is a heading.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from worker.extract.pdf_layout import Line, grouped, join
from worker.extract.pdf_resume import resumes
from worker.extract.pdf_running import separate

# Letters of a heading are so many times as high as the usual ones; two sizes closer than this are one level.
_LARGER = 1.2
_ONE_SIZE = 1.08
_LEVELS = 3
_HEADING_CHARS = 120
_HEADING_LINES = 3
_HEADING_LETTERS = 3
# A size in which more of the text is set, or more paragraphs a page, is no heading's: slides, posters, letters to children.
_HEADINGS_SHARE = 0.1
_HEADINGS_PER_PAGE = 2
# Pages and columns that a paragraph goes over; without an end to it, a hostile file's would be as long as the file.
_MOST_RUNS = 50
# Letters as high as this share of a page's usual ones may be a footnote's.
_FOOTNOTE = 0.92


@dataclass(frozen=True, slots=True)
class PdfBlock:
    """One block; ``page_breaks`` as in ``worker.domain.text.Block``; ``level`` is a heading's, else 0."""

    text: str
    page: int
    page_breaks: tuple[tuple[int, int], ...] = ()
    kind: Literal["paragraph", "heading", "note"] = "paragraph"
    level: int = 0


@dataclass(slots=True)
class _Paragraph:
    """Its lines, in runs that each stand on one page and in one column."""

    runs: list[list[Line]]
    pages: list[int]

    @property
    def height(self) -> float:
        """Points, of its first letter; to a tenth."""
        return round(self.runs[0][0].height, 1)

    def takes(self, lines: list[Line], page: int) -> bool:
        if len(self.runs) == _MOST_RUNS or not resumes(self.runs[-1], lines):
            return False
        self.runs.append(lines)
        self.pages.append(page)
        return True


def blocks(pages: Mapping[int, list[Line]], is_compound: Callable[[str], bool]) -> Iterator[PdfBlock]:
    """The blocks of the pages, whose numbers count from 1, in reading order."""
    running = separate(pages)
    paragraphs = _paragraphs(running.bodies)
    level_of = _heading_levels(paragraphs)
    headers, footers = _notes(running.headers), _notes(running.footers)
    for paragraph in paragraphs:
        page = paragraph.pages[0]
        # A page's footers stand behind the last paragraph that begins on it.
        yield from _until(footers, page - 1)
        yield from _until(headers, page)
        text, begins = join(paragraph.runs, is_compound)
        breaks = tuple(
            (begin, number)
            for begin, number, before in zip(begins[1:], paragraph.pages[1:], paragraph.pages, strict=False)
            if number != before
        )
        level = level_of(paragraph)
        yield PdfBlock(text, page, breaks, "heading" if level else "paragraph", level)
    yield from _until(headers, max(pages, default=0))
    yield from _until(footers, max(pages, default=0))


def _notes(texts: Mapping[int, list[str]]) -> list[PdfBlock]:
    """As a stack: the first page's on top."""
    return [PdfBlock(text, page, kind="note") for page in sorted(texts, reverse=True) for text in reversed(texts[page])]


def _until(notes: list[PdfBlock], page: int) -> Iterator[PdfBlock]:
    while notes and notes[-1].page <= page:
        yield notes.pop()


def _paragraphs(bodies: Mapping[int, list[Line]]) -> list[_Paragraph]:
    found: list[_Paragraph] = []
    unfinished: _Paragraph | None = None
    for page, lines in sorted(bodies.items()):
        groups = grouped(lines)
        here: list[_Paragraph] = []
        for group in groups:
            if here:
                # Upwards is a new column.
                resumed = group[0].bottom > here[-1].runs[-1][-1].bottom and here[-1].takes(group, page)
            else:
                resumed = unfinished is not None and unfinished.takes(group, page)
                if resumed and unfinished is not None:
                    here.append(unfinished)
            if not resumed:
                here.append(_Paragraph([group], [page]))
        found += here[1:] if here and here[0] is unfinished else here
        unfinished = _last_but_footnotes(here) or unfinished
    return found


def _last_but_footnotes(paragraphs: list[_Paragraph]) -> _Paragraph | None:
    """The last paragraph of a page, those in small letters at its foot aside."""
    if not paragraphs:
        return None
    heights = Counter[float]()
    for paragraph in paragraphs:
        heights[paragraph.height] += sum(len(line.text) for line in paragraph.runs[-1])
    usual = heights.most_common(1)[0][0]
    return next((last for last in reversed(paragraphs) if last.height >= _FOOTNOTE * usual), paragraphs[-1])


def _heading_levels(paragraphs: list[_Paragraph]) -> Callable[[_Paragraph], int]:
    """A function that gives the level of a heading, from 1, and 0 for what is none."""
    heights, sizes = Counter[float](), Counter[float]()
    for paragraph in paragraphs:
        weight = sum(len(line.text) for run in paragraph.runs for line in run)
        heights[paragraph.height] += weight
        sizes[paragraph.runs[0][0].size] += weight
    height = heights.most_common(1)[0][0] if heights else 0.0
    # A file that scales its letters by other means has but one size, and nothing is known by it.
    size = sizes.most_common(1)[0][0] if len(sizes) > 1 else 0.0
    by_height: dict[float, list[_Paragraph]] = defaultdict(list)
    for paragraph in paragraphs:
        if paragraph.height > _LARGER * height > 0:
            by_height[paragraph.height].append(paragraph)
    pages = len({page for paragraph in paragraphs for page in paragraph.pages})
    ranks: list[float] = []
    levels: dict[int, int] = {}
    for larger, members in sorted(by_height.items(), reverse=True):
        good = [member for member in members if _is_set_as_heading(member, height, size) and _reads_as_heading(member)]
        too_many = heights[larger] > _HEADINGS_SHARE * heights.total() or len(good) > _HEADINGS_PER_PAGE * pages
        if not good or too_many or 2 * len(good) < len(members):
            continue
        if not ranks or ranks[-1] > _ONE_SIZE * larger:
            ranks.append(larger)
        levels.update((id(member), min(len(ranks), _LEVELS)) for member in good)
    return lambda paragraph: levels.get(id(paragraph), 0)


def _is_set_as_heading(paragraph: _Paragraph, height: float, size: float) -> bool:
    """Whether all of it is large: by its letters' boxes, which differ between fonts of one size, and by its font's size."""
    return all(line.last_height > _LARGER * height and line.size > _LARGER * size for line in paragraph.runs[0])


def _reads_as_heading(paragraph: _Paragraph) -> bool:
    """One to three lines, a word at least, no list, no formula and no sentence."""
    if len(paragraph.runs) > 1 or len(paragraph.runs[0]) > _HEADING_LINES:
        return False
    text = " ".join(line.text.strip() for line in paragraph.runs[0])
    if len(text) > _HEADING_CHARS or not text[0].isalnum() or text[0].islower() or text[-1] in ".,;:-" or "\u2022" in text:
        return False
    letters = sum(map(str.isalpha, text))
    return letters >= _HEADING_LETTERS and letters > 0.6 * (len(text) - text.count(" "))
