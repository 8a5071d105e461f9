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

from worker import telemetry
from worker.domain.errors import IngestError, ProviderUnusable, Rejected, Throttled, Unavailable
from worker.domain.provider_headers import wait_of_refusal
from worker.domain.vectors import Vectors
from worker.embed.decoding import LARGEST_HALF, read_answer
from worker.embed.refusals import Kind, Refusal, is_web_page, read_refusal

log = telemetry.get_logger(__name__)

# Code of an ``Unavailable`` that says that the request never left: nothing can have been billed.
UNREACHABLE = "provider_unreachable"

# Exceptions of httpx, by name: the client brings that library under one name or another, by its version.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout"})

# Values of ``encoding_format``, the cheapest first; None leaves the field out. Some servers do not know base64, a few refuse the
# field, and OpenRouter requires it.
_ENCODINGS = ("base64", "float", None)


class TimedOut(Unavailable):
    """No answer came within the time of a request. It may be billed all the same."""


class TextTooLong(Rejected):
    """One of the texts has more tokens than the model takes."""


class RequestTooLarge(Rejected):
    """The request has too many texts (``by_number``), or they are too large together.

    ``most_texts`` is the number of texts that the provider takes, if its answer names one.
    """

    def __init__(self, message: str, by_number: bool, most_texts: int | None = None) -> None:
        super().__init__("embedding_rejected", message)
        self.by_number, self.most_texts = by_number, most_texts
        self.args = (message, by_number, most_texts)


@dataclass(frozen=True, slots=True)
class Model:
    """Which model to ask, and whom.

    ``timeout`` is of one request, in seconds; ``key_variable`` names where the key is set; ``largest`` is the largest number that
    the table of vectors holds.
    """

    name: str
    dimensions: int
    base_url: str | None
    api_key: str = field(repr=False)
    key_variable: str = "OPENAI_API_KEY"
    send_dimensions: bool = False
    timeout: float = 60.0
    largest: float = LARGEST_HALF


@dataclass(frozen=True, slots=True)
class Answer:
    """``vectors``: float32 of shape (texts, dimensions), in their order. ``tokens``: what is billed, None where not said.

    ``unusable`` says by the text's number what is wrong with its vector, which must not be stored.
    """

    vectors: Vectors
    tokens: int | None
    headers: Mapping[str, str]
    unusable: Mapping[int, str] = field(default_factory=dict)


# Reading the certificates takes 25 ms of CPU: threads that begin together must not each make a client of the same kind.
_making = threading.Lock()
# Per (address, model): the encoding that the provider takes, as soon as an answer or a refusal has shown it.
_encodings: dict[tuple[str | None, str], str | None] = {}


@lru_cache(maxsize=8)
def _made(api_key: str, base_url: str | None, timeout: float) -> openai.OpenAI:
    return openai.OpenAI(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0)


def _client(api_key: str, base_url: str | None, timeout: float) -> openai.OpenAI:
    with _making:
        return _made(api_key, base_url, timeout)


def embed(texts: Sequence[str], model: Model) -> Answer:
    """Ask for the texts' vectors in one request, and in another encoding where the provider takes no base64.

    Raises:
        Throttled: the provider asks to wait.
        ProviderUnusable: ``provider_key``, ``provider_quota``, ``provider_model``, ``provider_dimensions``, ``provider_answer``:
            a person must act.
        Unavailable: ``provider_unreachable``: the request did not reach it; ``provider_unavailable``: no answer, or a 5xx, as
            ``TimedOut`` where it took too long; ``provider_answer``: the answer can't be read.
        TextFailed: ``embedding_unusable``: the answer has not one vector per text.
        Rejected: ``embedding_rejected``: the provider refuses one of the texts, as ``TextTooLong`` or ``RequestTooLarge`` where
            it says so.
    """
    if not model.api_key:
        raise ProviderUnusable("provider_key", f"{model.key_variable} is not set, so there is no embedding provider")
    provider = (model.base_url, model.name)
    known = provider in _encodings
    encodings = sorted(_ENCODINGS, key=lambda encoding: known and encoding != _encodings[provider])
    failures: list[tuple[openai.OpenAIError, Refusal | None]] = []
    for encoding in encodings:
        try:
            answer = _post(texts, model, encoding)
        except openai.OpenAIError as error:
            refusal = _refusal(error)
            failures.append((error, refusal))
            # Servers refuse an unknown encoding in many words, so before the first answer any refusal may be about the encoding.
            if refusal is None or not (refusal.kind is Kind.ENCODING or (refusal.kind is Kind.TEXT and not known)):
                break
            continue
        decoded = read_answer(answer.content, len(texts), model.name, model.dimensions, model.largest)
        if failures:
            log.info("the provider takes another encoding", extra={"model": model.name, "encoding": encoding or "none named"})
        _encodings[provider] = encoding
        return Answer(decoded.vectors, decoded.tokens, answer.response.headers, decoded.unusable)
    # Prefer a refusal that is about something else than the encoding: it says more.
    cause, meaning = next((each for each in failures if each[1] is None or each[1].kind is not Kind.ENCODING), failures[0])
    raise _translate(cause, meaning, model, len(texts)) from cause


def _post(texts: Sequence[str], model: Model, encoding: str | None) -> openai.HttpxBinaryResponseContent:
    # ``embeddings.create`` checks the type of each text, which costs as much as the rest of this function, so avoid it.
    return _client(model.api_key, model.base_url, model.timeout).post(
        "/embeddings",
        cast_to=openai.HttpxBinaryResponseContent,
        body={"input": list(texts), "model": model.name}
        | ({} if encoding is None else {"encoding_format": encoding})
        | ({"dimensions": model.dimensions} if model.send_dimensions else {}),
    )


def _refusal(error: openai.OpenAIError) -> Refusal | None:
    """What an answer with another status than 200 means; None where there was no answer."""
    return read_refusal(error.status_code, error.response.text) if isinstance(error, openai.APIStatusError) else None


def _translate(error: openai.OpenAIError, refusal: Refusal | None, model: Model, texts: int) -> IngestError:
    """Turn the client's error into an ``IngestError``. The provider's words may quote the input, so they are not passed on."""
    if refusal is None or not isinstance(error, openai.APIStatusError):
        return _no_answer(error, model)
    status = f"HTTP {error.status_code}"
    match refusal.kind:
        case Kind.THROTTLED:
            return Throttled("the provider asks to wait (HTTP 429)", wait_of_refusal(error.response.headers, time.time()))
        case Kind.QUOTA:
            return ProviderUnusable(
                "provider_quota", f"the provider's quota or credit is used up ({status}): check the account's plan and billing"
            )
        case Kind.KEY if is_web_page(error.response.text):
            return ProviderUnusable(
                "provider_key",
                f"a web page refuses the request ({status}): check OPENAI_BASE_URL, {model.key_variable} and any proxy",
            )
        case Kind.KEY:
            return ProviderUnusable("provider_key", f"the provider refuses {model.key_variable} ({status})")
        case Kind.MODEL:
            return ProviderUnusable(
                "provider_model",
                f"the provider does not know the model {model.name!r} at this address ({status}): check"
                " LEX_INGEST_EMBEDDING_MODEL and OPENAI_BASE_URL",
            )
        case Kind.DIMENSIONS:
            return ProviderUnusable(
                "provider_dimensions",
                f"the provider refuses vectors of {model.dimensions} dimensions ({status}): check LEX_INGEST_EMBEDDING_DIMENSIONS"
                " and LEX_INGEST_EMBEDDING_SEND_DIMENSIONS",
            )
        case Kind.ENCODING:
            return ProviderUnusable(
                "provider_answer", f"the provider refuses to write vectors as base64 and as numbers ({status})"
            )
        case Kind.FAILURE:
            return Unavailable("provider_unavailable", f"the embedding provider answered {status}")
        case Kind.TOO_MANY_TEXTS if texts > 1:
            return RequestTooLarge(f"{texts} texts are too many for one request ({status})", True, refusal.most_texts)
        case Kind.REQUEST_TOO_LARGE if texts > 1:
            return RequestTooLarge(f"the request is too large for the provider ({status})", False)
        case Kind.TEXT_TOO_LONG | Kind.REQUEST_TOO_LARGE:
            return TextTooLong("embedding_rejected", f"a text is too long for the model ({status})")
    return Rejected("embedding_rejected", f"the provider refuses this document's text ({status})")


def _no_answer(error: openai.OpenAIError, model: Model) -> IngestError:
    if type(error.__cause__).__name__ in _NEVER_SENT:
        return Unavailable(UNREACHABLE, f"the embedding provider can't be reached: {type(error.__cause__).__name__}")
    if isinstance(error, openai.APITimeoutError):
        return TimedOut("provider_unavailable", f"the embedding provider did not answer within {model.timeout:g} s")
    return Unavailable("provider_unavailable", f"the embedding provider did not answer: {type(error).__name__}")
