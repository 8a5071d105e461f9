"""Divide a whole number among parts, so that nothing is lost and nothing is invented."""

from __future__ import annotations

from collections.abc import Sequence


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Whole shares of ``total`` in proportion to ``weights``; they add up to it exactly, and each is off by less than 1.

    The largest-remainder method (Hamilton's): each part gets its quota rounded down, and what is left goes one by one to the
    largest remainders, of equal ones to the first. Weights that are all 0 count as equal.

    Raises:
        ValueError: something is negative, or there is a total and no part to take it.
    """
    if total < 0 or any(weight < 0 for weight in weights):
        raise ValueError("neither the total nor a weight may be negative")
    if not weights:
        if total:
            raise ValueError(f"{total} can't be divided among no parts")
        return []
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: -(total * weights[index] % whole))
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return shares
