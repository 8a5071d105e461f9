"""The walk over WordprocessingML elements: which element is text, which is structure, which is left out (ISO/IEC 29500-1, 17).

Tracked insertions are read, deletions are not; of alternate content one branch is read; a field's result is read and its
instruction is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from worker.domain.text import BlockKind
from worker.extract.blocks import BlockBuilder, Limits

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"

_TEXT = frozenset({f"{W}t", f"{_A}t", f"{_M}t"})
_FIXED = {f"{W}tab": "\t", f"{W}ptab": "\t", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-", f"{_A}br": "\n"}
_BOX = f"{W}txbxContent"
_SKIPPED = frozenset(
    {
        f"{W}{name}"
        for name in ("pPr", "rPr", "tblPr", "tblGrid", "trPr", "tcPr", "sectPr", "sdtPr", "sdtEndPr", "del", "moveFrom")
    }
    | {f"{W}{name}" for name in ("instrText", "delText", "delInstrText", "rt", "footnoteRef", "endnoteRef", "annotationRef")}
)
_REFERENCES = {f"{W}footnoteReference": "footnote", f"{W}endnoteReference": "endnote", f"{W}commentReference": "comment"}
_ALTERNATE = f"{_MC}AlternateContent"
_LONGEST_HEADING = 300


class Walk:
    """One walk over one document. ``title`` is the first paragraph in the style Title."""

    def __init__(self, builder: BlockBuilder, level: Callable[[str], int | None], notes: dict[tuple[str, str], Any]) -> None:
        self.title: str | None = None
        self._builder = builder
        self._level = level
        self._notes = notes
        # What a paragraph or table refers to or anchors, to be read behind it.
        self._boxes: list[Any] = []
        self._cited: list[tuple[str, str]] = []

    def body(self, container: Any) -> None:
        """Read the blocks in an element: a body, a content control, a cell that lays out a page, a text box."""
        for child in container:
            tag = child.tag
            if tag == f"{W}p":
                self._paragraph(child)
            elif tag == f"{W}tbl":
                self._table(child)
            elif tag == _ALTERNATE:
                self.body(_branch(child))
            elif tag not in _SKIPPED and isinstance(tag, str):
                self.body(child)

    def remaining_notes(self) -> None:
        """Read the notes and comments that no paragraph refers to."""
        self._cited.extend(self._notes)
        self._behind()

    @staticmethod
    def plain(element: Any) -> str:
        """All text in an element, a paragraph a line."""
        builder = BlockBuilder(Limits())
        walk = Walk(builder, lambda style: None, {})
        walk.body(element)
        return "\n".join(builder.texts)

    def _paragraph(self, paragraph: Any) -> None:
        text = self._inline(paragraph)
        level = self._heading_level(paragraph)
        if level is None or len(text) > _LONGEST_HEADING:
            self._builder.add(text)
        else:
            if level == 0 and self.title is None:
                self.title = text
            self._builder.add_heading(level, text)
        self._behind()

    def _heading_level(self, paragraph: Any) -> int | None:
        properties = paragraph.find(f"{W}pPr")
        if properties is None:
            return None
        outline = properties.find(f"{W}outlineLvl")
        value = outline.get(f"{W}val", "") if outline is not None else ""
        if value.isdecimal():
            return int(value) + 1 if int(value) < 9 else None
        style = properties.find(f"{W}pStyle")
        return self._level(style.get(f"{W}val", "")) if style is not None else None

    def _behind(self) -> None:
        """Read the text boxes, then the notes, that were met; a note is read once."""
        while self._boxes:
            boxes, self._boxes = self._boxes, []
            for box in boxes:
                self.body(box)
        cited, self._cited = self._cited, []
        for key in cited:
            note = self._notes.pop(key, None)
            if note is not None:
                self._builder.add(self.plain(note), "note")

    def _table(self, table: Any) -> None:
        rows = [list(_inside(row, f"{W}tc")) for row in _inside(table, f"{W}tr") if row.find(f"{W}trPr/{W}del") is None]
        if all(len(cells) < 2 for cells in rows):
            # One column is a frame around ordinary text.
            for cells in rows:
                for cell in cells:
                    self.body(cell)
            return
        kind: BlockKind = "table"
        self._builder.add("\n".join(filter(None, map(self._row, rows))), kind)
        self._behind()

    def _row(self, cells: Iterable[Any]) -> str:
        texts = [self._cell(cell) for cell in cells]
        return " | ".join(texts) if any(texts) else ""

    def _cell(self, cell: Any) -> str:
        """The text of a cell on one line; a cell merged into the one above it repeats nothing."""
        merge = cell.find(f"{W}tcPr/{W}vMerge")
        if merge is not None and merge.get(f"{W}val", "continue") == "continue":
            return ""
        return " ".join(" ".join(self._lines(cell)).split())

    def _lines(self, container: Any) -> Iterable[str]:
        for child in container:
            if child.tag == f"{W}p":
                yield self._inline(child)
            elif child.tag == f"{W}tbl":
                for row in _inside(child, f"{W}tr"):
                    yield self._row(_inside(row, f"{W}tc"))
            elif child.tag == _ALTERNATE:
                yield from self._lines(_branch(child))
            elif child.tag not in _SKIPPED and isinstance(child.tag, str):
                yield from self._lines(child)

    def _inline(self, element: Any) -> str:
        parts: list[str] = []
        self._collect(element, parts)
        return "".join(parts)

    def _collect(self, element: Any, parts: list[str]) -> None:
        for child in element:
            tag = child.tag
            if tag in _TEXT:
                parts.append(child.text or "")
            elif tag in _FIXED:
                parts.append(_FIXED[tag])
            elif tag in _REFERENCES:
                self._cited.append((_REFERENCES[tag], child.get(f"{W}id", "")))
            elif tag == _BOX:
                self._boxes.append(child)
            elif tag == _ALTERNATE:
                self._collect(_branch(child), parts)
            elif tag == f"{_A}p" and parts:
                parts.append("\n")
                self._collect(child, parts)
            elif tag not in _SKIPPED and len(child):
                self._collect(child, parts)


def _inside(element: Any, tag: str) -> Iterable[Any]:
    """The rows of a table, or the cells of a row, through content controls and tracked insertions around them."""
    for child in element:
        if child.tag == tag:
            yield child
        elif child.tag == _ALTERNATE:
            yield from _inside(_branch(child), tag)
        elif child.tag not in _SKIPPED and isinstance(child.tag, str) and child.tag != f"{W}tbl":
            yield from _inside(child, tag)


def _branch(alternate: Any) -> Any:
    """The one branch of alternate content that is read: the first choice with text in it, else the fallback, else the first."""
    branches = list(alternate.iterchildren(f"{_MC}Choice", f"{_MC}Fallback"))
    for branch in branches:
        if next(branch.iter(*_TEXT), None) is not None:
            return branch
    return branches[0] if branches else alternate
