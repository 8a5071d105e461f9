"""Ask a profile's provider: within the account's limits and the budget, and with every request on the ledger.

A throttled or failed request is repeated here for a while, at the cost of nobody's attempt; what lasts longer is the caller's to
raise, and the document's row to schedule. Nothing is sent that was not announced, and announced is what may still be billed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from worker import telemetry
from worker.domain.errors import IngestError, ProviderUnusable, Rejected, TextFailed, Throttled, Unavailable
from worker.domain.spending import Answer as Charge
from worker.domain.spending import Purpose, divide
from worker.domain.vectors import Vectors
from worker.embed import openai
from worker.embed.decoding import LARGEST_HALF, LARGEST_SINGLE, UNREADABLE, AnswerUnusable, VectorsMissing
from worker.embed.long_inputs import embed_all
from worker.embed.openai import UNREACHABLE, Answer, Model, TimedOut
from worker.embed.prices import price_of
from worker.embed.rate_limit import RateLimiter, Reservation
from worker.embed.request_size import RequestSizer
from worker.services import spending
from worker.setting_values import Provider
from worker.settings import Settings
from worker.store import spending as ledger
from worker.store.profiles import Profile
from worker.store.session import statements, transaction

log = telemetry.get_logger(__name__)


# OpenAI's limits of one request are 2048 inputs and 300,000 tokens (API reference, "Create embeddings"). No tokenizer gives more
# tokens than a text has UTF-8 bytes, so a bound in bytes errs on the safe side.
MOST_INPUTS, MOST_BYTES = 2048, 290_000


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is repeated: ``seconds`` in all, and ``failures`` in a row that are no refusal to wait.

    ``timeout`` is how many seconds one request may take, where that is less than LEX_INGEST_EMBEDDING_TIMEOUT.
    """

    seconds: float
    failures: int
    timeout: float = float("inf")


# A document can wait, since its lease is renewed meanwhile. A person waits for the answer to a query or a check.
FOR_DOCUMENTS, FOR_QUERIES, FOR_CHECKS = Patience(90.0, 4), Patience(5.0, 2, 10.0), Patience(2.0, 1, 5.0)
# A server may have to load a model before its first answer, which takes longer than a check waits.
FOR_NEW_MODELS = Patience(5.0, 2)
# The failures after which a request with a suspect text is not repeated: the text comes again in a smaller request.
_FAILURES_OF_SUSPECTS = 2
# Answers in a row that can't be read, or whose vectors can't be told apart: each may be billed.
_UNREADABLE_ANSWERS = 2
# If the provider embeds this text, a failure is due to the other text; if not, the provider is away.
_PROBE = "Is the provider there?"
# Seconds; doubled with each failure, of which the upper half is random.
_PAUSE, _LONGEST_PAUSE = 0.5, 20.0


def model_of(profile: Profile, settings: Settings) -> Model:
    """Whom to ask for vectors of this profile: as the settings say of their own provider, and as the profile says of another."""
    own = profile.provider == settings.embedding_provider
    other = dict(settings.providers).get(profile.provider, Provider("", None))
    first = own and (profile.model, profile.dimensions) == (settings.embedding_model, settings.embedding_dimensions)
    return Model(
        name=profile.model,
        dimensions=profile.dimensions,
        base_url=profile.base_url or (settings.openai_base_url if own else other.base_url),
        api_key=settings.openai_api_key if own else other.key,
        key_variable="OPENAI_API_KEY" if own else f"LEX_INGEST_PROVIDERS ({profile.provider}=…)",
        send_dimensions=settings.embedding_send_dimensions if first else profile.send_dimensions,
        timeout=settings.embedding_timeout,
        largest=LARGEST_HALF if profile.storage == "halfvec" else LARGEST_SINGLE,
    )


@lru_cache(maxsize=8)
def _limiter(account: str, settings: Settings, process_id: int) -> RateLimiter:
    # By process: a lock that another thread holds during a fork would never open in the child.
    limits = (settings.requests_per_minute, settings.tokens_per_minute)
    return RateLimiter(account, settings.redis_url, limits, settings.embedding_processes)


@lru_cache(maxsize=8)
def _sizer(account: str, settings: Settings, process_id: int) -> RequestSizer:
    # Cached per process, as in ``_limiter``.
    return RequestSizer(
        min(settings.embedding_batch, MOST_INPUTS), MOST_BYTES, settings.embedding_in_flight, settings.embedding_timeout
    )


class Asking:
    """The way to one profile's provider. Used by many threads at once."""

    def __init__(self, profile: Profile, settings: Settings, patience: Patience = FOR_DOCUMENTS) -> None:
        self.profile, self.settings, self._patience = profile, settings, patience
        model = model_of(profile, settings)
        self._model = replace(model, timeout=min(model.timeout, patience.timeout))
        account = f"{profile.provider}/{profile.model}"
        self._limiter = _limiter(account, settings, os.getpid())
        self.sizer = _sizer(f"{account} {model.base_url}", settings, os.getpid())

    def admit(self, size: int, seconds: float | None = None) -> Reservation:
        """Wait until a request of ``size`` bytes may be sent, for at most ``seconds`` (else the patience).

        Raises:
            Unavailable: ``rate_limit``: not within that time.
        """
        most = self._patience.seconds if seconds is None else max(0.1, seconds)
        try:
            reservation = self._limiter.reserve(size, most)
            reservation.hold()
        except Throttled as error:
            # No refusal of the provider's: others may still be within their time, so no gate is closed.
            raise Unavailable("rate_limit", f"{error.message}: the limits that are set leave no room before long") from None
        return reservation

    def ask(
        self, texts: Sequence[str], purpose: Purpose, permit: Reservation | None = None, suspect: bool = False
    ) -> tuple[int, Answer]:
        """Send one request until it is answered. Returns the number of its announcement too, which ``Bill.commit`` confirms.

        Args:
            texts: what to embed.
            purpose: what for.
            permit: what ``admit`` gave for it, else it is asked here.
            suspect: a request with one of the texts has failed before, so that it is repeated less often.

        Raises:
            Throttled, Unavailable: repeating it did not help. ``TimedOut`` is raised at once: the texts are to come back in
                smaller requests.
            ProviderUnusable: as ``worker.embed.openai.embed``; ``budget_price``.
            BudgetSpent: it is for documents, and the day's budget is used up.
            RunSpent: it is a backfill's, and that one's own budget is.
            TextFailed: which text a vector belongs to is unknown, repeatedly; ``VectorsMissing`` at once, as ``TimedOut``.
            Rejected: the provider refuses the request.
        """
        size = sum(len(text.encode()) for text in texts)
        end, failures = time.monotonic() + self._patience.seconds, 0
        most_failures = min(self._patience.failures, _FAILURES_OF_SUSPECTS) if suspect else self._patience.failures
        while True:
            reservation, permit = permit or self.admit(size, end - time.monotonic()), None
            try:
                request = self._announce(len(texts), size, purpose)
            except BaseException:
                reservation.cancel()
                raise
            sent = time.monotonic()
            try:
                answer = openai.embed(texts, self._model)
            except (Rejected, ProviderUnusable) as error:
                if not isinstance(error, AnswerUnusable):
                    self._withdraw(request)
                raise
            except Throttled as error:
                self._withdraw(request)
                failures += 1
                pause = error.retry_after or _pause(failures)
                self._limiter.pause(pause)
                if time.monotonic() + pause > end:
                    raise
            except (Unavailable, TextFailed) as error:
                if error.code == UNREACHABLE:
                    self._withdraw(request)
                    reservation.cancel()
                failures += 1
                unreadable = isinstance(error, TextFailed) or error.code == UNREADABLE
                if unreadable and failures >= _UNREADABLE_ANSWERS and error.code == UNREADABLE:
                    raise AnswerUnusable(error.code, error.message) from error
                pause = _pause(failures)
                most = _UNREADABLE_ANSWERS if unreadable else most_failures
                if isinstance(error, TimedOut | VectorsMissing) or failures >= most or time.monotonic() + pause > end:
                    raise
                log.warning("provider asked again", extra={"code": error.code, "failures": failures})
                time.sleep(pause)
            else:
                if purpose is not Purpose.QUERY:
                    self.sizer.answered(len(texts), size, time.monotonic() - sent)
                reservation.settle(answer.tokens, answer.headers)
                return request, answer

    def is_answering(self) -> bool:
        """Whether the provider embeds ``_PROBE``, after it has failed with other texts."""
        bill = Bill(Asking(self.profile, self.settings, replace(FOR_CHECKS, timeout=float("inf"))), [None], Purpose.CHECK)
        try:
            _, unusable = bill.ask([_PROBE], [0])
        except IngestError:
            return False
        with transaction(self.settings.database_url) as connection:
            bill.commit(connection)
        return not unusable

    def _announce(self, inputs: int, most_tokens: int, purpose: Purpose) -> int:
        if purpose in (Purpose.DOCUMENT, Purpose.BACKFILL):
            return spending.announce(self.settings, self.profile, inputs, most_tokens, purpose)
        with statements(self.settings.database_url) as connection:
            return ledger.announce(connection, self.profile.id, inputs, most_tokens)

    def _withdraw(self, request: int) -> None:
        try:
            with transaction(self.settings.database_url) as connection:
                ledger.withdraw(connection, request)
        except DBAPIError as error:
            # It stays as one that may have been billed: too much is said, never too little.
            log.warning("announcement not withdrawn", extra={"reason": type(error).__name__})


def _pause(failures: int) -> float:
    return min(_LONGEST_PAUSE, _PAUSE * 2.0**failures) * (0.5 + random.random() / 2)  # noqa: S311 - jitter, not a secret


class Bill:
    """What a batch of texts was asked for, to be confirmed with the vectors that it brought.

    ``owners``: each text's document, in the order of the texts; None where it is none's. ``permit``: for the first request.
    ``suspect``: as ``Asking.ask``.
    """

    def __init__(
        self,
        asking: Asking,
        owners: Sequence[UUID | None],
        purpose: Purpose = Purpose.DOCUMENT,
        permit: Reservation | None = None,
        suspect: bool = False,
    ) -> None:
        self._asking, self._owners, self._purpose, self._permit, self._suspect = asking, owners, purpose, permit, suspect
        self._charges: list[Charge] = []

    def ask(self, texts: Sequence[str], numbers: Sequence[int]) -> tuple[Vectors, Mapping[int, str]]:
        """Send one request for texts of the batch, or parts of them; ``numbers`` says whose each one is.

        Returns the vectors, and by a text's place what is wrong with its vector.
        """
        permit, self._permit = self._permit, None
        request, answer = self._asking.ask(texts, self._purpose, permit, self._suspect)
        if answer.tokens is not None:
            weights = [
                (self._owners[number], self._purpose, len(text.encode())) for text, number in zip(texts, numbers, strict=True)
            ]
            self._charges.append(Charge(request, divide(answer.tokens, weights)))
        return answer.vectors, answer.unusable

    def commit(self, connection: Connection) -> None:
        """Commit the caller's transaction, and with it what was answered so far; what was confirmed before changes nothing."""
        if self._charges:
            price = price_of(self._asking.profile.model, self._asking.settings)
            ledger.confirm_and_commit(connection, self._charges, price)
        else:
            connection.commit()


def embed_query(
    query: str, profile: Profile, settings: Settings, purpose: Purpose = Purpose.QUERY, patience: Patience | None = None
) -> Vectors:
    """The vector of a query, float32 of shape (dimensions,). ``patience``: that of the purpose, unless given.

    Raises:
        TransientError: the provider can't embed it now, or gave a vector that can't be used.
        Rejected: the provider refuses it.
    """
    asking = Asking(profile, settings, patience or (FOR_CHECKS if purpose is Purpose.CHECK else FOR_QUERIES))
    bill = Bill(asking, [None], purpose)
    outcome = embed_all([query], bill.ask, settings.embedding_max_tokens, asking.sizer)
    with transaction(settings.database_url) as connection:
        bill.commit(connection)
    for error in (outcome.failure, outcome.refusals.get(0)):
        if error is not None:
            raise error
    if outcome.unusable:
        raise TextFailed("embedding_unusable", f"the provider's vector can't be used: {outcome.unusable[0]}")
    return outcome.vectors[0]
