"""The test provider's vectors: which one a text has, and how it is written. Each is made once and kept."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Any

import numpy as np

Vector = np.ndarray[Any, np.dtype[np.float32]]

WAYS = ("words", "table")
_TABLE = 256
# Bytes of written vectors that are kept; a full store is emptied.
_KEPT = 64_000_000


@lru_cache(maxsize=4096)
def _word(word: str, dimensions: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimensions)


def vector_of(text: str, dimensions: int) -> Vector:
    """A unit vector that depends on the words: texts that share words are near each other."""
    total = np.zeros(dimensions, dtype=np.float64)
    for word in text.casefold().split():
        total += _word(word.strip(".,;:!?"), dimensions)
    vector: Vector = (total / (np.linalg.norm(total) or 1.0)).astype(np.float32)
    return vector


@lru_cache(maxsize=4)
def _table(dimensions: int) -> Vector:
    rows = np.random.default_rng(7).standard_normal((_TABLE, dimensions))
    table: Vector = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return table


def table_vector_of(digest: bytes, dimensions: int) -> Vector:
    """One of 256 unit vectors at random, which the text's sha256 decides: costs nothing, and means nothing."""
    vector: Vector = _table(dimensions)[digest[0]]
    return vector


def written(vector: Vector, as_base64: bool) -> bytes:
    """The vector as JSON: base64 of little-endian float32, or a list of numbers. NaN is written as Python's json does."""
    if as_base64:
        return b'"' + base64.b64encode(vector.astype("<f4").tobytes()) + b'"'
    return b"[" + ",".join("NaN" if number != number else f"{number:.9g}" for number in vector.tolist()).encode() + b"]"


class Writer:
    """Gives a text's vector as JSON, and remembers it."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, int, bool], bytes] = {}
        self._bytes = 0

    def vector(self, way: str, text: str, digest: bytes, dimensions: int) -> Vector:
        return vector_of(text, dimensions) if way == "words" else table_vector_of(digest, dimensions)

    def written(self, way: str, text: str, digest: bytes, dimensions: int, as_base64: bool) -> bytes:
        key = (digest if way == "words" else digest[0], dimensions, as_base64)
        found = self._kept.get(key)
        if found is None:
            found = written(self.vector(way, text, digest, dimensions), as_base64)
            if self._bytes + len(found) > _KEPT:
                self._kept.clear()
                self._bytes = 0
            self._kept[key] = found
            self._bytes += len(found)
        return found
