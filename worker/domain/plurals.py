"""Counts in sentences for people: "1 chunk", "2 chunks"."""

from __future__ import annotations


def plural(number: int, noun: str, many: str | None = None) -> str:
    """The number and the noun in its right form. ``many`` is for nouns whose plural is not formed with an s: query, queries."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"
