"""Lines at the edges of few pages: what is a header, a page number, or text that stands there twice."""

from __future__ import annotations

import pytest

from worker.extract.pdf_layout import Line
from worker.extract.pdf_running import separate


def page(header: str, body: str, footer: str) -> list[Line]:
    texts = ((header, 800), (body, 400), (footer, 30))
    return [Line(text, 50, bottom, 50 + 5 * len(text), bottom + 10, 10, 10) for text, bottom in texts if text]


def left(*pages: list[Line]) -> list[list[str]]:
    """What is left of the pages' lines."""
    return [[line.text for line in lines] for lines in separate(dict(enumerate(pages, 1))).bodies.values()]


def test_a_line_on_both_of_two_pages_is_text() -> None:
    found = left(page("Terms of sale", "One", "Sign here"), page("Terms of sale", "Two", "Sign here"))
    assert found == [["Terms of sale", "One", "Sign here"], ["Terms of sale", "Two", "Sign here"]]


@pytest.mark.parametrize("footer", ["{}", "- {} -", "Page {} of 2", "{} / 2"])
def test_numbers_that_count_on_at_the_foot_of_two_pages_are_theirs(footer: str) -> None:
    assert left(page("", "One", footer.format(1)), page("", "Two", footer.format(2))) == [["One"], ["Two"]]


def test_a_number_without_words_may_stand_at_the_top_of_two_pages() -> None:
    assert left(page("1", "One", ""), page("2", "Two", "")) == [["One"], ["Two"]]
    found = left(page("Question 1", "One", ""), page("Question 2", "Two", ""))
    assert found == [["Question 1", "One"], ["Question 2", "Two"]]


def test_the_second_and_third_of_three_pages_have_a_header() -> None:
    found = left(page("", "One", ""), page("Terms of sale", "Two", ""), page("Terms of sale", "Three", ""))
    assert found == [["One"], ["Two"], ["Three"]]
