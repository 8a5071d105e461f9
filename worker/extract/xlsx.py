"""XLSX: sheet by sheet, the sheet's name as the heading, then its rows as tables, then its comments and text boxes.

Own code on lxml and zipfile, streamed. Alternatives: openpyxl (kept; makes an object of each cell, leaves text boxes out),
python-calamine (Rust, fast; allocates a sheet's whole rectangle: a 2 KB file with one far cell ends the process).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction
from worker.extract import ooxml, sniff
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.ooxml_parts import Relationship, elements, properties, relationships
from worker.extract.tables import TableWriter
from worker.extract.xlsx_cells import Cells, Merges, S, cell_formats, shared_strings, string, unescaped
from worker.extract.xml_errors import check_memory

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_XDR = "{http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing}"
_THREADED = "{http://schemas.microsoft.com/office/spreadsheetml/2018/threadedcomments}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_RELATION_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
# What Excel allows: to count millions of empty ones costs time and gives nothing.
MAX_ROWS = 1_048_576
_ANCHORS = (f"{_XDR}twoCellAnchor", f"{_XDR}oneCellAnchor", f"{_XDR}absoluteAnchor")


def extract(path: Path, limits: Limits) -> Extraction:
    """Read an XLSX file; a block's page is its sheet's number, from 1. Hidden rows and sheets are read like others.

    Raises:
        Rejected: what ``ooxml.opened`` refuses, ``too_large``, ``too_many_pages``, ``damaged``.
        NoText: ``empty``, or ``needs_ocr`` where sheets hold only images.
    """
    # A sheet's part is read twice: for its merged cells, then for its rows.
    with ooxml.opened(path, 2 * ooxml.MAX_INFLATED) as container:
        return _Workbook(container, limits).read()


class _Workbook:
    def __init__(self, container: ooxml.Container, limits: Limits) -> None:
        self._container = container
        self._limits = limits
        self._builder = BlockBuilder(limits)
        self._images = False
        # A part that several sheets name is read once: a small file must not become a large text.
        self._read: set[str] = set()

    def read(self) -> Extraction:
        main = next((item.part for item in relationships(self._container) if item.kind == "officeDocument" and item.part), None)
        main = main or self._container.names.get("xl/workbook.xml")
        if main is None:
            raise Rejected("damaged", "the container has no workbook")
        parts = relationships(self._container, main)
        sheets, date1904 = self._sheets(main, {item.id: item for item in parts})
        cells = self._cells(parts, date1904)
        missing = [number for number, (_, sheet) in enumerate(sheets, 1) if sheet is None or sheet.part is None]
        for number, (name, sheet) in enumerate(sheets, 1):
            if sheet is not None and sheet.part is not None and sheet.part not in self._read:
                self._read.add(sheet.part)
                self._sheet(number, name, sheet.part, cells)
        if missing:
            self._builder.warn(f"{len(missing)} sheets are not in the file")
        if cells.formulas_without_result:
            self._builder.warn(f"{cells.formulas_without_result} formulas have no stored result")
        if self._builder.empty and (missing or not sheets):
            raise Rejected("damaged", "the workbook's sheets are not in the file")
        if self._builder.empty and self._images:
            raise NoText("needs_ocr", "the sheets hold images and no text")
        title, metadata = properties(self._container)
        return self._builder.finish(sniff.OOXML + "spreadsheetml.sheet", "xlsx", title, len(sheets), metadata)

    def _sheets(self, main: str, parts: dict[str, Relationship]) -> tuple[list[tuple[str, Relationship | None]], bool]:
        """Name and relationship of each sheet in order, and whether dates count from 1904."""
        sheets: list[tuple[str, Relationship | None]] = []
        date1904 = False
        for element in elements(self._container.blocks(main), f"{S}workbookPr", f"{S}sheet"):
            if element.tag == f"{S}workbookPr":
                date1904 = element.get("date1904", "0") in ("1", "true", "on")
                continue
            sheets.append((unescaped(element.get("name", "")), parts.get(element.get(_RELATION_ID, ""))))
            if len(sheets) > self._limits.max_pages:
                raise Rejected("too_many_pages", f"the file has more than {self._limits.max_pages} sheets")
        return sheets, date1904

    def _cells(self, parts: list[Relationship], date1904: bool) -> Cells:
        named = {item.kind: item.part for item in parts if item.part is not None}
        strings, styles = named.get("sharedStrings"), named.get("styles")
        return Cells(
            shared_strings(self._container, strings, self._limits.max_text_chars) if strings else [],
            cell_formats(self._container, styles) if styles else [],
            date1904,
        )

    def _sheet(self, number: int, name: str, part: str, cells: Cells) -> None:
        table = TableWriter(self._builder, self._limits, number)
        previous = None
        for row, found in self._rows(part, cells):
            if previous is None:
                self._heading(number, name)
            elif row != previous + 1:
                table.gap()
            previous = row
            table.add(found)
        table.finish()
        for note in filter(str.strip, self._notes(number, part)):
            if previous is None:
                self._heading(number, name)
                previous = 0
            self._builder.add(note, "note", number)

    def _heading(self, number: int, name: str) -> None:
        """Only above something: the name of an empty sheet is no text, and a new workbook has three."""
        self._builder.leave_headings()
        self._builder.add_heading(1, name, number)

    def _rows(self, part: str, cells: Cells) -> Iterator[tuple[int, list[tuple[int, str]]]]:
        """Number and cells of each row with text in it. What stands behind the rows is not read."""
        merges = Merges(self._container.blocks(part))
        number = 0
        for count, element in enumerate(elements(self._container.blocks(part), f"{S}row", f"{S}sheetData")):
            if count > MAX_ROWS:
                raise Rejected("too_large", f"a sheet has more than {MAX_ROWS} rows")
            if element.tag == f"{S}sheetData":
                return
            given = element.get("r", "")
            number = int(given) if given.isdecimal() and len(given) <= 7 else number + 1
            if len(element) and (found := cells.row(element, number, merges)):
                yield number, found

    def _notes(self, number: int, part: str) -> Iterator[str]:
        try:
            related = [item for item in relationships(self._container, part) if item.part is not None]
            threads = [note for item in related if item.kind == "threadedComment" for note in self._threaded(item)]
            # Beside a thread stands a comment for older programs, with the same text and an explanation.
            answered = {cell for cell, _ in threads}
            comments = [note for item in related if item.kind == "comments" for note in self._comments(item)]
            for cell, text in threads + [note for note in comments if note[0] not in answered]:
                yield f"{cell}: {text}" if text.strip() else ""
            for item in related:
                if item.kind == "drawing":
                    yield from self._drawing(item)
        except etree.XMLSyntaxError as error:
            check_memory(error)
            self._builder.warn(f"the notes of sheet {number} cannot be read")

    def _comments(self, item: Relationship) -> Iterator[tuple[str, str]]:
        for comment in self._elements(item, f"{S}comment"):
            for text in comment.iterchildren(f"{S}text"):
                yield comment.get("ref", ""), string(text)

    def _threaded(self, item: Relationship) -> Iterator[tuple[str, str]]:
        for comment in self._elements(item, f"{_THREADED}threadedComment"):
            yield comment.get("ref", ""), comment.findtext(f"{_THREADED}text", "")

    def _drawing(self, item: Relationship) -> Iterator[str]:
        """The text of each shape or group, then of the charts: their titles and axes. A chart's values stand in the cells."""
        for anchor in self._elements(item, *_ANCHORS):
            self._images = self._images or next(anchor.iter(f"{_XDR}pic"), None) is not None
            yield "\n".join(map(_paragraph, anchor.iter(f"{_A}p")))
        for chart in relationships(self._container, item.part or ""):
            if chart.kind in ("chart", "diagramData"):
                yield "\n".join(
                    [_paragraph(found) for found in self._elements(chart, f"{_A}p", f"{_C}pt") if found.tag == f"{_A}p"]
                )

    def _elements(self, item: Relationship, *tags: str) -> Iterator[Any]:
        if item.part is not None and item.part not in self._read:
            self._read.add(item.part)
            yield from elements(self._container.blocks(item.part), *tags)


def _paragraph(paragraph: Any) -> str:
    """Its text; nothing in the second branch of alternate content, which says the same again."""
    if next(paragraph.iterancestors(_FALLBACK), None) is not None:
        return ""
    return "".join("\n" if node.tag == f"{_A}br" else node.text or "" for node in paragraph.iter(f"{_A}t", f"{_A}br"))
