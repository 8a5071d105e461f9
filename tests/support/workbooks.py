"""Workbooks as tests make them: by XlsxWriter and, where it can't, by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction
from worker.extract.blocks import Limits
from worker.extract.registry import extract

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
Change = Callable[[str, bytes], bytes | None]


def as_it_is(name: str, data: bytes) -> bytes:
    return data


def workbook(
    folder: Path,
    fill: Callable[[Any], None],
    change: Change = as_it_is,
    options: dict[str, Any] | None = None,
    limits: Limits | None = None,
) -> Extraction:
    """What is read of a workbook of XlsxWriter whose container was changed entry by entry; None leaves an entry out."""
    whole = io.BytesIO()
    book = xlsxwriter.Workbook(whole, options or {})
    fill(book)
    book.close()
    path = folder / "file"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = change(name, source.read(name))
            if data is not None:
                target.writestr(name, data)
    return extract(path, "file.xlsx", limits or Limits())


def sheet_xml(folder: Path, data: str, shared: str = "", rest: str = "", limits: Limits | None = None) -> Extraction:
    """What is read of a workbook with this content of ``sheetData`` and ``sst``."""
    parts = {
        "[Content_Types].xml": '<Types><Override ContentType="application/vnd.openxmlformats-officedocument.'
        'spreadsheetml.sheet.main+xml" PartName="/xl/workbook.xml"/></Types>',
        "_rels/.rels": f'<Relationships {PACKAGE}><Relationship Id="a" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
        "</Relationships>",
        "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets><sheet name="S" r:id="s"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships {PACKAGE}><Relationship Id="s" Type="{OFFICE}/worksheet" '
        f'Target="/xl/sheet.xml"/><Relationship Id="t" Type="{OFFICE}/sharedStrings" Target="strings.xml"/></Relationships>',
        "xl/sheet.xml": f"<worksheet {MAIN}><sheetData>{data}</sheetData>{rest}</worksheet>",
        "xl/strings.xml": f"<sst {MAIN}>{shared}</sst>",
    }
    path = folder / "file"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return extract(path, "file.xlsx", limits or Limits())


def tables(extraction: Extraction) -> list[str]:
    return [block.text for block in extraction.blocks if block.kind == "table"]


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises((Rejected, NoText)) as caught:
        action()
    return caught.value.code


def one_cell(book: Any) -> None:
    book.add_worksheet("S").write("A1", "text")
