"""Write the sample documents that are not plain text: ``python infra/samples/make_samples.py [FOLDER]``.

Each file of ``sources/`` gives one document, named without its ``.md``: ``talks/x.pptx.md`` -> ``talks/x.pptx``. The
same sources give the same bytes with the packages of the lock file. The other documents (HTML, Markdown, text) are
their own source and stand in ``documents/``.

A source is a small part of Markdown: ``#`` and ``##`` headings, paragraphs, ``|`` tables whose first row is the head,
``>`` speaker notes, and ``<!-- page -->`` between two pages or slides.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import docx
import pptx
from pptx.util import Inches, Pt
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "sources"
DOCUMENTS = HERE / "documents"
PAGE = "<!-- page -->"
LICENCE = "Apache-2.0, lex-ingest contributors"
# The first moment that a zip entry can have; a document made from the same source is then the same file.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Part:
    """One block of a source. ``kind`` is title, heading, paragraph, table or note; only a table has ``rows``."""

    kind: str
    text: str
    rows: tuple[tuple[str, ...], ...] = ()


def parse(source: str) -> list[list[Part]]:
    """Return the pages of a source, each a list of its parts in order."""
    pages = source.split(PAGE)
    return [[_part(block.strip()) for block in page.split("\n\n") if block.strip()] for page in pages]


def _part(block: str) -> Part:
    if block.startswith("## "):
        return Part("heading", block[3:])
    if block.startswith("# "):
        return Part("title", block[2:])
    if block.startswith("> "):
        return Part("note", block[2:])
    if block.startswith("|"):
        rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in block.splitlines()]
        return Part("table", "", tuple(tuple(row) for row in rows))
    return Part("paragraph", block)


def make_pdf(source: str) -> bytes:
    """A PDF on A4 with the built-in Latin fonts, page numbers at the foot, and no creation time."""
    styles = getSampleStyleSheet()
    look = {"title": styles["Heading1"], "heading": styles["Heading2"], "paragraph": styles["BodyText"]}
    pages = parse(source)
    story: list[Flowable] = []
    for number, page in enumerate(pages):
        if number:
            story.append(PageBreak())
        for part in page:
            story.append(_pdf_table(part) if part.kind == "table" else Paragraph(escape(part.text), look[part.kind]))
            story.append(Spacer(1, 5))
    out = io.BytesIO()
    document = SimpleDocTemplate(out, pagesize=A4, invariant=1, title=pages[0][0].text, author=LICENCE)

    def foot(canvas: Canvas, _template: SimpleDocTemplate) -> None:
        canvas.setFont("Helvetica", 9)
        canvas.drawCentredString(A4[0] / 2, 36, f"{canvas.getPageNumber()} / {len(pages)}")

    document.build(story, onFirstPage=foot, onLaterPages=foot)
    return out.getvalue()


def _pdf_table(part: Part) -> Table:
    table = Table([list(row) for row in part.rows], hAlign="LEFT")
    table.setStyle([("GRID", (0, 0), (-1, -1), 0.5, colors.grey), ("FONTNAME", (0, 0), (-1, 0), "Helvetica-Bold")])
    return table


def make_docx(source: str) -> bytes:
    """A Word document with real headings and tables."""
    document = docx.Document()
    document.core_properties.author = LICENCE
    for part in (part for page in parse(source) for part in page):
        if part.kind == "table":
            table = document.add_table(len(part.rows), len(part.rows[0]), style="Table Grid")
            for row, values in zip(table.rows, part.rows, strict=True):
                for cell, value in zip(row.cells, values, strict=True):
                    cell.text = value
        elif part.kind == "paragraph":
            document.add_paragraph(part.text)
        else:
            document.add_heading(part.text, 0 if part.kind == "title" else 1)
            if part.kind == "title":
                document.core_properties.title = part.text
    out = io.BytesIO()
    document.save(out)
    return _without_times(out.getvalue())


def make_pptx(source: str) -> bytes:
    """A presentation: one slide a page, each line of a paragraph a bullet, tables as tables, notes as speaker notes."""
    deck = pptx.Presentation()
    deck.core_properties.author = LICENCE
    pages = parse(source)
    deck.core_properties.title = pages[0][0].text
    for number, page in enumerate(pages):
        slide = deck.slides.add_slide(deck.slide_layouts[1 if number else 0])
        head, *rest = page
        slide.shapes.title.text = head.text
        bullets = [line for part in rest if part.kind == "paragraph" for line in part.text.splitlines()]
        slide.placeholders[1].text = "\n".join(bullets)
        for part in rest:
            if part.kind == "note":
                slide.notes_slide.notes_text_frame.text = part.text
            elif part.kind == "table":
                _slide_table(slide, part)
    out = io.BytesIO()
    deck.save(out)
    return _without_times(out.getvalue())


def _slide_table(slide: pptx.slide.Slide, part: Part) -> None:
    height = Inches(0.4 * len(part.rows))
    frame = slide.shapes.add_table(len(part.rows), len(part.rows[0]), Inches(0.6), Inches(3.6), Inches(8.8), height)
    for row, values in zip(frame.table.rows, part.rows, strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
            cell.text_frame.paragraphs[0].font.size = Pt(16)


def _without_times(package: bytes) -> bytes:
    """The same Office file with each entry dated ``ZIP_EPOCH``."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name, ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(name))
    return out.getvalue()


def make_text(source: str) -> bytes:
    """Plain text in Windows-1252, as an older editor would have saved it: no byte order mark tells the encoding."""
    return source.encode("cp1252")


MAKERS: dict[str, Callable[[str], bytes]] = {".pdf": make_pdf, ".docx": make_docx, ".pptx": make_pptx, ".txt": make_text}


def write_all(target: Path) -> list[Path]:
    """Make every document of ``sources/`` under ``target``; return their paths relative to it, sorted."""
    made: list[Path] = []
    for source in sorted(SOURCES.rglob("*.md")):
        name = source.relative_to(SOURCES).with_suffix("")
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MAKERS[name.suffix](source.read_text(encoding="utf-8")))
        made.append(name)
    return made


if __name__ == "__main__":
    for made_path in write_all(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENTS):
        print(made_path)
