"""The second PDF engine: pdfminer.six reads chosen pages, or a file that pdfium refuses.

``boxes_flow=None``: its default layout takes 46 CPU-seconds for one rotated page, this one 1.0, with the same words (issue 4).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pdfminer.converter import PDFPageAggregator
from pdfminer.layout import LAParams, LTItem, LTPage, LTTextLine
from pdfminer.pdfdocument import PDFDocument, PDFEncryptionError, PDFPasswordIncorrect
from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager
from pdfminer.pdfpage import PDFPage
from pdfminer.pdfparser import PDFParser

from worker.domain.errors import Rejected
from worker.extract.pdf_layout import Line
from worker.extract.time_limit import TimeIsUp, time_limit

# It logs a line for each odd operator, with the document's own bytes in it.
logging.getLogger("pdfminer").setLevel(logging.CRITICAL)

# The lines of a page, whether anything is drawn on it, and whether pdfminer failed on it.
ReadPage = tuple[list[Line], bool, bool]


@dataclass(slots=True)
class SecondReading:
    """Pages by number from 0, how many the file has, and whether the time was up before all that were wanted were read."""

    pages: dict[int, ReadPage] = field(default_factory=dict)
    count: int = 0
    broke_off: bool = False


def read_pages(path: Path, wanted: set[int] | None, max_pages: int, seconds: float | None) -> SecondReading:
    """Read some pages, or all, for so many seconds of CPU time at most; what was read by then is given.

    Raises:
        Rejected: ``encrypted``, ``damaged``, ``too_many_pages``.
    """
    reading = SecondReading()
    with path.open("rb") as file:
        try:
            with time_limit(seconds):
                _read_into(reading, PDFDocument(PDFParser(file)), wanted, max_pages)
        except TimeIsUp:
            reading.broke_off = True
        except (PDFPasswordIncorrect, PDFEncryptionError):
            raise Rejected("encrypted", "the PDF needs a password") from None
        except (MemoryError, Rejected):
            raise
        # pdfminer raises whatever a damaged file provokes: TypeError, KeyError, RecursionError …
        except Exception as error:
            if not reading.pages:
                raise Rejected("damaged", f"the PDF cannot be read ({type(error).__name__})") from error
    if not reading.count and not reading.broke_off:
        raise Rejected("damaged", "the PDF has no pages")
    return reading


def _read_into(reading: SecondReading, document: PDFDocument, wanted: set[int] | None, max_pages: int) -> None:
    for number, page in enumerate(PDFPage.create_pages(document)):
        reading.count = number + 1
        if number >= max_pages:
            raise Rejected("too_many_pages", f"the file has more than {max_pages} pages")
        if wanted is None or number in wanted:
            reading.pages[number] = _read(page)


def _read(page: PDFPage) -> ReadPage:
    resources = PDFResourceManager()
    device = PDFPageAggregator(resources, laparams=LAParams(boxes_flow=None))
    try:
        PDFPageInterpreter(resources, device).process_page(page)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (as above, pdfminer raises anything; one page's damage is not the file's)
        return [], True, True
    layout = device.get_result()
    return [_line(line) for line in _text_lines(layout)], bool(len(layout)), False


def _text_lines(item: LTItem) -> Iterator[LTTextLine]:
    if isinstance(item, LTTextLine):
        yield item
    elif isinstance(item, LTPage) or hasattr(item, "__iter__"):
        for child in item:
            yield from _text_lines(child)


def _line(line: LTTextLine) -> Line:
    return Line(line.get_text(), line.x0, line.y0, line.x1, line.y1, line.height, line.height)
