"""What a reader sees who turns the pages: running headers, paragraphs over page ends, columns, headings."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pypdfium2
import pytest
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate

from worker.domain.chunking import chunk
from worker.domain.text import Block, Extraction, Section, assemble
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.pdf_columns import column_by_column
from worker.extract.pdf_document import blocks
from worker.extract.pdf_layout import Line
from worker.extract.pdf_running import separate
from worker.extract.registry import extract

Drawing = Callable[[Canvas, int], object]


def read(folder: Path, data: bytes, engine: str = "auto") -> Extraction:
    path = folder / "file"
    path.write_bytes(data)
    return extract(path, "file", Limits(pdf_engine=engine))


def pages(count: int, draw: Drawing) -> bytes:
    """A PDF whose pages, from 1, are drawn by a function."""
    out = io.BytesIO()
    canvas = Canvas(out, A4)
    for number in range(1, count + 1):
        draw(canvas, number)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def book(sentences: list[str], size: float = 10) -> bytes:
    """The sentences as one paragraph each, over as many pages as it takes, with a header and a page number on each."""
    out = io.BytesIO()
    style = ParagraphStyle("body", getSampleStyleSheet()["BodyText"], fontSize=size, leading=1.2 * size)

    def furnish(canvas: Canvas, template: SimpleDocTemplate) -> None:
        canvas.drawString(72, 815, "The Annual Report of Everything")
        canvas.drawCentredString(297, 20, str(template.page))

    template = SimpleDocTemplate(out, pagesize=A4)
    template.build([Paragraph(text, style) for text in sentences], onFirstPage=furnish, onLaterPages=furnish)
    return out.getvalue()


def sentence(number: int, words: int) -> str:
    return f"S{number}begin " + " ".join(f"word{number}x{count}" for count in range(words)) + f" end{number}s."


def texts(extraction: Extraction, kind: str) -> list[str]:
    return [block.text for block in extraction.blocks if block.kind == kind]


def test_a_running_header_is_one_note_and_page_numbers_go(tmp_path: Path) -> None:
    extraction = read(tmp_path, book([sentence(number, 150) for number in range(20)]))
    assert (extraction.page_count or 0) >= 3
    assert texts(extraction, "note") == ["The Annual Report of Everything"]
    assert texts(extraction, "paragraph") == [sentence(number, 150) for number in range(20)]


def test_a_paragraph_over_a_page_end_is_one_block_and_each_of_its_words_has_its_page(tmp_path: Path) -> None:
    extraction = read(tmp_path, book([sentence(0, 2000)]))
    block = next(block for block in extraction.blocks if block.kind == "paragraph")
    assert (block.text, block.page) == (sentence(0, 2000), 1)
    assert [page for _, page in block.page_breaks] == list(range(2, (extraction.page_count or 0) + 1))
    assert all(block.text[offset:].startswith("word0x") for offset, _ in block.page_breaks)
    alone = [texts_of_page(extraction, page) for page in (1, 2)]
    assert block.text.startswith(alone[0])
    assert alone[1] in block.text


def texts_of_page(extraction: Extraction, page: int) -> str:
    """The words that stand on a page by the sections, the header aside."""
    document = assemble(extraction.blocks)
    found = [document.text[part.char_start : part.char_end] for part in document.sections if part.page == page]
    return " ".join(text for text in found if "Annual" not in text).strip()


def test_the_pages_of_a_paragraph_are_those_that_print_it(tmp_path: Path) -> None:
    data = book([sentence(0, 2000)])
    extraction = read(tmp_path, data)
    pdfium = pypdfium2.PdfDocument(data)
    for number in range(1, (extraction.page_count or 0)):
        printed = pdfium[number].get_textpage().get_text_range().split()
        ours = texts_of_page(extraction, number + 1).split()
        assert [word for word in printed if word.startswith("word")] == [word for word in ours if word.startswith("word")]


def test_where_pages_break_changes_no_chunk(tmp_path: Path) -> None:
    sentences = [sentence(number, 170) for number in range(30)]
    narrow, wide = (
        {piece.text for piece in chunk(assemble(read(tmp_path, book(sentences, size)).blocks))} for size in (10, 10.4)
    )
    assert len(narrow) > 8
    assert narrow == wide


def test_a_word_divided_by_a_page_end_is_joined() -> None:
    first = [Line("and this long line of text is full of them as an exam-", 50, 100, 400, 110, 10, 10)]
    second = [Line("ple of them shows", 50, 700, 200, 710, 10, 10), Line("and goes on", 50, 688, 200, 698, 10, 10)]
    (block,) = blocks({1: first, 2: second}, lambda _: False)
    assert block.text.startswith("and this long line of text is full of them as an example of them")
    assert block.page_breaks == ((block.text.index("ple of them"), 2),)


@pytest.mark.parametrize(
    ("ending", "beginning"),
    [
        ("the last line of it ends here, and is full of words.", "lower case"),
        ("a line that ends in the middle of the page's wide text", "Upper case"),
        ("a line that ends in the middle of the page's wide text", "a) the item of a list"),
        ("a short line", "lower case"),
    ],
)
def test_what_does_not_go_on_is_not_joined(ending: str, beginning: str) -> None:
    first = [
        Line("a line as wide as the column of the page is, and more", 50, 112, 330, 122, 10, 10),
        Line(ending, 50, 100, 50 + 5 * len(ending), 110, 10, 10),
    ]
    second = [Line(beginning, 50, 700, 200, 710, 10, 10), Line("and goes on", 50, 688, 150, 698, 10, 10)]
    assert len([*blocks({1: first, 2: second}, lambda _: False)]) == 2


def test_a_footnote_does_not_end_the_paragraph_above_it() -> None:
    def body(text: str, bottom: float) -> Line:
        return Line(text, 50, bottom, 50 + 5 * len(text), bottom + 10, 10, 10)

    first = [
        body("a first line as wide as the column is, with many words,", 300),
        body("and a second one that is as wide and does not end in", 288),
    ]
    note = Line("1 A footnote in small letters.", 50, 100, 150, 107, 7, 7)
    second = [body("the middle of the page but on the next one, with more", 700), body("words.", 688)]
    found = [*blocks({1: [*first, note], 2: second}, lambda _: False)]
    assert [block.page for block in found] == [1, 1]
    assert found[0].text.endswith("with more words.")
    assert found[1].text == "1 A footnote in small letters."


def header(canvas: Canvas, text: str, number: int) -> None:
    canvas.drawString(72, 800, text)
    canvas.drawString(72, 500, f"Body of page {number} that says something else: {'abcdefgh'[number]}.")


def test_headers_of_chapters_stand_once_each(tmp_path: Path) -> None:
    chapters = ["", "One", "One", "One", "Two", "Two", "Two"]
    data = pages(6, lambda canvas, number: header(canvas, f"Chapter {chapters[number]} - {number + 40}", number))
    notes = [(block.text, block.page) for block in read(tmp_path, data).blocks if block.kind == "note"]
    assert notes == [("Chapter One - 41", 1), ("Chapter Two - 44", 4)]


def test_text_that_is_not_repeated_never_goes(tmp_path: Path) -> None:
    data = pages(5, lambda canvas, number: header(canvas, f"Title {'abcdefgh'[number]} of {2017 + number} {7 * number}", number))
    text = assemble(read(tmp_path, data).blocks).text
    for number in range(1, 6):
        assert f"Title {'abcdefgh'[number]} of {2017 + number} {7 * number}" in text


def test_years_of_reports_are_no_page_numbers(tmp_path: Path) -> None:
    data = pages(4, lambda canvas, number: header(canvas, f"Results of {2017 + number}", number))
    text = assemble(read(tmp_path, data).blocks).text
    assert all(f"Results of {2017 + number}" in text for number in range(1, 5))


def test_a_line_repeated_in_the_middle_of_pages_stays(tmp_path: Path) -> None:
    def draw(canvas: Canvas, number: int) -> None:
        for row in range(30):
            canvas.drawString(72, 800 - 25 * row, "Total: none" if row == 15 else f"Row {row} of sheet {'abcd'[number]}{row}.")

    assert assemble(read(tmp_path, pages(3, draw)).blocks).text.count("Total: none") == 3


def test_pages_that_say_nothing_else_keep_it(tmp_path: Path) -> None:
    def draw(canvas: Canvas, _: int) -> None:
        canvas.drawString(72, 700, "FRAGILE")
        canvas.drawString(72, 100, "This side up")

    assert texts(read(tmp_path, pages(4, draw)), "paragraph") == ["FRAGILE", "This side up"] * 4


def test_the_same_number_at_one_place_is_a_cell_of_a_table(tmp_path: Path) -> None:
    def draw(canvas: Canvas, number: int) -> None:
        canvas.drawString(72, 800, "42")
        canvas.drawString(72, 400, f"Something {'abcd'[number]}")

    assert assemble(read(tmp_path, pages(3, draw)).blocks).text.count("42") == 3


def test_roman_page_numbers_go() -> None:
    def body(letter: str) -> Line:
        return Line(f"Something {letter}", 50, 400, 200, 410)

    found = separate({n: [body("abc"[n - 1]), Line(numeral, 290, 20, 300, 30)] for n, numeral in enumerate(("ix", "x", "xi"), 1)})
    assert [len(lines) for lines in found.bodies.values()] == [1, 1, 1]
    assert found.footers == {}


WORDS = "we know that columns of a text which go on and on have lines that are all of one width"


def side(name: str, row: int) -> str:
    return " ".join([name + str(row), *WORDS.split()[row % 5 : row % 5 + 8]])


def test_columns_drawn_in_turns_are_read_one_after_the_other(tmp_path: Path) -> None:
    def draw(canvas: Canvas, _: int) -> None:
        canvas.setFontSize(9)
        canvas.drawString(
            72, 780, "A heading over both of the columns that is long enough to go over the gutter in the middle of it all"
        )
        for row in range(20):
            canvas.drawString(72, 700 - 12 * row, side("left", row))
            canvas.drawString(310, 700 - 12 * row, side("right", row))

    text = assemble(read(tmp_path, pages(1, draw)).blocks).text
    order = [text.index(side(name, row)[:8]) for name in ("left", "right") for row in range(20)]
    assert order == sorted(order)
    assert text.startswith("A heading over both")


def test_a_table_stays_rows(tmp_path: Path) -> None:
    def draw(canvas: Canvas, _: int) -> None:
        for row in range(20):
            canvas.drawString(72, 700 - 14 * row, f"Item {row} of stock")
            canvas.drawString(310, 700 - 14 * row, f"{row}.25 EUR")
            canvas.drawString(450, 700 - 14 * row, f"{row} pieces")

    text = assemble(read(tmp_path, pages(1, draw)).blocks).text
    assert all(f"Item {row} of stock {row}.25 EUR {row} pieces" in text for row in range(20))


def test_columns_in_order_and_rows_of_prose_beside_labels_stay_as_they_are() -> None:
    def line(text: str, left: float, row: int) -> Line:
        return Line(text, left, 700 - 12 * row, left + 5 * len(text), 710 - 12 * row)

    prose = "and this is a line of running text here"
    ordered = [line(prose, left, row) for left in (50, 300) for row in range(12)]
    labelled = [line(text, left, row) for row in range(12) for text, left in (("Label", 50), (prose, 300))]
    assert column_by_column(ordered) is None
    assert column_by_column(labelled) is None


@pytest.mark.parametrize("engine", ["pdfium", "pdfminer"])
def test_a_large_short_line_is_a_heading_of_its_rank(tmp_path: Path, engine: str) -> None:
    def draw(canvas: Canvas, number: int) -> None:
        if number == 1:
            canvas.setFont("Helvetica-Bold", 24)
            canvas.drawString(72, 760, "The whole thing")
        canvas.setFont("Helvetica", 16)
        canvas.drawString(72, 700, f"Part {'abc'[number]}")
        canvas.setFont("Helvetica", 10)
        for row in range(20):
            canvas.drawString(72, 660 - 12 * row, f"Line {row} of the body of part {'abc'[number]}, with many words")

    extraction = read(tmp_path, pages(2, draw), engine)
    assert texts(extraction, "heading") == ["The whole thing", "Part b", "Part c"]
    assert [block.heading_path for block in extraction.blocks if block.kind == "paragraph"] == [
        ("The whole thing", "Part b"),
        ("The whole thing", "Part c"),
    ]


def test_bullets_of_slides_are_no_headings(tmp_path: Path) -> None:
    def draw(canvas: Canvas, number: int) -> None:
        for row in range(6):
            canvas.setFont("Helvetica", 20)
            canvas.drawString(72, 700 - 80 * row, f"Point {row} of {'abcdefgh'[number]}")
            canvas.setFont("Helvetica", 12)
            canvas.drawString(90, 670 - 80 * row, f"which says that {row} and {number} are more than one might think of them")

    assert texts(read(tmp_path, pages(4, draw)), "heading") == []


def test_a_large_sentence_and_a_large_first_letter_are_no_headings(tmp_path: Path) -> None:
    def draw(canvas: Canvas, _: int) -> None:
        canvas.setFont("Helvetica", 24)
        canvas.drawString(72, 760, "Buy it now.")
        canvas.drawString(72, 700, "T")
        canvas.setFont("Helvetica", 10)
        for row in range(20):
            canvas.drawString(90, 600 - 12 * row, "his is a line of the body, with many words in it")

    assert texts(read(tmp_path, pages(1, draw)), "heading") == []


def test_a_block_over_two_pages_is_in_two_sections_that_touch() -> None:
    document = assemble((Block("one two three", page=1, page_breaks=((4, 2), (8, 3))), Block("four", page=3)))
    assert document.sections == (Section(0, 4, 1, None), Section(4, 8, 2, None), Section(8, 19, 3, None))
    assert document.block_starts == (0, 15)
    (whole,) = chunk(document)
    assert (whole.page_start, whole.page_end) == (1, 3)


def test_page_breaks_count_in_the_cleaned_text() -> None:
    builder = BlockBuilder(Limits())
    builder.add(
        "  one\x00 \r\ntwo\x01 three", page=1, page_breaks=[(len("  one\x00 \r\n"), 2), (len("  one\x00 \r\ntwo\x01 "), 3)]
    )
    (block,) = builder.finish("x", "x").blocks
    assert [(block.text[offset:], page) for offset, page in block.page_breaks] == [("two three", 2), ("three", 3)]
