"""Texts that are refused for their length are halved, never cut."""

from __future__ import annotations

import pytest

from worker.embed.long_inputs import halves


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("aaaa bbbb", ["aaaa", " bbbb"]),
        ("a" * 21 + " " + "b" * 20, ["a" * 21, " " + "b" * 20]),
        ("漢" * 10, ["漢" * 5, "漢" * 5]),
        ("ab" + " " * 30, ["ab" + " " * 14]),
    ],
)
def test_a_text_is_halved_near_its_middle_and_nothing_but_space_is_lost(text: str, parts: list[str]) -> None:
    assert halves(text) == parts
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
