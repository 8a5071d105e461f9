"""Running headers, footers and page numbers of whole documents."""

from __future__ import annotations

from pathlib import Path

from reportlab.pdfgen.canvas import Canvas

from tests.support.pdfs import book, pages, read, sentence, texts
from worker.domain.text import assemble
from worker.extract.pdf_layout import Line
from worker.extract.pdf_running import separate


def test_a_running_header_is_one_note_and_page_numbers_go(tmp_path: Path) -> None:
    extraction = read(tmp_path, book([sentence(number, 150) for number in range(20)]))
    assert (extraction.page_count or 0) >= 3
    assert texts(extraction, "note") == ["The Annual Report of Everything"]
    assert texts(extraction, "paragraph") == [sentence(number, 150) for number in range(20)]


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
