"""What is read of a sound workbook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from tests.support.workbooks import one_cell, sheet_xml, tables, workbook
from worker.domain.text import assemble
from worker.extract.xlsx_numbers import general, number_format, shown


def test_each_sheet_is_a_section_under_its_name_hidden_or_not(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        first = book.add_worksheet("Umsätze & 'Ziele' 🙂")
        first.write_row("A1", ["Name", "Amount"])
        first.write_row("A2", ["Rent", 12.5])
        first.set_row(1, None, None, {"hidden": True})
        book.add_worksheet("Empty")
        third = book.add_worksheet("Secret")
        third.write("B2", "found")
        third.very_hidden()
        book.set_properties({"title": "Budget", "author": "Ann"})

    extraction = workbook(tmp_path, fill)
    assert [(block.text, block.kind, block.page, block.heading_path) for block in extraction.blocks] == [
        ("Umsätze & 'Ziele' 🙂", "heading", 1, ()),
        ("Name | Amount\nRent | 12.5", "table", 1, ("Umsätze & 'Ziele' 🙂",)),
        ("Secret", "heading", 3, ()),
        ("found", "table", 3, ("Secret",)),
    ]
    assert (extraction.title, extraction.metadata.author, extraction.page_count) == ("Budget", "Ann", 3)
    assert (extraction.metadata.created or "").startswith("20")
    assert [(section.page, section.heading) for section in assemble(extraction.blocks).sections] == [
        (1, "Umsätze & 'Ziele' 🙂"),
        (3, "Secret"),
    ]


@pytest.mark.parametrize("date1904", [False, True])
def test_dates_times_and_percentages_are_shown_as_such_in_both_date_systems(tmp_path: Path, date1904: bool) -> None:
    formats = ["dd/mm/yy", '[$-409]d "day" mmmm', "h:mm AM/PM", "yyyy-mm-dd hh:mm:ss", "0.0%", '0 "days"', "#,##0.00", "General"]

    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        for column, code in enumerate(formats):
            sheet.write_number(0, column, 43831.75, book.add_format({"num_format": code}))

    extraction = workbook(tmp_path, fill, options={"date_1904": date1904})
    day = "2024-01-02" if date1904 else "2020-01-01"
    assert tables(extraction) == [f"{day} | {day} | 18:00 | {day} 18:00:00 | 4383175.0% | 43831.75 | 43831.75 | 43831.75"]


def test_values_of_each_kind_are_read_as_the_sheet_shows_them(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        sheet.write_boolean(0, 0, True)
        sheet.write_formula(0, 1, "=1/0", None, "#DIV/0!")
        sheet.write_formula(0, 2, '="a"&"b"', None, "ab")
        sheet.write_number(0, 3, 0.1 + 0.2)
        sheet.write_number(0, 4, 490123456789)
        sheet.write_url(0, 5, "https://example.org", string="a link")
        sheet.write_string(0, 6, "two\nlines\x07")

    assert tables(workbook(tmp_path, fill)) == ["TRUE | #DIV/0! | ab | 0.3 | 490123456789 | a link | two lines"]


def test_strings_are_read_run_by_run_and_without_phonetic_hints(tmp_path: Path) -> None:
    runs = "<r><t>課</t></r><r><rPr><b/></rPr><t xml:space='preserve'>長 </t></r>"
    rich = f"{runs}<rPh sb='0' eb='1'><t>カチョウ</t></rPh><phoneticPr/>"
    row = (
        "<row r='1'><c r='A1' t='s'><v>0</v></c><c r='B1' t='inlineStr'><is><r><t>in</t></r><r><t>line</t></r></is></c>"
        "<c t='str'><f>X()</f><v>a_x000D_b _x005F_x0041_</v></c><c t='d'><v>2024-05-01T00:00:00</v></c></row>"
    )
    assert tables(sheet_xml(tmp_path, row, f"<si>{rich}</si>")) == ["課長 | inline | a b _x0041_ | 2024-05-01"]


def test_a_merged_range_shows_its_first_cell_only(tmp_path: Path) -> None:
    rows = "".join(
        f"<row r='{row}'>" + "".join(f"<c r='{letter}{row}' t='str'><v>{letter}{row}</v></c>" for letter in "ABC") + "</row>"
        for row in (1, 2, 3)
    )
    merged = "<mergeCells count='2'><mergeCell ref='A1:B2'/><mergeCell ref='C2:C3'/></mergeCells>"
    assert tables(sheet_xml(tmp_path, rows, rest=merged)) == ["A1 |  | C1\n|  | C2\nA3 | B3"]


def test_far_cells_cost_nothing(tmp_path: Path) -> None:
    far = "<row r='1'><c r='A1'><v>1</v></c><c r='XFD1'><v>2</v></c></row><row r='1048576'><c r='XFD1048576'><v>3</v></c></row>"
    assert tables(sheet_xml(tmp_path, far)) == ["1 | 2\n| 3"]


def test_many_far_cells_stay_small(tmp_path: Path) -> None:
    letters = [xlsxwriter.utility.xl_col_to_name(column) for column in range(0, 16_384, 3)]
    full = "<row r='1'>" + "".join(f"<c r='{letter}1'><v>1</v></c>" for letter in letters) + "</row>"
    far = "".join(f"<row r='{row}'><c r='XFD{row}'><v>7</v></c></row>" for row in range(2, 500))
    assert sum(map(len, tables(sheet_xml(tmp_path, full + far)))) < 40_000


def test_cells_without_or_with_impossible_references_keep_their_order(tmp_path: Path) -> None:
    row = "<row><c t='str'><v>a</v></c><c r='ZZZZZ99999999999' t='str'><v>b</v></c><c t='str'><v>c</v></c></row>"
    assert tables(sheet_xml(tmp_path, row)) == ["a | b | c"]


def test_comments_and_text_boxes_are_notes_behind_the_rows(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet("Plan")
        sheet.write("A1", "cell")
        sheet.write_comment("B2", "Is it so?", {"author": "A"})
        sheet.insert_textbox("D4", "In a box")
        chart = book.add_chart({"type": "line"})
        chart.add_series({"values": "=Plan!$A$1:$A$1"})
        chart.set_title({"name": "Growth of all"})
        sheet.insert_chart("F6", chart)

    extraction = workbook(tmp_path, fill)
    assert [(block.text, block.kind) for block in extraction.blocks if block.kind != "heading"] == [
        ("cell", "table"),
        ("B2: Is it so?", "note"),
        ("In a box", "note"),
        ("Growth of all", "note"),
    ]


def test_broken_notes_leave_the_rows(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        sheet.write("A1", "cell")
        sheet.write_comment("B2", "gone")

    extraction = workbook(tmp_path, fill, lambda name, data: data[:60] if "comments" in name else data)
    assert (tables(extraction), extraction.warnings) == (["cell"], ("the notes of sheet 1 cannot be read",))


def test_formulas_that_were_never_computed_are_told(tmp_path: Path) -> None:
    rows = "<row r='1'><c r='A1' t='str'><v>sum</v></c><c r='B1'><f>SUM(C1:C9)</f></c></row>"
    assert sheet_xml(tmp_path, rows).warnings == ("1 formulas have no stored result",)


def test_macros_templates_and_strict_namespaces_are_read(tmp_path: Path) -> None:
    def strict(name: str, data: bytes) -> bytes:
        data = data.replace(
            b"vnd.openxmlformats-officedocument.spreadsheetml.sheet.main", b"vnd.ms-excel.sheet.macroEnabled.main"
        )
        for part in (b"officeDocument", b"spreadsheetml"):
            old = b"http://schemas.openxmlformats.org/" + part + b"/2006/"
            data = data.replace(old, b"http://purl.oclc.org/ooxml/" + part + b"/")
        return data

    assert tables(workbook(tmp_path, one_cell, strict)) == ["text"]


# Numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (1 / 3, "0.333333333"),
        (-2.5, "-2.5"),
        (1234.56789012, "1234.56789"),
        (123456789012345.0, "123456789012345"),
        (98765432101.25, "98765432101.25"),
        (1e15, "1E+15"),
        (1.5e-7, "1.5E-07"),
        (0.000123, "0.000123"),
        (-0.0, "0"),
    ],
)
def test_a_plain_number_looks_as_in_general_format(value: float, text: str) -> None:
    assert general(value) == text


@pytest.mark.parametrize(
    ("code", "value", "text"),
    [
        ("d/m/yyyy;@", 1, "1900-01-01"),
        ("d/m/yyyy", 59, "1900-02-28"),
        ("d/m/yyyy", 60, "1900-02-29"),
        ("d/m/yyyy", 61, "1900-03-01"),
        ("d/m/yyyy", 2958465, "9999-12-31"),
        ("d/m/yyyy", 2958466, "2958466"),
        ("d/m/yyyy", -1, "-1"),
        ("mmm yy", 43831, "2020-01-01"),
        ("[$-411]ggge\u5e74m\u6708d\u65e5", 43831, "2020-01-01"),
        ("[h]:mm:ss", 1.5, "36:00:00"),
        ("mm:ss.0", 0.00001, "00:00:00.864"),
        ("d.m.yy h:mm", 43831.9999999, "2020-01-02 00:00"),
        ("0.00%;[Red]-0.00%", 0.12345, "12.35%"),
        ("0%", 0.125, "13%"),
        ("0.0%", -0.0725, "-7.3%"),
        ("0%", 0.1249, "12%"),
        ("[Red]0.00", 1.5, "1.5"),
        ('"d/m/y" 0', 7, "7"),
        ("0.00E+00", 1200, "1200"),
        ("@", 7, "7"),
    ],
)
def test_a_format_decides_whether_a_number_is_a_date(code: str, value: float, text: str) -> None:
    assert shown(value, number_format(164, code), date1904=False) == text


def test_builtin_formats_need_no_code() -> None:
    values = [shown(43831.5, number_format(identifier, None), False) for identifier in (0, 10, 14, 20, 22)]
    assert values == ["43831.5", "4383150.00%", "2020-01-01", "12:00", "2020-01-01 12:00"]
