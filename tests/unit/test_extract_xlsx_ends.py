"""How broken, hostile and empty workbooks end."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from tests.support.workbooks import Change, code_of, one_cell, sheet_xml, workbook
from worker.extract import ooxml_parts, xlsx, xlsx_cells
from worker.extract.blocks import Limits


def cut_sheet(name: str, data: bytes) -> bytes | None:
    return data[: data.index(b"</row>")] if name.endswith("sheet1.xml") else data


def no_sheet(name: str, data: bytes) -> bytes | None:
    return None if name.endswith("sheet1.xml") else data


def no_strings(name: str, data: bytes) -> bytes | None:
    return None if name.endswith("sharedStrings.xml") else data


def doctype(name: str, data: bytes) -> bytes | None:
    return data.replace(b"<sst", b"<!DOCTYPE x [<!ENTITY e 'x'>]><sst") if name.endswith("sharedStrings.xml") else data


def blown_up(name: str, data: bytes) -> bytes | None:
    return data.replace(b"<sheetData>", b"<sheetData>" + b" " * 30_000_000) if name.endswith("sheet1.xml") else data


def endless_row(name: str, data: bytes) -> bytes | None:
    cells = b"".join(b"<c><v>%d</v></c>" % random.randrange(10**9) for _ in range(80_000))
    return data.replace(b"<row ", b"<row>" + cells + b"</row><row ") if name.endswith("sheet1.xml") else data


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (cut_sheet, "damaged"),
        (no_sheet, "damaged"),
        (no_strings, "damaged"),
        (doctype, "forbidden_doctype"),
        (blown_up, "bomb"),
        (endless_row, "too_large"),
    ],
)
def test_a_broken_or_hostile_workbook_has_a_typed_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, code: str
) -> None:
    random.seed(4)
    monkeypatch.setattr(ooxml_parts, "MAX_BETWEEN", 1_000_000)
    assert code_of(lambda: workbook(tmp_path, one_cell, change)) == code


def test_countless_empty_rows_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "MAX_ROWS", 100)

    def empty_rows(count: int) -> Change:
        return lambda name, data: data.replace(b"</row>", b"</row>" + b"<row/>" * count) if name.endswith("sheet1.xml") else data

    assert workbook(tmp_path, one_cell, empty_rows(99)).blocks
    assert code_of(lambda: workbook(tmp_path, one_cell, empty_rows(100))) == "too_large"


def test_one_long_shared_string_in_many_cells_is_too_large_before_it_is_joined(tmp_path: Path) -> None:
    cells = "".join("<c t='s'><v>0</v></c>" for _ in range(16_384))
    limits = Limits(max_text_chars=100_000)
    strings = f"<si><t>{'x' * 30_000}</t></si>"
    assert code_of(lambda: sheet_xml(tmp_path, f"<row>{cells}</row>", strings, limits=limits)) == "too_large"


@pytest.mark.parametrize("strings", ["<si/>" * 40, f"<si><t>{'x' * 700}</t></si>" * 2])
def test_too_many_or_too_long_shared_strings_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strings: str) -> None:
    monkeypatch.setattr(xlsx_cells, "MAX_STRINGS", 30)
    row = "<row><c><v>1</v></c></row>"
    assert code_of(lambda: sheet_xml(tmp_path, row, strings, limits=Limits(max_text_chars=1000))) == "too_large"


def test_a_negative_string_index_names_nothing(tmp_path: Path) -> None:
    assert code_of(lambda: sheet_xml(tmp_path, "<row><c t='s'><v>-1</v></c></row>", "<si><t>x</t></si>")) == "damaged"


def test_a_new_workbook_is_empty_and_one_of_pictures_needs_ocr(tmp_path: Path) -> None:
    # The smallest PNG that XlsxWriter measures.
    image = io.BytesIO(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89\0\0\0\0IEND\xaeB`\x82")
    assert code_of(lambda: workbook(tmp_path, lambda book: book.add_worksheet("Sheet1"))) == "empty"
    pictures = lambda book: book.add_worksheet().insert_image("A1", "a.png", {"image_data": image})  # noqa: E731 # one call
    assert code_of(lambda: workbook(tmp_path, pictures)) == "needs_ocr"


def test_more_sheets_than_pages_allowed_are_refused(tmp_path: Path) -> None:
    fill = lambda book: [book.add_worksheet() for _ in range(3)]  # noqa: E731 # one call
    assert code_of(lambda: workbook(tmp_path, fill, limits=Limits(max_pages=2))) == "too_many_pages"
