"""Columns that are read one after the other, and tables that are not."""

from __future__ import annotations

from pathlib import Path

from reportlab.pdfgen.canvas import Canvas

from tests.support.pdfs import pages, read
from worker.domain.text import assemble
from worker.extract.pdf_columns import column_by_column
from worker.extract.pdf_layout import Line

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
