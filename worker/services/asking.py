"""Ask a profile's provider: within the account's limits and the budget, and with every request on the ledger.

A throttled or failed request is repeated here for a while, at the cost of nobody's attempt; what lasts longer is the caller's to
raise, and the document's row to schedule. Nothing is sent that was not announced, and announced is what may still be billed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from worker import telemetry
from worker.domain.errors import ProviderUnusable, Rejected, Throttled, Unavailable
from worker.domain.spending import Answer as Charge
from worker.domain.spending import Purpose, divide
from worker.domain.vectors import Vectors
from worker.embed import openai
from worker.embed.openai import UNREACHABLE, Answer, Model
from worker.embed.prices import price_of
from worker.embed.rate_limit import RateLimiter, Reservation
from worker.services import spending
from worker.setting_values import Provider
from worker.settings import Settings
from worker.store import spending as ledger
from worker.store.profiles import Profile
from worker.store.session import statements, transaction

log = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is repeated: ``seconds`` in all, and ``failures`` in a row that are no refusal to wait."""

    seconds: float
    failures: int


# Documents are held meanwhile, and their leases renewed. Somebody waits for the answer to a query.
FOR_DOCUMENTS, FOR_QUERIES = Patience(90.0, 4), Patience(5.0, 2)
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
    )


@lru_cache(maxsize=8)
def _limiter(account: str, settings: Settings, process_id: int) -> RateLimiter:
    # By process: a lock that another thread holds during a fork would never open in the child.
    limits = (settings.requests_per_minute, settings.tokens_per_minute)
    return RateLimiter(account, settings.redis_url, limits, settings.embedding_processes)


class Asking:
    """The way to one profile's provider. Used by many threads at once."""

    def __init__(self, profile: Profile, settings: Settings, patience: Patience = FOR_DOCUMENTS) -> None:
        self.profile, self.settings, self._patience = profile, settings, patience
        self._model = model_of(profile, settings)
        self._limiter = _limiter(f"{profile.provider}/{profile.model}", settings, os.getpid())

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

    def ask(self, texts: Sequence[str], purpose: Purpose, permit: Reservation | None = None) -> tuple[int, Answer]:
        """One request that is answered, and the number of its announcement, which ``Bill.settle`` confirms.

        ``permit``: what ``admit`` gave for it, else it is asked here.

        Raises:
            Throttled, Unavailable: repeating it did not help.
            ProviderUnusable: as ``worker.embed.openai.embed``; ``budget_price``.
            BudgetSpent: it is for documents, and the day's budget is used up.
            RunSpent: it is a backfill's, and that one's own budget is.
            Rejected: the provider refuses one of the texts.
        """
        size = sum(len(text.encode()) for text in texts)
        end, failures = time.monotonic() + self._patience.seconds, 0
        while True:
            reservation, permit = permit or self.admit(size, end - time.monotonic()), None
            try:
                request = self._announce(len(texts), size, purpose)
            except BaseException:
                reservation.cancel()
                raise
            try:
                answer = openai.embed(texts, self._model)
            except (Rejected, ProviderUnusable):
                self._withdraw(request)
                raise
            except Throttled as error:
                self._withdraw(request)
                failures += 1
                pause = error.retry_after or _pause(failures)
                self._limiter.pause(pause)
                if time.monotonic() + pause > end:
                    raise
            except Unavailable as error:
                if error.code == UNREACHABLE:
                    self._withdraw(request)
                    reservation.cancel()
                failures += 1
                pause = _pause(failures)
                if failures >= self._patience.failures or time.monotonic() + pause > end:
                    raise
                log.warning("provider asked again", extra={"code": error.code, "failures": failures})
                time.sleep(pause)
            else:
                reservation.settle(answer.tokens, answer.headers)
                return request, answer

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
    """

    def __init__(
        self,
        asking: Asking,
        owners: Sequence[UUID | None],
        purpose: Purpose = Purpose.DOCUMENT,
        permit: Reservation | None = None,
    ) -> None:
        self._asking, self._owners, self._purpose, self._permit = asking, owners, purpose, permit
        self._charges: list[Charge] = []

    def ask(self, texts: Sequence[str], numbers: Sequence[int]) -> Vectors:
        """One request for texts of the batch, or parts of them; ``numbers`` says whose each one is."""
        permit, self._permit = self._permit, None
        request, answer = self._asking.ask(texts, self._purpose, permit)
        if answer.tokens is not None:
            weights = [
                (self._owners[number], self._purpose, len(text.encode())) for text, number in zip(texts, numbers, strict=True)
            ]
            self._charges.append(Charge(request, divide(answer.tokens, weights)))
        return answer.vectors

    def commit(self, connection: Connection) -> None:
        """Commit the caller's transaction, and with it what was answered so far; what was confirmed before changes nothing."""
        if self._charges:
            price = price_of(self._asking.profile.model, self._asking.settings)
            ledger.confirm_and_commit(connection, self._charges, price)
        else:
            connection.commit()


def embed_query(query: str, profile: Profile, settings: Settings, purpose: Purpose = Purpose.QUERY) -> Vectors:
    """The vector of a query, float32 of shape (dimensions,).

    Raises:
        TransientError: the provider can't embed it now.
    """
    bill = Bill(Asking(profile, settings, FOR_QUERIES), [None], purpose)
    vector: Vectors = bill.ask([query], [0])[0]
    with transaction(settings.database_url) as connection:
        bill.commit(connection)
    return vector
