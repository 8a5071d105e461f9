"""The body of an embeddings answer -> vectors.

Read here and not by the client: its objects for 128 vectors of 1536 numbers cost more than reading them. With orjson and
pybase64: the standard library's modules took a third of what a request costs this process.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pybase64

from worker.domain.errors import ProviderUnusable, TextFailed, Unavailable
from worker.domain.vectors import Vectors
from worker.embed.refusals import is_web_page

# Error code for an answer with status 200 that is not an embeddings answer.
UNREADABLE = "provider_answer"
# The largest number that pgvector's halfvec holds (pgvector README, "Half-Precision Vectors": IEEE 754 half precision).
LARGEST_HALF = 65504.0
# For a column of type ``vector`` pgvector adds up squares in single precision, whose largest number is 3e38.
LARGEST_SINGLE = 1e15
# No request has more tokens: 2048 texts of 1,000,000. A number beyond that is no count, and the ledger's columns end at 2^63.
_MOST_TOKENS = 2_048_000_000
# A vector shorter than this is scaled to length 1: half precision would keep few of its digits, or only zeros.
_SHORT = 0.5


class AnswerUnusable(ProviderUnusable):
    """The provider answered, so the request may be billed, but no such answer can be used: a person must act."""


class VectorsMissing(TextFailed):
    """The answer has more or fewer vectors than the request had texts, so it is unknown which vector is whose."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """``vectors``: float32 of shape (texts, dimensions), in their order. ``tokens``: what is billed, None if not said.

    ``unusable`` says by the text's number what is wrong with its vector, whose row must not be stored.
    """

    vectors: Vectors
    tokens: int | None
    unusable: dict[int, str] = field(default_factory=dict)


def read_answer(body: bytes, count: int, model: str, dimensions: int, largest: float = LARGEST_HALF) -> Decoded:
    """Read the answer to ``count`` texts, asked of a model with ``dimensions``.

    Vectors may come in any order, in base64 (little-endian float32) or as numbers: OpenAI's API reference, "Create embeddings".
    Without ``index`` they are taken in their order. A vector shorter than 0.5 is scaled to length 1: cosine similarity does not
    depend on the length, and halfvec would keep few digits of it, or none.

    Args:
        body: the answer, with status 200.
        count: how many texts were sent.
        model: the model's name, for messages.
        dimensions: how long each vector must be.
        largest: the largest number that the table of vectors holds.

    Raises:
        Unavailable: ``provider_answer``: the body is cut off, or is no embeddings answer.
        ProviderUnusable: ``provider_answer``: the body is a web page; ``provider_dimensions``: a vector has another length.
        TextFailed: ``embedding_unusable``: there is not one vector per text, or the indexes are wrong.
    """
    try:
        answer = _parsed(body)
        items = answer["data"]
        indexes = [item.get("index") for item in items]
        vectors = [_vector(item.get("embedding")) for item in items]
        tokens = _tokens(answer.get("usage"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        if is_web_page(body[:1000].decode(errors="replace")):
            raise AnswerUnusable(
                UNREADABLE, "a web page came instead of an embeddings answer (HTTP 200): check OPENAI_BASE_URL and any proxy"
            ) from None
        raise Unavailable(UNREADABLE, "the provider's answer (HTTP 200) is no embeddings answer: check OPENAI_BASE_URL") from None
    if len(items) != count:
        raise VectorsMissing("embedding_unusable", f"the provider gave {len(items)} vectors for {count} texts")
    if any(index is not None for index in indexes):
        if sorted(index if isinstance(index, int) else -1 for index in indexes) != list(range(count)):
            raise TextFailed(
                "embedding_unusable", f"the provider's {count} vectors have wrong indexes, so it is unknown whose they are"
            )
        vectors = [vector for _, vector in sorted(zip(indexes, vectors, strict=True), key=lambda item: item[0])]
    _refuse_other_lengths(vectors, model, dimensions)
    return _checked(vectors, dimensions, largest, tokens)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        # Servers in Python write NaN and Infinity. JSON does not have them, but Python's json module reads them.
        return json.loads(body)


def _tokens(usage: Any) -> int | None:
    tokens = usage.get("total_tokens", usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and 0 <= tokens <= _MOST_TOKENS else None


def _vector(value: Any) -> Vectors | None:
    if isinstance(value, str):
        return np.frombuffer(pybase64.b64decode(value, validate=True), dtype="<f4")
    if not value:
        return None
    # null within numbers becomes NaN.
    numbers = np.asarray(value, dtype=np.float32)
    if numbers.ndim != 1:
        raise ValueError("a vector is no list of numbers")
    return numbers


def _refuse_other_lengths(vectors: Sequence[Vectors | None], model: str, dimensions: int) -> None:
    lengths = {vector.shape for vector in vectors if vector is not None and vector.size} - {(dimensions,)}
    if lengths:
        raise AnswerUnusable(
            "provider_dimensions",
            f"{model} gave vectors of {next(iter(lengths))[0]} dimensions, and its profile has {dimensions}"
            " (LEX_INGEST_EMBEDDING_DIMENSIONS)",
        )


def _checked(vectors: Sequence[Vectors | None], dimensions: int, largest: float, tokens: int | None) -> Decoded:
    unusable = {number: "it is missing" for number, vector in enumerate(vectors) if vector is None or not vector.size}
    nothing = np.zeros(dimensions, dtype=np.float32)
    whole = np.stack([nothing if vector is None or number in unusable else vector for number, vector in enumerate(vectors)])
    together = whole.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", together, together)
        # No number is larger than its vector's length, so this one sum proves nearly every vector usable.
        doubtful = np.flatnonzero(~((squares >= _SHORT**2) & (squares <= largest**2)))
    for number in doubtful.tolist():
        if number not in unusable:
            fault, together[number] = _scaled(together[number], largest)
            if fault:
                unusable[number] = fault
    return Decoded(together, tokens, unusable)


def _scaled(vector: Vectors, largest: float) -> tuple[str | None, Vectors]:
    """Return what is wrong with a vector, or None; and the vector, scaled to length 1 if it was shorter than ``_SHORT``."""
    numbers = vector.astype(np.float64)
    if not np.isfinite(numbers).all():
        return "it has numbers that are NaN, infinite or null", vector
    if np.abs(numbers).max() > largest:
        kind = "halfvec: a model added with the type `vector` holds more" if largest == LARGEST_HALF else "vector"
        return f"it has numbers above {largest:g}, the most of a column of type {kind}", vector
    length = float(np.linalg.norm(numbers))
    if length == 0:
        return "all its numbers are zero", vector
    return None, (numbers / length).astype(np.float32) if length < _SHORT else vector
