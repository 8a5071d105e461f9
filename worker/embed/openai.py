"""Texts to vectors through the ``openai`` client: any provider that speaks its embeddings API.

The client's own retries are off: only the document's row schedules (DESIGN.md). It asks for base64, which was measured 10 to 30
times cheaper in CPU than JSON numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import openai

from worker.domain.errors import IngestError, ProviderUnusable, Rejected, Throttled, Unavailable
from worker.domain.vectors import Vectors
from worker.embed.decoding import vectors_of
from worker.embed.long_inputs import embed_all
from worker.settings import Settings

_LONGEST_WAIT = 3600.0
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


@lru_cache(maxsize=4)
def _client(api_key: str, base_url: str | None, timeout: float) -> openai.OpenAI:
    return openai.OpenAI(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0)


def embed(texts: Sequence[str], settings: Settings) -> Vectors:
    """Return one vector a text, as float32 of shape (len(texts), settings.embedding_dimensions), in order.

    Raises:
        Throttled: the provider asks to wait.
        ProviderUnusable: ``provider_key``, ``provider_quota``, ``provider_model``, ``provider_dimensions``: a person must act.
        Unavailable: ``provider_unavailable``: no answer, or a 5xx.
        Rejected: ``embedding_rejected``: the provider refuses one of the texts, and not for its length.
    """
    if not settings.openai_api_key:
        raise ProviderUnusable("provider_key", "OPENAI_API_KEY is not set, so there is no embedding provider")
    return embed_all(texts, lambda part: _embed(part, settings), settings.embedding_max_tokens)


def _embed(texts: Sequence[str], settings: Settings) -> Vectors:
    """One request."""
    client = _client(settings.openai_api_key, settings.openai_base_url, settings.embedding_timeout)
    try:
        answer = client.embeddings.with_raw_response.create(
            input=list(texts),
            model=settings.embedding_model,
            dimensions=settings.embedding_dimensions if settings.embedding_send_dimensions else openai.omit,
            encoding_format="base64",
        )
    except openai.OpenAIError as error:
        raise _translate(error, settings) from error
    vectors = vectors_of(answer.content, len(texts))
    if vectors.shape[-1] != settings.embedding_dimensions:
        raise ProviderUnusable(
            "provider_dimensions",
            f"{settings.embedding_model} gave vectors of {vectors.shape[-1]} dimensions, "
            f"LEX_INGEST_EMBEDDING_DIMENSIONS is {settings.embedding_dimensions}",
        )
    return vectors


def _translate(error: openai.OpenAIError, settings: Settings) -> IngestError:
    """The tree's error for the client's. The provider's own text may quote the input, so it is not passed on."""
    if isinstance(error, openai.RateLimitError):
        if error.code in _QUOTA_CODES:
            return ProviderUnusable("provider_quota", "the provider's quota is used up: check the account's plan and billing")
        return Throttled("the provider asks to wait (HTTP 429)", _retry_after(error))
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return ProviderUnusable("provider_key", f"the provider refuses OPENAI_API_KEY (HTTP {error.status_code})")
    if isinstance(error, openai.NotFoundError):
        return ProviderUnusable("provider_model", f"the provider does not know the model {settings.embedding_model!r}")
    if isinstance(error, openai.APIStatusError) and error.status_code < 500 and error.status_code not in (408, 409):
        return Rejected("embedding_rejected", f"the provider refuses this document's text (HTTP {error.status_code})")
    if isinstance(error, openai.APIStatusError):
        return Unavailable("provider_unavailable", f"the embedding provider answered HTTP {error.status_code}")
    return Unavailable("provider_unavailable", f"the embedding provider did not answer: {type(error).__name__}")


def _retry_after(error: openai.RateLimitError) -> float | None:
    """What the provider asks for, in seconds, at most an hour: a slip in a header must not close the gate for years."""
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, _LONGEST_WAIT) if math.isfinite(seconds) and seconds > 0 else None
