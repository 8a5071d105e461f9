"""Long tables in blocks; CSV and TSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.workbooks import code_of, one_cell, tables, workbook
from worker.domain.chunking import chunk
from worker.domain.text import Extraction, assemble
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.registry import detect, extract
from worker.extract.tables import TableWriter


def delimited(folder: Path, text: str | bytes, name: str = "a.csv") -> Extraction:
    path = folder / "file"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return extract(path, name, Limits())


# Blocks


def long_table(rows: list[list[str]]) -> Extraction:
    builder = BlockBuilder(Limits())
    writer = TableWriter(builder, Limits())
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
        ('a, b\n"x, y", "p, q"\n', "a | b\nx, y | p, q"),
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
