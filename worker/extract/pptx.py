"""PPTX: slide by slide, the title as the heading, then shapes, tables, charts and diagrams, notes and comments.

python-pptx (MIT; the one kept library for the format) opens the package and gives slides, shapes and notes. Its shapes leave out
alternate content and the words of charts and diagrams, so text is read from each shape's own element. Alternative: markitdown,
which uses python-pptx itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pptx
from lxml import etree

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction
from worker.extract import ooxml, sniff
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.docx_graphics import REFERENCES, words
from worker.extract.docx_package import warn_once
from worker.extract.ooxml_properties import title_and_metadata
from worker.extract.xml_errors import check_memory

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_CORE_PROPERTIES = "application/vnd.openxmlformats-package.core-properties+xml"
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
    # The parts that were read. A second reference to one, such as a slide that is listed twice, does not repeat its text.
    seen: set[str] = set()
    for number, slide in enumerate(presentation.slides, 1):
        if _was_seen(slide.part, seen):
            continue
        builder.leave_headings()
        title = slide.shapes.title
        if title is not None:
            builder.add_heading(1, _text(title.element), number)
        for shape in _shapes(slide.shapes.element):
            if title is None or shape is not title.element:
                _shape(shape, builder, number)
                _graphics(shape, slide.part, builder, number, seen)
        if slide.has_notes_slide and not _was_seen(slide.notes_slide.part, seen):
            for shape in _shapes(slide.notes_slide.shapes.element):
                builder.add(_text(shape), "note", number)
        _comments(slide.part, builder, number, seen)
    if builder.empty and any(next(slide.shapes.element.iter(f"{_P}pic"), None) is not None for slide in presentation.slides):
        raise NoText("needs_ocr", "the slides hold images and no text")
    # python-pptx's core_properties invents some, title included, where the file has none.
    cores = [part for part in presentation.part.package.iter_parts() if part.content_type == _CORE_PROPERTIES]
    language = next((run.get("lang") for run in presentation.element.iter(f"{_A}defRPr") if run.get("lang")), None)
    named, metadata = title_and_metadata(_root(cores[0], builder) if cores else None, language)
    return builder.finish(sniff.OOXML + "presentationml.presentation", "python-pptx", named, count, metadata)


def _was_seen(part: Any, seen: set[str]) -> bool:
    """Whether a part was read before. Marks it as read."""
    known = part.partname in seen
    seen.add(part.partname)
    return known


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
        rows = ([_cell(cell) for cell in row.iterchildren(f"{_A}tc")] for row in table.iterchildren(f"{_A}tr"))
        builder.add("\n".join(" | ".join(cells) for cells in rows if any(cells)), "table", number)


def _cell(cell: Any) -> str:
    """The text of a cell on one line; a cell merged into another shows nothing."""
    merged = any(cell.get(name) in ("1", "true") for name in ("hMerge", "vMerge"))
    return "" if merged else " ".join(_text(cell).split())


def _graphics(shape: Any, slide: Any, builder: BlockBuilder, number: int, seen: set[str]) -> None:
    """The words of the charts and diagrams in a shape, which stand in parts of their own."""
    for reference in shape.iter(*REFERENCES):
        relationship = slide.rels.get(reference.get(REFERENCES[reference.tag], ""))
        if relationship is not None and not relationship.is_external and not _was_seen(relationship.target_part, seen):
            root = _root(relationship.target_part, builder)
            builder.add("" if root is None else words(root), "paragraph", number)


def _comments(slide: Any, builder: BlockBuilder, number: int, seen: set[str]) -> None:
    """The comments on a slide, in the old form (``p:text``) or the new one (paragraphs)."""
    for relationship in slide.rels.values():
        found = relationship.reltype.endswith("/comments") and not relationship.is_external
        if found and not _was_seen(relationship.target_part, seen):
            root = _root(relationship.target_part, builder)
            for text in root.iter(f"{_P}text", f"{_A}p") if root is not None else ():
                builder.add(text.text or "" if text.tag == f"{_P}text" else _line(text), "note", number)


def _root(part: Any, builder: BlockBuilder) -> Any:
    """The root element of a part beside the slides; one that is damaged leaves a warning instead of its text."""
    try:
        return etree.fromstring(part.blob, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        check_memory(error)
        warn_once(builder, "a part of the file is damaged and was left out")
        return None


def _text(element: Any) -> str:
    """The paragraphs in an element, one a line."""
    return "\n".join(map(_line, element.iter(f"{_A}p")))


def _line(paragraph: Any) -> str:
    nodes = paragraph.iter(f"{_A}t", f"{_A}br", f"{_A}tab")
    return "".join(node.text or "" if node.tag == f"{_A}t" else _FIXED.get(node.tag, "") for node in nodes)
