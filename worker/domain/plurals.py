"""Counts with their noun, in sentences for people: "1 chunk", "2 chunks"."""

from __future__ import annotations


def plural(number: int, noun: str, many: str | None = None) -> str:
    """Return the number and the noun in its right form. ``many`` is the plural of a noun that takes no plain s: ``queries``."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"
