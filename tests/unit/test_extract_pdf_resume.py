"""Paragraphs over page ends in scripts that have no small letters, and lines of scripts without spaces."""

from __future__ import annotations

import pytest

from worker.extract.pdf_document import blocks
from worker.extract.pdf_layout import Line, paragraphs

CHINESE = "\u4eba\u4eba\u751f\u800c\u81ea\u7531\u5728\u5c0a\u4e25\u548c\u6743\u5229\u4e0a\u4e00\u5f8b\u5e73\u7b49"
JAPANESE = "すべての人間は生まれながらにして自由であり"
KOREAN = "모든 인간은 태어날 때부터 자유로우며 그 존엄과"
ARABIC = "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق وقد"
HEBREW = "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם"
RIGHT_TO_LEFT = (ARABIC, HEBREW)


def lines(*texts: str, top: float, indent: float = 0, width: float | None = None, letter: float = 10) -> list[Line]:
    """Lines of 300 points, the last of them of ``width``; the first is indented."""
    found = []
    for row, text in enumerate(texts):
        length = width if width is not None and row == len(texts) - 1 else 300
        begin = indent if row == 0 else 0
        leftward = "\u0590" < text.strip()[0] < "\u0700"
        left, right = (350 - length, 350 - begin) if leftward else (50 + begin, 50 + length)
        found.append(Line(text, left, top - 12 * row, right, top - 12 * row + letter, letter, letter))
    return found


def count(first: list[Line], second: list[Line]) -> int:
    return len([*blocks({1: first, 2: second}, lambda _: False)])


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, KOREAN, ARABIC, HEBREW])
def test_a_sentence_in_the_middle_of_a_full_line_goes_on_overleaf(text: str) -> None:
    assert count(lines(text, text, top=112), lines(text, text, top=700, width=120)) == 1


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, KOREAN, ARABIC, HEBREW])
def test_a_line_with_room_is_the_last_of_its_paragraph(text: str) -> None:
    assert count(lines(text, text, top=112, width=150), lines(text, text, top=700)) == 2


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, KOREAN, ARABIC, HEBREW])
def test_an_indent_begins_a_paragraph(text: str) -> None:
    assert count(lines(text, text, top=112), lines(text, text, top=700, indent=20)) == 2
    assert count(lines(text, text, top=112), lines(text, top=700, indent=20)) == 2


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (CHINESE, "\u3002"),
        (CHINESE, "\uff01"),
        (CHINESE, "\uff1f\u201d"),
        (CHINESE, "\u2026"),
        (CHINESE, "\uff1a"),
        (JAPANESE, "。」"),
        (KOREAN, "다."),
        (ARABIC, "؟"),
        (ARABIC, "؛"),
        (ARABIC, "۔"),
        (HEBREW, "."),
        (HEBREW, ":"),
    ],
)
def test_a_mark_at_its_end_ends_the_paragraph(text: str, end: str) -> None:
    assert count(lines(text, text + end, top=112), lines(text, text, top=700)) == 2


@pytest.mark.parametrize("end", ["\uff0c", "\u3001"])
def test_a_comma_does_not(end: str) -> None:
    assert count(lines(CHINESE, CHINESE[:-1] + end, top=112), lines(CHINESE, CHINESE, top=700)) == 1


@pytest.mark.parametrize(
    "beginning", ["第三章 " + CHINESE, "一、" + CHINESE, "\u3000\u3000" + CHINESE, "\u2460" + CHINESE, "1. " + CHINESE]
)
def test_a_heading_an_item_and_an_ideographic_space_begin_something_else(beginning: str) -> None:
    assert count(lines(CHINESE, CHINESE, top=112), lines(beginning, CHINESE, top=700)) == 2


def test_one_line_alone_does_not_tell_how_wide_its_column_is() -> None:
    assert count(lines(CHINESE, top=100), lines(CHINESE, CHINESE, top=700)) == 2


def test_a_capital_letter_goes_on_with_nothing() -> None:
    assert count(lines(CHINESE, CHINESE, top=112), lines("Annex A of this law", CHINESE, top=700)) == 2


def test_letters_of_another_size_are_another_text() -> None:
    assert count(lines(CHINESE, CHINESE, top=112), lines(CHINESE, CHINESE, top=700, letter=12)) == 2


def test_chinese_and_japanese_lines_are_joined_without_a_space_and_korean_ones_with_one() -> None:
    assert paragraphs(lines(CHINESE, CHINESE, top=112)) == [CHINESE * 2]
    assert paragraphs(lines(JAPANESE, "PDF と", top=112)) == [f"{JAPANESE} PDF と"]
    assert paragraphs(lines(KOREAN, KOREAN, top=112)) == [f"{KOREAN} {KOREAN}"]
    (block,) = blocks({1: lines(CHINESE, CHINESE, top=112), 2: lines(CHINESE, top=700)}, lambda _: False)
    assert (block.text, block.page_breaks) == (CHINESE * 3, ((2 * len(CHINESE), 2),))


def test_short_chinese_lines_and_cells_of_a_row_stay_apart() -> None:
    names = [
        Line(text, 50, 112 - 12 * row, 50 + width, 122 - 12 * row, 10, 10)
        for row, (text, width) in enumerate([(CHINESE[:4], 40), (CHINESE, 180), (CHINESE[:6], 60)])
    ]
    assert paragraphs(names) == [f"{CHINESE[:4]}\n{CHINESE}{CHINESE[:6]}"]
    row = [Line(CHINESE[:2], left, 100, left + 20, 110, 10, 10) for left in (50, 80)]
    assert paragraphs(row) == [f"{CHINESE[:2]} {CHINESE[:2]}"]


ENDED = "words of a line that is full, and that ends with it."
WIDE = "Words of a line that is as full, and begins with it"


@pytest.mark.parametrize(
    ("first", "second", "blocks_"),
    [
        (lines(WIDE, ENDED, top=112), lines(WIDE, ENDED, top=700), 1),
        (lines(WIDE, ENDED, top=112, width=200), lines(WIDE, ENDED, top=700), 2),
        (lines(WIDE, ENDED, top=112), lines(WIDE, ENDED, top=700, indent=20), 2),
        (lines(WIDE, ENDED, top=112), lines("A heading", top=700, width=60), 2),
        (lines(ENDED, top=112), lines(WIDE, ENDED, top=700), 2),
        (lines(WIDE, ENDED[:-1] + ":", top=112), lines(WIDE, ENDED, top=700), 2),
    ],
)
def test_behind_a_sentence_a_paragraph_goes_on_only_from_a_full_line_to_a_full_line(
    first: list[Line], second: list[Line], blocks_: int
) -> None:
    assert count(first, second) == blocks_


@pytest.mark.parametrize(
    ("beginning", "is_item"), [("it. The rest", False), ("a) item", True), ("iv. item", True), ("12. item", True)]
)
def test_the_last_word_of_a_sentence_is_no_item_of_a_list(beginning: str, is_item: bool) -> None:
    going_on = lines(WIDE, "words that go on with it and are as full as that is", top=112)
    assert count(going_on, lines(beginning, WIDE, top=700)) == (2 if is_item else 1)


def test_how_wide_a_paragraph_is_all_its_pages_say() -> None:
    first = lines(WIDE, "words of a line that are as full as the others are", top=112)
    short = [Line("go on with", 50, 700, 150, 710, 10, 10), Line("purpose broken here", 50, 688, 170, 698, 10, 10)]
    (block,) = blocks({1: first, 2: short}, lambda _: False)
    assert block.text.endswith("go on with\npurpose broken here")
