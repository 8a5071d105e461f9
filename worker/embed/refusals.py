"""What a provider's refusal means: its HTTP status, code and words -> one kind. Pure.

OpenAI's API has a status and a code for few of these, and compatible servers use others. So words are read, in this order; the
patterns were collected from the servers' sources and from answers that their users quote:

- OpenAI, Azure: langchain #7054, neo4j-labs/agent-memory #104 ("maximum context length is 8192 tokens"), API reference
  "Create embeddings" (2048 inputs, 300,000 tokens per request).
- vLLM: vllm #19798 ("Please reduce the length of the input"), vectorize-io/hindsight #4165, litellm #39363.
- Text Embeddings Inference: #356, #394 ("must have less than 512 tokens", "32000 characters"), "maximum allowed batch size".
- llama.cpp: #7389, #10030, #12295; llama-box: gpustack #472, #1357, #1359, #1845.
- Ollama: n8n #11144, open-notebook #350. LM Studio: examples #29, bug tracker #546.
- Voyage: aichat #825, latitude-llm #3554. Mistral: semantic-router #297, edgequake-llm #74 (code 3210).
- DashScope: langchain4j #1140, ragflow #589. Gemini: gel #9032, quarkus-langchain4j #1705. SiliconFlow: page-assist #371.
- ``encoding_format``: openai-compatible servers in vllm #5935, open-notebook #610, FastChat #2281.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What is refused, and so what helps."""

    TEXT_TOO_LONG = "text_too_long"
    TOO_MANY_TEXTS = "too_many_texts"
    REQUEST_TOO_LARGE = "request_too_large"
    ENCODING = "encoding"
    KEY = "key"
    QUOTA = "quota"
    MODEL = "model"
    DIMENSIONS = "dimensions"
    THROTTLED = "throttled"
    TEXT = "text"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Refusal:
    """``most_texts`` is the number of texts that a request may have, where TOO_MANY_TEXTS says it."""

    kind: Kind
    most_texts: int | None = None


# Characters of an answer that are read: a validation error may quote the whole input.
_MOST_BODY, _MOST_WORDS = 100_000, 2000
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})

_CODES = {
    "context_length_exceeded": Kind.TEXT_TOO_LONG,
    "string_above_max_length": Kind.TEXT_TOO_LONG,
    "exceed_context_size_error": Kind.TEXT_TOO_LONG,
    "array_above_max_length": Kind.TOO_MANY_TEXTS,
    "max_tokens_per_request": Kind.REQUEST_TOO_LARGE,
    "3210": Kind.TOO_MANY_TEXTS,
    "invalid_api_key": Kind.KEY,
    "model_not_found": Kind.MODEL,
}

# The first that is found counts: "increase the physical batch size" is about a text, "tokens in the batch" about a request.
_WORDS: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for kind, pattern in (
        (Kind.ENCODING, r"base64|encoding[_ ]format"),
        (Kind.TEXT_TOO_LONG, r"too large to process|too many tokens and does not fit|larger than the max(imum)? context"),
        (Kind.REQUEST_TOO_LARGE, r"tokens? per (request|submitted batch)|tokens in (the )?(batch|request)"),
        (Kind.TOO_MANY_TEXTS, r"batch size|too many (inputs|texts|items|documents|elements|instances)|array too long"),
        (Kind.TOO_MANY_TEXTS, r"(at most|max(imum)?:?( of| number of)?) \d+ (requests|inputs|texts|items|documents|instances)"),
        (Kind.TOO_MANY_TEXTS, r"(number of|total) (inputs|texts|items|documents|instances).{0,40}(at most|exceed|maximum|limit)"),
        (Kind.REQUEST_TOO_LARGE, r"(request|payload|entity|body)( entity| payload| body| size)* (is )?too large|size exceeds"),
        (Kind.TEXT_TOO_LONG, r"(maximum|model'?s|available|exceeds?( the)?( maximum)?|with) context (length|size|window)"),
        (Kind.TEXT_TOO_LONG, r"context length (is only|of only)|kv (size|cache)|n_ctx|input length .{0,40}exceed"),
        (Kind.TEXT_TOO_LONG, r"less than \d+ (tokens|characters)|range of input length|maximum input length"),
        (Kind.TEXT_TOO_LONG, r"reduce the length of the (input|prompt|text)"),
        (Kind.TEXT_TOO_LONG, r"(input|text|string|prompt|sequence|content)s?\W{0,3}( is| are| was)? ?too (long|large)"),
        (Kind.TEXT_TOO_LONG, r"maximum allowed token size|exceed\w*.{0,40}(max\w*|limit).{0,20}tokens?|tokens?.{0,40}exceed"),
        (Kind.TEXT_TOO_LONG, r"token (count|limit).{0,60}(supports|exceed|max)"),
        (Kind.DIMENSIONS, r"matryoshka|\bdimensions?\b.{0,60}(not support|support|must|invalid|allowed|unrecognized|unknown)"),
        (Kind.DIMENSIONS, r"(not support|unsupported|unrecognized|unknown|unexpected).{0,60}\bdimensions?\b"),
        (Kind.KEY, r"api[ _-]?key"),
        (Kind.MODEL, r"not support embeddings|model\b.{0,80}(not (exist|found)|does not exist)|no models? (is |are )?loaded"),
    )
)  # fmt: skip
_MOST_TEXTS = re.compile(
    r"(?:larger than|allowed batch size|maximum length|at most|max(?:imum)?(?: of| is)?:?|limit(?: of| is)?|<=|≤)\s*(\d+)",
    re.IGNORECASE,
)


def read_refusal(status: int, body: str) -> Refusal:
    """The kind of a refusal, by the answer's HTTP status and body.

    A text of a document is in none of the results. Where nothing fits, a 5xx is a FAILURE and any other status is about a TEXT.
    """
    codes, said = _said(body[:_MOST_BODY])
    message = said[:_MOST_WORDS]
    if status == 402 or codes & _QUOTA_CODES:
        return Refusal(Kind.QUOTA)
    if status in (401, 403):
        return Refusal(Kind.KEY)
    if status in (404, 405, 410):
        return Refusal(Kind.MODEL)
    if status == 429:
        # One request above a whole minute's tokens (OpenAI) would be refused for ever.
        return Refusal(Kind.REQUEST_TOO_LARGE if "request too large" in message.lower() else Kind.THROTTLED)
    kind = next((_CODES[code] for code in codes if code in _CODES), None)
    if kind is None:
        kind = next((kind for kind, pattern in _WORDS if pattern.search(message)), None)
    if kind is None and status == 413:
        kind = Kind.REQUEST_TOO_LARGE
    if kind is None:
        return Refusal(Kind.FAILURE if status >= 500 or status in (408, 409) else Kind.TEXT)
    most = _MOST_TEXTS.search(message) if kind is Kind.TOO_MANY_TEXTS else None
    return Refusal(kind, int(most[1]) if most else None)


def is_web_page(body: str) -> bool:
    """Whether an answer is HTML: it comes from a proxy, a firewall or a login, and not from an embeddings API."""
    return body[:200].lstrip().lower().startswith(("<!doctype html", "<html", "<head", "<body"))


def _said(body: str) -> tuple[set[str], str]:
    """The codes and the words of a body: ``{"error": {"message", "code", "type"}}`` or one of its variants, else all of it."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return set(), body
    codes: set[str] = set()
    words: list[str] = []
    # Servers write {"error": {…}}, {"error": "…", "error_type": "…"}, {"message": …}, {"detail": …} and lists of these.
    waiting = [answer]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            for name, value in item.items():
                if name in ("code", "type", "error_type", "status") and isinstance(value, str | int):
                    codes.add(str(value).lower())
                elif name in ("message", "msg", "detail", "error", "errors", "reason") and isinstance(value, str):
                    words.append(value)
                elif name in ("detail", "error", "errors") and isinstance(value, list | dict):
                    waiting.append(value)
                elif name == "loc" and isinstance(value, list):
                    # FastAPI names the field that it refuses: ["body", "encoding_format"].
                    words.append(" ".join(str(part) for part in value))
    return codes, " ".join(words)
