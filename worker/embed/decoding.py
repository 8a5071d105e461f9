"""The body of an embeddings answer -> vectors.

Read here and not by the client: its objects for 128 vectors of 1536 numbers cost more than reading them. With orjson and
pybase64: the standard library's modules took a third of what a request costs this process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pybase64

from worker.domain.errors import Unavailable
from worker.domain.vectors import Vectors


def read_answer(body: bytes, count: int) -> tuple[Vectors, int | None]:
    """The vectors of an answer to ``count`` texts, as float32 of shape (count, dimensions), in the order of the texts; and the
    tokens that the provider bills (``usage``), or None where it does not say.

    Vectors may come in any order, in base64 (little-endian float32) or as numbers: OpenAI's API reference, "Create embeddings".

    Raises:
        Unavailable: ``provider_unavailable``: the body is cut off, is no such answer, or has not one sound vector a text.
    """
    try:
        answer = orjson.loads(body)
        data = sorted(answer["data"], key=lambda item: item["index"])
        vectors = [_vector(item["embedding"]) for item in data]
        indexes = [item["index"] for item in data]
        if indexes == list(range(count)):
            together = np.stack(vectors).astype(np.float32, copy=False)
            if np.isfinite(together).all():
                return together, _tokens(answer.get("usage"))
    except (ValueError, TypeError, KeyError):
        raise Unavailable("provider_unavailable", "the provider's answer can't be read") from None
    if len(indexes) == count:
        raise Unavailable("provider_unavailable", "the provider gave vectors that can't be used")
    raise Unavailable("provider_unavailable", f"the provider gave {len(indexes)} vectors for {count} texts")


def _tokens(usage: Any) -> int | None:
    tokens = usage.get("total_tokens", usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and tokens >= 0 else None


def _vector(value: Any) -> Vectors:
    if isinstance(value, str):
        return np.frombuffer(pybase64.b64decode(value, validate=True), dtype="<f4")
    return np.asarray(value, dtype=np.float32)
