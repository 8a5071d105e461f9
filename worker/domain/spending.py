"""What embedding costs: who had texts embedded, and for how much.

Money is a Decimal in micro-dollars. A price is in dollars for a million tokens, so tokens times price are micro-dollars, and
exactly so: nothing is rounded before it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from worker.domain.apportioning import apportion


class Purpose(StrEnum):
    """What a text was embedded for."""

    DOCUMENT = "document"
    BACKFILL = "backfill"
    QUERY = "query"
    CHECK = "check"  # lex-ingest doctor asks whether the provider is there


@dataclass(frozen=True, slots=True)
class Part:
    """What one document (None: no document) has of a request: texts, and the provider's tokens for them."""

    document_id: UUID | None
    purpose: Purpose
    inputs: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A request that was answered. The tokens of its parts add up to what the provider's ``usage`` says."""

    request_id: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """Texts, tokens, and their money in micro-dollars (None: nothing of it has a price).

    ``unpriced_tokens`` are those of the tokens whose price was not known: the money does not hold them.
    """

    inputs: int = 0
    tokens: int = 0
    micro_dollars: Decimal | None = None
    unpriced_tokens: int = 0

    def __add__(self, other: Spent) -> Spent:
        known = [money for money in (self.micro_dollars, other.micro_dollars) if money is not None]
        return Spent(
            self.inputs + other.inputs,
            self.tokens + other.tokens,
            sum(known, Decimal()) if known else None,
            self.unpriced_tokens + other.unpriced_tokens,
        )


def spent(inputs: int, tokens: int, price: Decimal | None) -> Spent:
    """What these tokens cost. ``price`` is in dollars for a million tokens; None where it is not known."""
    return Spent(inputs, tokens, None, tokens) if price is None else Spent(inputs, tokens, tokens * price)


def divide(tokens: int, inputs: Iterable[tuple[UUID | None, Purpose, int]]) -> tuple[Part, ...]:
    """Divide a request's tokens among the documents whose texts it had.

    ``inputs`` has a (document, purpose, weight) for each text, such as its UTF-8 bytes: the provider tells tokens for the whole
    request only, so a document's share is in proportion, and the sum is exact.

    Raises:
        ValueError: there are tokens and no inputs.
    """
    numbers: dict[tuple[UUID | None, Purpose], tuple[int, int]] = {}
    for document_id, purpose, weight in inputs:
        count, whole = numbers.get((document_id, purpose), (0, 0))
        numbers[document_id, purpose] = (count + 1, whole + weight)
    shares = apportion(tokens, [weight for _, weight in numbers.values()])
    return tuple(
        Part(document_id, purpose, count, share)
        for ((document_id, purpose), (count, _)), share in zip(numbers.items(), shares, strict=True)
    )
