"""DOCX: all text that a reader of the document sees, in document order.

python-docx (MIT, kept) opens the package and knows its styles, relationships and properties; worker.extract.docx_walk reads
lxml's tree of it, because python-docx's own paragraphs leave out text boxes, notes, content controls and comments
(issue 4: 48% of the words of 97 files). Alternatives: docx2txt (one flat string), mammoth (to HTML, at 40 times the CPU).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docx
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml.parser import parse_xml

from worker.domain.errors import NoText
from worker.domain.text import Extraction
from worker.extract import ooxml, sniff
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.docx_walk import W, Walk

_MAX_STYLE_DEPTH = 20


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a DOCX file: headers, body, then footers; notes and comments behind the paragraph that refers to them.

    Raises:
        Rejected: what ``ooxml.open_checked`` refuses, ``too_large``, ``damaged``.
        NoText: ``empty``, or ``needs_ocr`` where there are only images.
    """
    document = docx.Document(ooxml.open_checked(path, sniff.WORD_PARTS))
    builder = BlockBuilder(limits)
    parts = _parts(document)
    walk = Walk(builder, _Levels(document), _notes(parts))
    for text in _margins(parts, "header"):
        builder.add(text, "note")
    walk.body(document.element.body)
    walk.remaining_notes()
    builder.leave_headings()
    for text in _margins(parts, "footer"):
        builder.add(text, "note")
    if builder.empty and any(reltype.endswith("/image") for reltype, _ in parts):
        raise NoText("needs_ocr", "the document holds images and no text")
    title = document.core_properties.title
    return builder.finish(sniff.OOXML + "wordprocessingml.document", "python-docx", title or walk.title)


class _Levels:
    """The heading level of a style id: 1 to 9, 0 for the title, None for body text."""

    def __init__(self, document: Any) -> None:
        self._styles = {style.style_id: style for style in document.styles if style.type == WD_STYLE_TYPE.PARAGRAPH}
        self._levels: dict[str, int | None] = {}

    def __call__(self, style_id: str) -> int | None:
        if style_id not in self._levels:
            self._levels[style_id] = self._find(style_id)
        return self._levels[style_id]

    def _find(self, style_id: str) -> int | None:
        style = self._styles.get(style_id)
        for _ in range(_MAX_STYLE_DEPTH):
            if style is None:
                return None
            name = (style.name or "").lower()
            if name == "title":
                return 0
            if name.startswith("heading ") and name[8:].isdecimal():
                return int(name[8:])
            outline = style.element.find(f"{W}pPr/{W}outlineLvl")
            level = outline.get(f"{W}val", "") if outline is not None else ""
            if level.isdecimal() and int(level) < 9:
                return int(level) + 1
            style = style.base_style
        return None


def _parts(document: Any) -> list[tuple[str, Any]]:
    """(relationship type, root element) of the main part's XML parts in order of appearance; the element is None for others."""
    found = []
    for relationship in document.part.rels.values():
        if relationship.is_external:
            continue
        part = relationship.target_part
        xml = relationship.reltype.rsplit("/", 1)[-1] in ("header", "footer", "footnotes", "endnotes", "comments")
        element = (getattr(part, "element", None) if hasattr(part, "element") else parse_xml(part.blob)) if xml else None
        found.append((relationship.reltype, element))
    return found


def _notes(parts: list[tuple[str, Any]]) -> dict[tuple[str, str], Any]:
    """(kind, id) -> element of each footnote, endnote and comment; separators have a type and are no text."""
    notes = {}
    for kind in ("footnote", "endnote", "comment"):
        for reltype, element in parts:
            if reltype.endswith(f"/{kind}s") and element is not None:
                for note in element.iterchildren(f"{W}{kind}"):
                    if note.get(f"{W}type", "normal") == "normal":
                        notes[kind, note.get(f"{W}id", "")] = note
    return notes


def _margins(parts: list[tuple[str, Any]], kind: str) -> list[str]:
    """The text of each header (or footer), the same text once."""
    texts: dict[str, None] = {}
    for reltype, element in parts:
        if reltype.endswith(f"/{kind}") and element is not None:
            texts[Walk.plain(element)] = None
    return list(texts)
