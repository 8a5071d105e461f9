"""The dialects of OpenAI-compatible servers that differ from OpenAI, one habit at a time. Pure.

A habit refuses a request, or changes the vectors or the form of an answer. The words are those that the servers answer with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.support.provider_vectors import Vector, written

# Characters of the longest text that a model with a short context takes here, and of the largest request.
LONGEST_TEXT, LARGEST_REQUEST = 1500, 30_000

# On a text with the behaviour's ``poison``: the request is answered HTTP 500, is never answered, has one vector too few, or has
# NaN in that text's vector.
POISON = ("poison_500", "poison_hang", "poison_drop", "poison_nan")
_VECTORS = ("zero", "huge", "tiny", "null", "nan")
_FORMS = ("fewer", "noindex", "index0", "floats", "nousage", "dims")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer other than vectors."""

    status: int
    payload: bytes
    content_type: str = "application/json"


def _said(status: int, body: Any) -> Said:
    return Said(status, json.dumps(body).encode())


def _error(status: int, message: str, code: str | None = None) -> Said:
    return _said(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})


_ALWAYS = {
    "402": _error(402, "Insufficient Balance", "invalid_request_error"),
    "401": _error(401, "bad key", "invalid_api_key"),
    "gemini_key": _error(400, "API key not valid. Please pass a valid API key."),
    "403html": Said(403, b"<html>blocked by WAF</html>", "text/html"),
    "html200": Said(200, b"<html>login</html>", "text/html"),
    "text200": Said(200, b"it works"),
    "azure404": _error(404, "The API deployment for this resource does not exist.", "DeploymentNotFound"),
}
# The answer to a request with a text that is too long.
_TOO_LONG = {
    "ctx_openai": _error(400, "Invalid 'input': maximum context length is 512 tokens."),
    "ctx_ollama": _error(400, "the input length exceeds the context length"),
    "ctx_ollama500": _error(500, "the input length exceeds the context length"),
    "ctx_llamacpp": _said(
        500,
        {
            "error": {
                "code": 500,
                "message": "input (1502 tokens) is too large to process. increase the physical batch size "
                "(current batch size: 512)",
                "type": "server_error",
            }
        },
    ),
    "ctx_tei": _said(
        413, {"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 1502", "error_type": "Validation"}
    ),
    "ctx_vllm": _said(
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 512 tokens. However, you requested 1502 tokens in the input for "
            "embedding generation. Please reduce the length of the input.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
}
# The most texts of a request, and the answer to one with more.
_TOO_MANY = {
    "batch10": (
        10,
        _error(
            400,
            "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than 10.: "
            "input.contents",
            "InvalidParameter",
        ),
    ),
    "tei32": (32, _said(413, {"error": "batch size 40 > maximum allowed batch size 32", "error_type": "Validation"})),
    "tei422": (32, _said(422, {"error": "batch size 40 > maximum allowed batch size 32", "error_type": "Validation"})),
    "mistral": (16, _said(400, {"message": "Too many inputs in request, split into more batches.", "code": "3210"})),
}
_TOO_LARGE = {
    "tokens_per_request": _error(
        400, "Invalid 'input': maximum request size is 300000 tokens per request.", "max_tokens_per_request"
    ),
    "voyage_tokens": _said(
        400,
        {
            "detail": "Request to model 'voyage' failed. The max allowed tokens per submitted batch is 120000. Your batch has "
            "121138 tokens after truncation. Please lower the number of tokens in the batch."
        },
    ),
    "nginx413": Said(413, b"<html><h1>413 Request Entity Too Large</h1><hr>nginx</html>", "text/html"),
}
_NO_BASE64 = {
    "nobase64": _said(
        400,
        {
            "object": "error",
            "message": "base64 encoding is not currently supported",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    "nobase64_422": _said(
        422, {"detail": [{"type": "literal_error", "loc": ["body", "encoding_format"], "msg": "Input should be 'float'"}]}
    ),
    # Its words say nothing of the encoding.
    "nobase64_silent": _error(400, "invalid request"),
}

HABITS = (*_ALWAYS, *_TOO_LONG, *_TOO_MANY, *_TOO_LARGE, *_NO_BASE64, *_VECTORS, *_FORMS, *POISON)


def said(habit: str, texts: Sequence[str], encoding: Any, poison: str) -> Said | None:
    """What the habit answers instead of vectors; None: it makes them."""
    if habit in _ALWAYS:
        return _ALWAYS[habit]
    if habit in _TOO_LONG and any(len(text) > LONGEST_TEXT for text in texts):
        return _TOO_LONG[habit]
    if habit in _TOO_MANY and len(texts) > _TOO_MANY[habit][0]:
        return _TOO_MANY[habit][1]
    if habit in _TOO_LARGE and sum(map(len, texts)) > LARGEST_REQUEST:
        return _TOO_LARGE[habit]
    if habit in _NO_BASE64 and encoding == "base64":
        return _NO_BASE64[habit]
    if habit == "poison_500" and any(poison in text for text in texts):
        return _error(500, "The server had an error while processing your request.")
    return None


def kept(habit: str, texts: Sequence[str], poison: str) -> list[int]:
    """The places of the texts that get a vector."""
    places = list(range(len(texts)))
    if habit == "fewer":
        return places[:-1]
    return [place for place in places if poison not in texts[place]] if habit == "poison_drop" else places


def written_vector(habit: str, text: str, place: int, vector: Vector, as_base64: bool, poison: str) -> bytes:
    """The vector of a text as the habit writes it."""
    if habit == "null" and place == 0:
        return b"[" + b",".join([b"null"] * len(vector)) + b"]"
    if habit == "nan" or (habit == "poison_nan" and poison in text):
        vector = np.full_like(vector, np.nan)
    scale = {"zero": 0.0, "huge": 1e6, "tiny": 1e-9}.get(habit, 1.0)
    longer = np.append(vector, np.float32(1)) if habit == "dims" else vector
    return written((longer * np.float32(scale)).astype(np.float32), as_base64 and habit not in ("null", "floats"))


def index(habit: str, place: int) -> bytes:
    """The item's ``index``, with its comma."""
    return b"" if habit == "noindex" else b'"index":%d,' % (0 if habit == "index0" else place)
