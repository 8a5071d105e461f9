"""OpenAI's rules for a request of embeddings, and the words of its errors. Pure.

Wording, codes and types are those that the API answers with (taken from its error messages as users quote them).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.provider_limits import Refusal

Input = str | list[int]


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None

    @property
    def payload(self) -> bytes:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


@dataclass(frozen=True, slots=True)
class Sizes:
    """What one request may hold."""

    max_inputs: int = 2048
    max_request_tokens: int = 300_000
    max_input_tokens: int = 8192
    poison: str = "\u2620poison"
    too_long_code: str | None = None


def tokens_of(text: Input) -> int:
    """How many tokens an input has here: a token for each four bytes begun, at least one. Real tokenizers are slower."""
    return max(1, len(text) if isinstance(text, list) else (len(text.encode()) + 3) // 4)


def digest_of(text: Input) -> bytes:
    """sha256 of the text, as the chunks' column has it."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else repr(text).encode()).digest()


def inputs_of(body: Any) -> list[Input] | Problem:
    """The inputs of a request: one text, several, one list of tokens, or several."""
    given = body.get("input") if isinstance(body, dict) else None
    if isinstance(given, str) or (isinstance(given, list) and given and all(isinstance(item, int) for item in given)):
        given = [given]
    if not isinstance(given, list) or not given or not all(isinstance(item, str | list) for item in given):
        return invalid_input()
    return given


def check(inputs: Sequence[Input], tokens: Sequence[int], sizes: Sizes) -> Problem | None:
    """The first rule that the request breaks."""
    if len(inputs) > sizes.max_inputs:
        return Problem(
            400,
            f"Invalid 'input': array too long. Expected an array with maximum length {sizes.max_inputs}, "
            f"but got an array with length {len(inputs)} instead.",
            code="array_above_max_length",
            param="input",
        )
    for index, text in enumerate(inputs):
        if not text:
            return Problem(400, f"Invalid 'input[{index}]': input cannot be an empty string.", param=f"input[{index}]")
        if isinstance(text, str) and sizes.poison and sizes.poison in text:
            return invalid_input()
    longest = max(tokens)
    if longest > sizes.max_input_tokens:
        return Problem(
            400,
            f"This model's maximum context length is {sizes.max_input_tokens} tokens, however you requested {longest} tokens "
            f"({longest} in your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
            code=sizes.too_long_code,
        )
    if sum(tokens) > sizes.max_request_tokens:
        message = f"Requested {sum(tokens)} tokens, max {sizes.max_request_tokens} tokens per request"
        return Problem(400, message, "max_tokens_per_request", "max_tokens_per_request")
    return None


def invalid_input() -> Problem:
    """Which input it is, OpenAI does not say here."""
    message = "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
    return Problem(400, message)


def limited(refusal: Refusal, model: str) -> Problem:
    short = "RPM" if refusal.unit == "requests" else "TPM"
    numbers = f"on {refusal.unit} per min ({short}): Limit {refusal.limit}"
    if math.isinf(refusal.wait):
        message = f"Request too large for {model} in organization org-test {numbers}, Requested {refusal.requested}."
    else:
        message = (
            f"Rate limit reached for {model} in organization org-test {numbers}, Used {refusal.used}, "
            f"Requested {refusal.requested}. Please try again in {refusal.wait:.3f}s."
        )
    return Problem(429, message, refusal.unit, "rate_limit_exceeded")


def quota() -> Problem:
    message = "You exceeded your current quota, please check your plan and billing details."
    return Problem(429, message, "insufficient_quota", "insufficient_quota")


def bad_key() -> Problem:
    return Problem(401, "Incorrect API key provided: test.", code="invalid_api_key")


def unknown_model(model: str) -> Problem:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Problem(404, message, code="model_not_found")


def server_error(status: int) -> Problem:
    if status == 503:
        return Problem(503, "The engine is currently overloaded, please try again later.", "server_error")
    return Problem(status, "The server had an error while processing your request.", "server_error")
