"""Texts to vectors through the ``openai`` client: any provider that speaks its embeddings API.

The client's own retries are off: who waits, and for how long, is decided for all workers together
(``worker.services.asking``). It asks for base64, which was measured 10 to 30 times cheaper in CPU than JSON numbers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import openai

from worker.domain.errors import IngestError, ProviderUnusable, Rejected, Throttled, Unavailable
from worker.domain.provider_headers import wait_of_refusal
from worker.domain.vectors import Vectors
from worker.embed.decoding import read_answer

# Code of an ``Unavailable`` that says that the request never left: nothing can have been billed.
UNREACHABLE = "provider_unreachable"

# Exceptions of httpx, by name: the client brings that library under one name or another, by its version.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout"})
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


@dataclass(frozen=True, slots=True)
class Model:
    """Which model to ask, and whom. ``timeout`` is of one request, in seconds; ``key_variable`` names where the key is set."""

    name: str
    dimensions: int
    base_url: str | None
    api_key: str = field(repr=False)
    key_variable: str = "OPENAI_API_KEY"
    send_dimensions: bool = False
    timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """``vectors``: float32 of shape (texts, dimensions), in their order. ``tokens``: what is billed, None where not said."""

    vectors: Vectors
    tokens: int | None
    headers: Mapping[str, str]


# Reading the certificates takes 25 ms of CPU: threads that begin together must not each make a client of the same kind.
_making = threading.Lock()


@lru_cache(maxsize=8)
def _made(api_key: str, base_url: str | None, timeout: float) -> openai.OpenAI:
    return openai.OpenAI(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0)


def _client(api_key: str, base_url: str | None, timeout: float) -> openai.OpenAI:
    with _making:
        return _made(api_key, base_url, timeout)


def embed(texts: Sequence[str], model: Model) -> Answer:
    """One request: a vector a text.

    Raises:
        Throttled: the provider asks to wait.
        ProviderUnusable: ``provider_key``, ``provider_quota``, ``provider_model``, ``provider_dimensions``: a person must act.
        Unavailable: ``provider_unreachable``: the request did not reach it; ``provider_unavailable``: no answer, or a 5xx.
        Rejected: ``embedding_rejected``: the provider refuses one of the texts.
    """
    if not model.api_key:
        raise ProviderUnusable("provider_key", f"{model.key_variable} is not set, so there is no embedding provider")
    try:
        # Not by ``embeddings.create``: that looks at each text with ``typing``, which costs as much as all else here together.
        answer = _client(model.api_key, model.base_url, model.timeout).post(
            "/embeddings",
            cast_to=openai.HttpxBinaryResponseContent,
            body={"input": list(texts), "model": model.name, "encoding_format": "base64"}
            | ({"dimensions": model.dimensions} if model.send_dimensions else {}),
        )
    except openai.OpenAIError as error:
        raise _translate(error, model) from error
    vectors, tokens = read_answer(answer.content, len(texts))
    if vectors.shape[-1] != model.dimensions:
        raise ProviderUnusable(
            "provider_dimensions",
            f"{model.name} gave vectors of {vectors.shape[-1]} dimensions, and its profile has {model.dimensions}"
            " (LEX_INGEST_EMBEDDING_DIMENSIONS)",
        )
    return Answer(vectors, tokens, answer.response.headers)


def _translate(error: openai.OpenAIError, model: Model) -> IngestError:
    """The tree's error for the client's. The provider's own text may quote the input, so it is not passed on."""
    if isinstance(error, openai.RateLimitError):
        if error.code in _QUOTA_CODES:
            return ProviderUnusable("provider_quota", "the provider's quota is used up: check the account's plan and billing")
        return Throttled("the provider asks to wait (HTTP 429)", wait_of_refusal(error.response.headers, time.time()))
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return ProviderUnusable("provider_key", f"the provider refuses {model.key_variable} (HTTP {error.status_code})")
    if isinstance(error, openai.NotFoundError):
        return ProviderUnusable("provider_model", f"the provider does not know the model {model.name!r}")
    if isinstance(error, openai.APIStatusError) and error.status_code < 500 and error.status_code not in (408, 409):
        return Rejected("embedding_rejected", f"the provider refuses this document's text (HTTP {error.status_code})")
    if isinstance(error, openai.APIStatusError):
        return Unavailable("provider_unavailable", f"the embedding provider answered HTTP {error.status_code}")
    if type(error.__cause__).__name__ in _NEVER_SENT:
        return Unavailable(UNREACHABLE, f"the embedding provider can't be reached: {type(error.__cause__).__name__}")
    return Unavailable("provider_unavailable", f"the embedding provider did not answer: {type(error).__name__}")
