"""DOCX: all text that a reader of the document sees, in document order.

lxml (BSD, C) reads the parts, one at a time and only those with text; python-docx (MIT, kept) reads the styles. python-docx's own
paragraphs leave out text boxes, notes, content controls, comments and list numbers (issue 4: 48% of the words of 97 files), and
it opens every part and picture. Alternatives: docx2txt (one flat string), mammoth (to HTML, at 40 times the CPU).

Text formatted as hidden is read: whoever shows it sees it, and a search for it should lead to the document.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import IO, Any

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction, Metadata
from worker.extract import sniff
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.docx_numbering import Numbering
from worker.extract.docx_package import Package, open_package, warn_once
from worker.extract.docx_styles import Styles, W
from worker.extract.docx_walk import Source, Walk
from worker.extract.ooxml_properties import title_and_metadata

_NOTES = ("footnote", "endnote", "comment")


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a DOCX file: headers, body, then footers; notes and comments behind the paragraph that refers to them.

    Raises:
        Rejected: what ``open_package`` refuses, ``too_large``, ``damaged``, ``memory``.
        NoText: ``empty``, or ``needs_ocr`` where there are only images.
    """
    builder = BlockBuilder(limits)
    try:
        with open_package(path) as package:
            title, metadata = _read(package, builder, limits)
            if builder.empty and package.related("image"):
                raise NoText("needs_ocr", "the document holds images and no text")
    except RecursionError:
        raise Rejected("damaged", "the document's elements are nested too deep") from None
    return builder.finish(sniff.OOXML + "wordprocessingml.document", "docx", title, metadata=metadata)


def _read(package: Package, builder: BlockBuilder, limits: Limits, embedded: bool = False) -> tuple[str | None, Metadata]:
    """Add all text of a document to the builder; title and metadata. An embedded one reads no documents embedded in it."""
    styles = Styles(next(map(package.xml, package.related("styles")), None))
    lists = _beside(package, "numbering", builder)
    source = Source(
        package,
        styles,
        Numbering(lists[0][1] if lists else None, styles),
        _notes(package, builder),
        limits,
        None if embedded else lambda file: _read_embedded(file, builder, limits),
    )
    walk = Walk(builder, source, package.main)
    for text in _margins(package, "header", source, builder):
        builder.add(text, "note")
    walk.body(package.body(f"{W}body"))
    walk.remaining_notes()
    builder.leave_headings()
    for text in _margins(package, "footer", source, builder):
        builder.add(text, "note")
    if source.numbering.cut:
        builder.warn("long labels of list items were cut")
    cores = [part for part in package.related("core-properties", "") if part.lower().endswith(".xml")]
    title, metadata = title_and_metadata(
        package.root_or_none(cores[0], builder) if cores else None, _language(package, styles, builder)
    )
    return title or walk.title, metadata


def _read_embedded(file: IO[bytes], builder: BlockBuilder, limits: Limits) -> None:
    with open_package(file) as package:
        _read(package, builder, limits, embedded=True)


def _language(package: Package, styles: Styles, builder: BlockBuilder) -> str | None:
    """The language that the text is in unless a run says another: of the default style, else of the theme's fonts."""
    if styles.language:
        return styles.language
    for _, settings in _beside(package, "settings", builder):
        fonts = next(settings.iterchildren(f"{W}themeFontLang"), None)
        return fonts.get(f"{W}val") if fonts is not None else None
    return None


def _beside(package: Package, kind: str, builder: BlockBuilder) -> list[tuple[str, Any]]:
    """(name, root element) of the main part's parts of a kind; one that is broken leaves a warning and not its text."""
    found = [(part, package.root_or_none(part, builder)) for part in package.related(kind)]
    return [(part, root) for part, root in found if root is not None]


def _notes(package: Package, builder: BlockBuilder) -> dict[tuple[str, str], tuple[Any, str]]:
    """(kind, id) -> element and part of each footnote, endnote and comment; separators have a type and are no text."""
    notes = {}
    for kind in _NOTES:
        for part, root in _beside(package, f"{kind}s", builder):
            for note in root.iterchildren(f"{W}{kind}"):
                if note.get(f"{W}type", "normal") == "normal":
                    notes[kind, note.get(f"{W}id", "")] = (note, part)
    return notes


def _margins(package: Package, kind: str, source: Source, builder: BlockBuilder) -> list[str]:
    """The text of each header (or footer), the same text once."""
    roots = _beside(package, kind, builder)
    return list(dict.fromkeys(Walk.plain(root, source, part, partial(warn_once, builder)) for part, root in roots))
