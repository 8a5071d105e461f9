"""What a reader sees who turns the pages: paragraphs over page ends, and the pages of their words."""

from __future__ import annotations

from pathlib import Path

import pypdfium2
import pytest

from tests.support.pdfs import book, read, sentence
from worker.domain.chunking import chunk
from worker.domain.text import Block, Extraction, Section, assemble
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.pdf_document import blocks
from worker.extract.pdf_layout import Line


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
