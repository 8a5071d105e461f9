"""XLSX made by XlsxWriter and, where it can't, by hand; CSV and TSV."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from worker.domain.chunking import chunk
from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction, assemble
from worker.extract import ooxml_parts, xlsx_cells
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.registry import detect, extract
from worker.extract.tables import TableWriter
from worker.extract.xlsx_numbers import general, number_format, shown

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


def delimited(folder: Path, text: str | bytes, name: str = "a.csv") -> Extraction:
    path = folder / "file"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return extract(path, name, Limits())


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises((Rejected, NoText)) as caught:
        action()
    return caught.value.code


# Sheets


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


def one_cell(book: Any) -> None:
    book.add_worksheet("S").write("A1", "text")


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


# Ends


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


# Blocks


def long_table(rows: list[list[str]]) -> Extraction:
    builder = BlockBuilder(Limits())
    writer = TableWriter(builder, 1_000_000)
    for row in rows:
        writer.add(list(enumerate(row)))
    writer.finish()
    return builder.finish("x", "x")


def people(count: int) -> list[list[str]]:
    return [["Name", "Born"], *([f"Person number {number}", str(10_000 + number)] for number in range(count))]


def test_each_block_of_a_long_table_begins_with_its_header_and_chunks_are_slices() -> None:
    extraction = long_table(people(2000))
    document = assemble(extraction.blocks)
    pieces = chunk(document)
    assert all(block.text.startswith("Name | Born\nPerson") and len(block.text) < 3100 for block in extraction.blocks)
    assert all("Name | Born" in piece.text for piece in pieces)
    assert all(document.text[piece.char_start : piece.char_end] == piece.text for piece in pieces)
    lines = [line for block in extraction.blocks for line in block.text.split("\n")[1:]]
    assert lines == [" | ".join(row) for row in people(2000)[1:]]


def test_an_added_row_changes_few_chunks() -> None:
    rows = people(3000)
    changed = [*rows[:100], ["Somebody new", "99"], *rows[100:]]
    before, after = ({piece.text for piece in chunk(assemble(long_table(table).blocks))} for table in (rows, changed))
    assert len(before) > 20
    assert len(after - before) <= 4


def test_the_same_row_for_ever_is_cut_too() -> None:
    assert max(len(block.text) for block in long_table([["a", "b"]] * 5000).blocks) <= 3000


@pytest.mark.parametrize(
    ("first", "repeated"),
    [
        (["Country", "2019", "2020"], True),
        (["Country", "2024-01-01", "2024-02-01"], True),
        (["#", "Country", "Value"], True),
        (["x" * 100, "Country", "Value"], False),
        (["France", "12", "13"], False),
        (["TRUE", "a", "b"], False),
    ],
)
def test_a_row_of_labels_is_the_header(first: list[str], repeated: bool) -> None:
    rows = [["Report of the year"], first, *([f"Land {number}", "100 000", "200 000"] for number in range(200))]
    blocks = long_table(rows).blocks
    assert len(blocks) > 1
    assert blocks[1].text.startswith(" | ".join(first)) is repeated


def test_a_second_table_behind_an_empty_row_has_its_own_header(tmp_path: Path) -> None:
    first = "Title\n\nName;Age\n" + "".join(f"Person {number};{number}\n" for number in range(100))
    second = "\nCity;Size\n" + "".join(f"City {number};{number}\n" for number in range(100))
    blocks = tables(delimited(tmp_path, first + second))
    starts = [block.split("\n")[0] for block in blocks]
    assert starts[0] == "Title"
    assert set(starts[1:]) == {"Name | Age", "City | Size"}
    assert not any("Person" in block and "City" in block for block in blocks)


# CSV and TSV


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a,b\n1,2\n", "a | b\n1 | 2"),
        ("a\tb\n1,5\t2,5\n", "a | b\n1,5 | 2,5"),
        ("name;price\nx;1,5\ny;2,5\n", "name | price\nx | 1,5\ny | 2,5"),
        ("a|b\r\n1|2\r\n", "a | b\n1 | 2"),
        ('a,b\n"x, ""y""\nz",2\n', 'a | b\nx, "y" z | 2'),
        ('a,b\n5" pipe,1\n"6 pipe,2\n7,3\n8,4\n', 'a | b\n5" pipe | 1\n"6 pipe | 2\n7 | 3\n8 | 4'),
        ("a,b,c\r1,,3\r,,\r4,5,\r", "a | b | c\n1 |  | 3\n4 | 5"),
        ("sep=;\na;b\n", "a | b"),
        ('sep="\na,b\nc,d', 'sep="\na | b\nc | d'),
        ("\ufeffa,b\n1,2", "a | b\n1 | 2"),
    ],
)
def test_the_delimiter_is_the_one_that_makes_rows_alike(tmp_path: Path, text: str, shown: str) -> None:
    assert tables(delimited(tmp_path, text)) == [shown]


def test_a_file_in_another_encoding_is_read(tmp_path: Path) -> None:
    text = "Straße;Größe\nMüllerstraße in München;fünf Räume\nÖsterreichische Häuser;dreißig Plätze\n"
    extraction = delimited(tmp_path, text.encode("cp1252"))
    assert "Müllerstraße in München | fünf Räume" in tables(extraction)[0]
    assert len(extraction.warnings) == 1
    assert tables(delimited(tmp_path, b"\xff\xfe" + "a,b\n1,2".encode("utf-16-le"))) == ["a | b\n1 | 2"]


@pytest.mark.parametrize(
    ("text", "name", "media_type"),
    [
        ("a,b\n1,2\n", "a.CSV", "text/csv"),
        ("a\tb\n1\t2\n", "a.tsv", "text/tab-separated-values"),
        ("a,b\n1,2\n", "a.txt", "text/plain"),
        ("a,b\n1,2\n", "a", "text/plain"),
        ("One line.\n\nAnother, longer line, of prose.\nThe end", "a.csv", "text/plain"),
        ("one\ntwo\nthree\n", "a.csv", "text/plain"),
        ("a,b", "a.csv", "text/plain"),
    ],
)
def test_text_is_a_table_if_its_name_says_so_and_it_parses_as_rows(tmp_path: Path, text: str, name: str, media_type: str) -> None:
    assert delimited(tmp_path, text, name).media_type == media_type


def test_a_huge_field_is_read_as_text_and_not_lost(tmp_path: Path) -> None:
    text = "a,b\n" + "1,2\n" * 30_000 + f"{'x' * 1_500_000},2\n"
    extraction = delimited(tmp_path, text)
    assert (extraction.media_type, sum(block.text.count("x") for block in extraction.blocks)) == ("text/plain", 1_500_000)


def test_an_unclosed_quote_far_down_loses_no_row(tmp_path: Path) -> None:
    text = "name,number\n" + "row,1\n" * 20_000 + '"broken,2\n' + "last row here,3\n" * 80_000
    blocks = tables(delimited(tmp_path, text))
    assert sum(block.count("last row here | 3") for block in blocks) == 80_000


@pytest.mark.parametrize("text", ["", "\n\n", ",,\n,,\n", " ; \n ; \n"])
def test_rows_without_text_are_empty(tmp_path: Path, text: str) -> None:
    assert code_of(lambda: delimited(tmp_path, text)) == "empty"


def test_binary_data_named_csv_is_a_mismatch(tmp_path: Path) -> None:
    assert code_of(lambda: delimited(tmp_path, bytes(range(256)) * 10)) == "type_mismatch"


def test_a_workbook_is_known_by_its_content(tmp_path: Path) -> None:
    workbook(tmp_path, one_cell)
    assert detect(tmp_path / "file", "a.csv").name == "xlsx"
