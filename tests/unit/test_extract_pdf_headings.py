"""Which large lines are headings."""

from __future__ import annotations

from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

from tests.support.pdfs import pages, read, texts


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
