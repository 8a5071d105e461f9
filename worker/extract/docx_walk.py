"""The walk over WordprocessingML elements: which element is text, which is structure, which is left out (ISO/IEC 29500-1, 17).

Tracked insertions are read, deletions are not, moved text is read where it was moved to; of alternate content one branch is read;
a field's result is read and its instruction is not. Text boxes, charts and notes are read behind what they hang on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, Any

from worker.extract import docx_graphics
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.docx_chunks import read_chunk
from worker.extract.docx_graphics import R
from worker.extract.docx_inline import ALTERNATE, SKIPPED, branch, inline, is_plain
from worker.extract.docx_numbering import Numbering
from worker.extract.docx_package import Package, warn_once
from worker.extract.docx_styles import Styles, W, number

_P, _TBL, _CHUNK = f"{W}p", f"{W}tbl", f"{W}altChunk"
_TR, _TC = f"{W}tr", f"{W}tc"
_ROW_DELETED, _CELL_DELETED = f"{W}del", f"{W}cellDel"
_PROPERTIES, _ROW_PROPERTIES, _CELL_PROPERTIES = f"{W}pPr", f"{W}trPr", f"{W}tcPr"
_STYLE, _NUMBERING, _OUTLINE, _RUN_PROPERTIES = f"{W}pStyle", f"{W}numPr", f"{W}outlineLvl", f"{W}rPr"
_VALUE, _MERGES = f"{W}val", (f"{W}vMerge", f"{W}hMerge")
_LONGEST_HEADING = 300


@dataclass(frozen=True, slots=True)
class Source:
    """The document that is read. ``notes``: (kind, id) -> element and its part, each taken out when it is read.

    ``read_docx`` adds a document embedded in this one to its blocks; None where this one is embedded itself.
    """

    package: Package
    styles: Styles
    numbering: Numbering
    notes: dict[tuple[str, str], tuple[Any, str]]
    limits: Limits
    read_docx: Callable[[IO[bytes]], None] | None
    # The parts that were read. A second reference to one, also from another note, does not repeat its text.
    seen: set[str] = field(default_factory=set)


class Walk:
    """One walk over one part. ``title`` is the first paragraph in the style Title."""

    def __init__(self, builder: BlockBuilder, source: Source, part: str) -> None:
        self.title: str | None = None
        self._builder = builder
        self._source = source
        self._part = part
        # What a paragraph or table refers to or anchors, to be read behind it: text boxes, references.
        self._pending: list[Any] = []

    def body(self, container: Iterable[Any]) -> None:
        """Read the blocks in an element: a body, a content control, a cell that lays out a page, a text box."""
        for child in container:
            tag = child.tag
            if tag == _P:
                self._paragraph(child)
            elif tag == _TBL:
                self._table(child)
            elif tag == ALTERNATE:
                self.body(branch(child))
            elif tag == _CHUNK:
                self._chunk(child)
            elif tag not in SKIPPED:
                self.body(child)

    def remaining_notes(self) -> None:
        """Read the notes and comments that no paragraph refers to."""
        for key in list(self._source.notes):
            self._note(key)

    @staticmethod
    def plain(element: Any, source: Source, part: str, warn: Callable[[str], None]) -> str:
        """All text in an element of a part, a paragraph a line. Its lists are counted from their start."""
        builder = BlockBuilder(source.limits, for_part=True)
        walk = Walk(builder, replace(source, numbering=source.numbering.afresh(), notes={}, read_docx=None), part)
        walk.body(element)
        for warning in builder.warnings:
            warn(warning)
        return "\n".join(builder.texts)

    def _paragraph(self, paragraph: Any) -> None:
        text = inline(paragraph, self._pending)
        label, level = self._label_and_level(paragraph, text)
        if text and not text.isspace():
            if level is None or len(text) > _LONGEST_HEADING:
                self._builder.add(label + text)
            else:
                if level == 0 and self.title is None:
                    self.title = text
                self._builder.add_heading(level, label + text)
        if self._pending:
            self._behind()

    def _label_and_level(self, paragraph: Any, text: str) -> tuple[str, int | None]:
        """The list number in front of a paragraph, and how deep a heading it is."""
        style_id, outline, numbering = None, None, None
        properties = next(paragraph.iterchildren(_PROPERTIES), None)
        if properties is not None:
            for item in properties.iterchildren(_STYLE, _NUMBERING, _OUTLINE, _RUN_PROPERTIES):
                tag = item.tag
                if tag == _STYLE:
                    style_id = item.get(_VALUE, "")
                elif tag == _NUMBERING:
                    numbering = item
                elif tag == _OUTLINE:
                    outline = number(item.get(_VALUE))
                elif not text and next(item.iterchildren(f"{W}del"), None) is not None:
                    # A paragraph that was deleted whole has no number.
                    return "", None
        style = self._source.styles[style_id]
        level = style.heading if outline is None else outline + 1 if outline < 9 else None
        if numbering is None and style.list_id is None:
            return "", level
        return self._source.numbering.label(style, numbering), level

    def _behind(self) -> None:
        """Read what was met in a paragraph or table: text boxes, then what it refers to, in order."""
        while self._pending:
            pending, self._pending = self._pending, []
            references = []
            for item in pending:
                if isinstance(item, tuple):
                    references.append(item)
                else:
                    self.body(item)
            for key in references:
                if key[0] == "graphic":
                    self._graphic(key[1])
                elif key[0] == "text":
                    self._builder.add(key[1])
                else:
                    self._note(key)

    def _note(self, key: tuple[str, str]) -> None:
        """Read a note or comment; it is read once."""
        element, part = self._source.notes.pop(key, (None, ""))
        if element is not None:
            self._builder.add(self.plain(element, self._source, part, partial(warn_once, self._builder)), "note")

    def _target(self, identity: str) -> str | None:
        """The part that a relationship of this part leads to, None where it was read or does not exist."""
        found = self._source.package.relationships(self._part).get(identity)
        if found is None or found.part in self._source.seen:
            return None
        self._source.seen.add(found.part)
        return found.part

    def _graphic(self, identity: str) -> None:
        part = self._target(identity)
        if part is not None:
            root = self._source.package.root_or_none(part, self._builder)
            self._builder.add("" if root is None else docx_graphics.words(root), "note")

    def _chunk(self, chunk: Any) -> None:
        part = self._target(chunk.get(f"{R}id", ""))
        if part is not None:
            read_chunk(self._source.package.binary(part), self._builder, self._source.read_docx)

    def _table(self, table: Any) -> None:
        rows = list(_rows(table))
        if all(len(cells) < 2 for cells in rows):
            # One column is a frame around ordinary text.
            for cells in rows:
                for cell in cells:
                    self.body(cell)
            return
        plain = is_plain(table)
        self._builder.add("\n".join(filter(None, (self._row(cells, plain) for cells in rows))), "table")
        if self._pending:
            self._behind()

    def _row(self, cells: Iterable[Any], plain: bool) -> str:
        texts = [self._cell(cell, plain) for cell in cells]
        return " | ".join(texts) if any(texts) else ""

    def _cell(self, cell: Any, plain: bool) -> str:
        """The text of a cell on one line; a cell merged into the one above it or beside it repeats nothing."""
        properties = next(cell.iterchildren(_CELL_PROPERTIES), None)
        if properties is not None:
            for merge in properties.iterchildren(*_MERGES):
                if merge.get(_VALUE, "continue") == "continue":
                    return ""
        return " ".join(" ".join(self._lines(cell, plain)).split())

    def _lines(self, container: Any, plain: bool) -> Iterable[str]:
        for child in container:
            tag = child.tag
            if tag == _P:
                text = inline(child, self._pending, plain)
                yield self._label_and_level(child, text)[0] + text if text else ""
            elif tag == _TBL:
                yield from (self._row(cells, plain) for cells in _rows(child))
            elif tag == ALTERNATE:
                yield from self._lines(branch(child), plain)
            elif tag not in SKIPPED:
                yield from self._lines(child, plain)


def _rows(table: Any) -> Iterable[list[Any]]:
    """The cells of each row; rows and cells that a tracked change deletes are left out."""
    for row in _inside(table, _TR):
        if not _deleted(row, _ROW_PROPERTIES, _ROW_DELETED):
            yield [cell for cell in _inside(row, _TC) if not _deleted(cell, _CELL_PROPERTIES, _CELL_DELETED)]


def _deleted(element: Any, properties: str, mark: str) -> bool:
    found = next(element.iterchildren(properties), None)
    return found is not None and next(found.iterchildren(mark), None) is not None


def _inside(element: Any, tag: str) -> Iterable[Any]:
    """The rows of a table, or the cells of a row, through content controls and tracked insertions around them."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag == ALTERNATE:
            yield from _inside(branch(child), tag)
        elif child.tag not in SKIPPED and child.tag != _TBL:
            yield from _inside(child, tag)
