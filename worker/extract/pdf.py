"""PDF: page by page, pdfium first, pdfminer.six where pdfium finds no text or bad text.

pypdfium2 (Apache-2.0/BSD, wheels of Chrome's engine): 177 pages/s and the best word F1 of the engines measured in issue 4.
Alternatives: PyMuPDF (AGPL), poppler (a system program, GPL), pypdf (12 pages/s), pdfminer.six alone (3.6 pages/s, reads
some files that pdfium refuses: the second engine here).

``pdf_lines`` makes lines of a page, ``pdf_document`` blocks of all lines. FPDFText_HasUnicodeMapError is not asked: of the 9
pages in 382 with more than 5% of such glyphs, pdfium had guessed the text of 7 rightly, and a second opinion costs a quarter of
a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction, Metadata
from worker.extract import pdf_document, pdf_facts, pdf_fallback
from worker.extract.blocks import NO_METADATA, BlockBuilder, Limits
from worker.extract.pdf_layout import BAD_FROM, Line, badness, compounds
from worker.extract.pdf_lines import lines_of

_LOOKED_AT_OBJECTS = 50_000
# pdfminer takes a quarter of a second a page: a book of bad pages must not end in a timeout.
_MOST_SECOND_OPINIONS = 50
_SECOND_OPINION_SECONDS = 20.0
_MEDIA_TYPE = "application/pdf"


@dataclass(frozen=True, slots=True)
class _Page:
    """``text`` is what an engine said, whole; ``drawn`` says that the page holds anything, ``has_text`` that it draws text;
    ``broken`` that the engine could not read it."""

    text: str
    lines: list[Line]
    drawn: bool = True
    has_text: bool = True
    broken: bool = False
    engine: str = "pdfium"

    @property
    def doubtful(self) -> bool:
        return self.has_text and (not self.text.strip() or badness(self.text) > BAD_FROM)

    def better_than(self, other: _Page) -> bool:
        return bool(self.text.strip()) and (not other.text.strip() or badness(self.text) < badness(other.text))


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a PDF file; a block is a paragraph, its page counts from 1. An empty user password is tried.

    Raises:
        Rejected: ``encrypted``, ``damaged``, ``too_many_pages``, ``too_large``.
        NoText: ``needs_ocr`` (pages with drawings and no text), ``empty``.
    """
    builder = BlockBuilder(limits)
    try:
        document = pypdfium2.PdfDocument(path.read_bytes())
    except pypdfium2.PdfiumError as error:
        if limits.pdf_engine == "pdfium":
            raise _refusal(error) from None
        try:
            pages = _second_reading(path, limits)
        except Rejected as second:
            raise (_refusal(error) if second.code != "too_many_pages" else second) from None
        return _finish(pages, None, NO_METADATA, builder)
    try:
        if len(document) > limits.max_pages:
            raise Rejected("too_many_pages", f"the file has more than {limits.max_pages} pages")
        title, metadata = document.get_metadata_value("Title"), pdf_facts.metadata(document)
        pages = _second_reading(path, limits) if limits.pdf_engine == "pdfminer" else _read_all(document, limits)
    finally:
        document.close()
    if limits.pdf_engine == "auto":
        pages = _second_opinion(path, pages, limits, builder)
    return _finish(pages, title, metadata, builder)


def _refusal(error: pypdfium2.PdfiumError) -> Rejected:
    if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
        return Rejected("encrypted", "the PDF needs a password")
    return Rejected("damaged", "the PDF cannot be read")


def _read_all(document: pypdfium2.PdfDocument, limits: Limits) -> dict[int, _Page]:
    """All pages by pdfium.

    Raises:
        Rejected: ``bomb`` or ``too_large``, as soon as half of the text so far is too much; the other half may be headers and
            footers, which are removed later.
    """
    pages = {}
    characters = 0
    for number in range(len(document)):
        pages[number] = _read(document, number)
        characters += len(pages[number].text)
        limits.check(characters // 2)
    return pages


def _read(document: pypdfium2.PdfDocument, number: int) -> _Page:
    try:
        page = document[number]
    except pypdfium2.PdfiumError:
        return _Page("", [], broken=True)
    try:
        textpage = page.get_textpage()
        try:
            text = textpage.get_text_range()
            lines = lines_of(textpage, text)
        finally:
            textpage.close()
        if text.strip():
            return _Page(text, lines)
        kinds = {item.type for item in islice(page.get_objects(), _LOOKED_AT_OBJECTS)}
        return _Page("", [], bool(kinds), pdfium.FPDF_PAGEOBJ_TEXT in kinds)
    except pypdfium2.PdfiumError:
        return _Page("", [], broken=True)
    finally:
        page.close()


def _second_reading(path: Path, limits: Limits) -> dict[int, _Page]:
    """All pages by pdfminer, of a file that pdfium refuses or that is to be read so; the sandbox's own limit bounds the time."""
    reading = pdf_fallback.read_pages(path, None, limits.max_pages, None)
    return {number: _as_page(page) for number, page in reading.pages.items()}


def _second_opinion(path: Path, pages: dict[int, _Page], limits: Limits, builder: BlockBuilder) -> dict[int, _Page]:
    """The pages with what pdfminer reads better in the place of what pdfium read.

    pdfminer skips pages that it can't load, which shifts the numbers behind them. So its pages count only where it finds as many
    as pdfium does; where pdfium lost half of the pages or more, its reading of the whole file counts if it has more text.
    """
    broken = sum(page.broken for page in pages.values())
    doubtful = sorted(number for number, page in pages.items() if page.doubtful or page.broken)
    if not doubtful:
        return pages
    mostly_broken = 2 * broken >= len(pages)
    wanted = None if mostly_broken else set(doubtful[:_MOST_SECOND_OPINIONS])
    try:
        reading = pdf_fallback.read_pages(path, wanted, limits.max_pages, _SECOND_OPINION_SECONDS)
    except Rejected:
        return pages
    seconds = {number: _as_page(page) for number, page in reading.pages.items()}
    if mostly_broken:
        return seconds if _with_text(seconds) > _with_text(pages) else pages
    if len(seconds) < len(doubtful):
        builder.warn(f"pages that read badly, and were not read a second time: {len(doubtful) - len(seconds)}")
    if reading.count != len(pages):
        return pages
    return pages | {number: second for number, second in seconds.items() if second.better_than(pages[number])}


def _with_text(pages: dict[int, _Page]) -> int:
    return sum(bool(page.text.strip()) for page in pages.values())


def _as_page(page: pdf_fallback.ReadPage) -> _Page:
    lines, drawn, broken = page
    return _Page("\n".join(line.text for line in lines), lines, drawn, broken=broken, engine="pdfminer")


def _finish(pages: dict[int, _Page], title: str | None, metadata: Metadata, builder: BlockBuilder) -> Extraction:
    for block in pdf_document.blocks({number + 1: page.lines for number, page in pages.items()}, _compounds_of(pages)):
        if block.level:
            builder.add_heading(block.level, block.text, block.page)
        else:
            builder.add(block.text, block.kind, block.page, block.page_breaks)
    silent = [number + 1 for number, page in sorted(pages.items()) if page.drawn and not page.text.strip()]
    if pages and all(page.broken for page in pages.values()):
        raise Rejected("damaged", "no page of the PDF can be read")
    if builder.empty and silent:
        raise NoText("needs_ocr", "the pages hold drawings or images and no text")
    if silent:
        builder.warn(f"pages without text: {_ranges(silent)}")
    read_by: dict[str, list[int]] = {}
    for number, page in sorted(pages.items()):
        read_by.setdefault(page.engine, []).append(number + 1)
    engines = "; ".join(f"{engine} {_ranges(numbers)}" for engine, numbers in sorted(read_by.items()))
    return builder.finish(_MEDIA_TYPE, "+".join(sorted(read_by)), title, len(pages), replace(metadata, engines=engines))


def _compounds_of(pages: dict[int, _Page]) -> Callable[[str], bool]:
    """Looks through the whole text only when a line is met that ends in a hyphen."""

    @cache
    def known() -> frozenset[str]:
        return compounds(page.text for page in pages.values())

    return lambda pair: pair.casefold() in known()


def _ranges(numbers: list[int]) -> str:
    """``[1, 2, 3, 7]`` -> ``1-3, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)
