"""PDFs drawn for a test, and short forms for what is read from them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate

from worker.domain.text import Extraction
from worker.extract.blocks import Limits
from worker.extract.registry import extract

Drawing = Callable[[Canvas, int], object]


def read(folder: Path, data: bytes, engine: str = "auto") -> Extraction:
    path = folder / "file"
    path.write_bytes(data)
    return extract(path, "file", Limits(pdf_engine=engine))


def pages(count: int, draw: Drawing) -> bytes:
    """A PDF whose pages, from 1, are drawn by a function."""
    out = io.BytesIO()
    canvas = Canvas(out, A4)
    for number in range(1, count + 1):
        draw(canvas, number)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def book(sentences: list[str], size: float = 10) -> bytes:
    """The sentences as one paragraph each, over as many pages as it takes, with a header and a page number on each."""
    out = io.BytesIO()
    style = ParagraphStyle("body", getSampleStyleSheet()["BodyText"], fontSize=size, leading=1.2 * size)

    def furnish(canvas: Canvas, template: SimpleDocTemplate) -> None:
        canvas.drawString(72, 815, "The Annual Report of Everything")
        canvas.drawCentredString(297, 20, str(template.page))

    template = SimpleDocTemplate(out, pagesize=A4)
    template.build([Paragraph(text, style) for text in sentences], onFirstPage=furnish, onLaterPages=furnish)
    return out.getvalue()


def sentence(number: int, words: int) -> str:
    return f"S{number}begin " + " ".join(f"word{number}x{count}" for count in range(words)) + f" end{number}s."


def texts(extraction: Extraction, kind: str) -> list[str]:
    return [block.text for block in extraction.blocks if block.kind == kind]
