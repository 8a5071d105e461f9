"""PPTX: slide by slide, the title as the heading, then shapes, tables and notes.

python-pptx (MIT; the one kept library for the format) opens the package and gives slides, shapes and notes. Its shapes leave out
alternate content and a diagram's text, so the text is read from each shape's own element. Alternative: markitdown, which
uses python-pptx itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pptx

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction
from worker.extract import ooxml, sniff
from worker.extract.blocks import BlockBuilder, Limits

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_DIAGRAM = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/diagramData"
_FIXED = {f"{_A}br": "\n", f"{_A}tab": "\t"}
# Placeholders that repeat on every slide (ISO/IEC 29500-1, 19.7.10).
_MARGINS = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a PPTX file; a block's page is its slide's number, from 1.

    Raises:
        Rejected: what ``ooxml.open_checked`` refuses, ``too_large``, ``too_many_pages``, ``damaged``.
        NoText: ``empty``, or ``needs_ocr`` where slides hold only images.
    """
    presentation = pptx.Presentation(ooxml.open_checked(path, sniff.SLIDE_PARTS))
    builder = BlockBuilder(limits)
    count = len(presentation.slides)
    if count > limits.max_pages:
        raise Rejected("too_many_pages", f"the file has more than {limits.max_pages} slides")
    for number, slide in enumerate(presentation.slides, 1):
        builder.leave_headings()
        title = slide.shapes.title
        if title is not None:
            builder.add_heading(1, _text(title.element), number)
        for shape in _shapes(slide.shapes.element):
            if title is None or shape is not title.element:
                _shape(shape, builder, number)
        for relationship in slide.part.rels.values():
            if relationship.reltype == _DIAGRAM and not relationship.is_external:
                _diagram(relationship.target_part.blob, builder, number)
        if slide.has_notes_slide:
            for shape in _shapes(slide.notes_slide.shapes.element):
                builder.add(_text(shape), "note", number)
    if builder.empty and any(next(slide.shapes.element.iter(f"{_P}pic"), None) is not None for slide in presentation.slides):
        raise NoText("needs_ocr", "the slides hold images and no text")
    return builder.finish(sniff.OOXML + "presentationml.presentation", "python-pptx", presentation.core_properties.title, count)


def _shapes(tree: Any) -> Iterator[Any]:
    """The shapes of a tree in order, through groups; of alternate content the first branch."""
    for child in tree:
        if child.tag == f"{_P}grpSp":
            yield from _shapes(child)
        elif child.tag == f"{_MC}AlternateContent":
            for branch in child:
                yield from _shapes(branch)
                break
        elif child.tag in (f"{_P}sp", f"{_P}graphicFrame", f"{_P}cxnSp"):
            placeholder = next(child.iter(f"{_P}ph"), None)
            if placeholder is None or placeholder.get("type") not in _MARGINS:
                yield child


def _shape(shape: Any, builder: BlockBuilder, number: int) -> None:
    tables = list(shape.iter(f"{_A}tbl"))
    if not tables:
        builder.add(_text(shape), "paragraph", number)
    for table in tables:
        rows = ([" ".join(_text(cell).split()) for cell in row.iterchildren(f"{_A}tc")] for row in table.iterchildren(f"{_A}tr"))
        builder.add("\n".join(" | ".join(cells) for cells in rows if any(cells)), "table", number)


def _diagram(data: bytes, builder: BlockBuilder, number: int) -> None:
    builder.add(_text(pptx.oxml.parse_xml(data)), "paragraph", number)


def _text(element: Any) -> str:
    """The paragraphs in an element, one a line."""
    lines = []
    for paragraph in element.iter(f"{_A}p"):
        nodes = paragraph.iter(f"{_A}t", f"{_A}br", f"{_A}tab")
        lines.append("".join(node.text or "" if node.tag == f"{_A}t" else _FIXED.get(node.tag, "") for node in nodes))
    return "\n".join(lines)
