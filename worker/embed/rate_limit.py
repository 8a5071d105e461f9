"""All processes together under the provider account's limits: requests and tokens a minute, kept in Redis or Valkey.

A sender reserves, waits as long as it was told, sends, and settles what the provider counted::

    reservation = limiter.reserve(size)
    reservation.hold()
    answer = …
    reservation.settle(answer.usage.total_tokens, answer.headers)

With Redis away a process keeps to its share of the limits, and never goes without. Why not a library: `limits`,
`pyrate-limiter` and `throttled-py` say yes or no, and neither correct tokens nor share a pause; `token-throttle` does correct
them, and needs Python 3.12.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import redis

from worker import telemetry
from worker.domain.errors import Throttled
from worker.domain.provider_headers import LONGEST_WAIT, UNITS, limit_of, wait_of_answer
from worker.domain.rates import Buckets, Rates, TokenRatio
from worker.embed.rate_state import Booking, SharedState

log = telemetry.get_logger(__name__)

MOST_WAIT = 60.0
# Seconds in which Redis is not asked again after it failed.
_AWAY = 5.0
# Those that a pause has stopped go on one after another: in up to so much of the pause's length.
_SPREAD = 0.1

Answer = TypeVar("Answer")


class Reservation:
    """The right to send one request at a time to come. Not for several threads at once.

    ``wait`` is in seconds from when it was given, ``tokens`` the estimate that was booked.
    """

    def __init__(self, limiter: RateLimiter, size: int, most_wait: float, booking: Booking) -> None:
        self._limiter = limiter
        self._size = size
        self._most_wait = most_wait
        self._sent_at: float | None = None
        self._take(booking)

    def _take(self, booking: Booking) -> None:
        self._born = booking.born
        self.tokens = booking.tokens
        self.wait = booking.wait + booking.paused * _SPREAD * random.random()  # noqa: S311 - spreads senders, guards nothing
        self._due = time.monotonic() + self.wait

    def remaining(self) -> float:
        """Seconds until the request may be sent; 0 means now. Whoever has waited for it asks again: there may be a pause.

        Raises:
            Throttled: a pause, or an emptied Redis, has made the wait longer than ``most_wait``; nothing is booked.
        """
        if self._sent_at is None:
            left = self._due - time.monotonic()
            if left > 0:
                return left
            if self.wait > 0:
                self._take(self._limiter.book(self._size, self._most_wait, self._born, self.tokens))
                if self.wait > 0:
                    return self.wait
            self._sent_at = time.monotonic()
        return 0.0

    def hold(self, sleep: Callable[[float], object] = time.sleep) -> None:
        """Wait until the request may be sent.

        Raises:
            Throttled: as ``remaining`` does; and whatever ``sleep`` raises, who then has to ``cancel``.
        """
        while (seconds := self.remaining()) > 0:
            sleep(seconds)

    def settle(self, tokens_used: int | None, headers: Mapping[str, str] | None = None) -> None:
        """Correct the booking by what the provider counted (None: it does not say), and ``observe`` the answer's headers.

        A request that was refused or got no answer stays as booked: OpenAI counts those too.
        """
        if tokens_used and self._limiter.counts_tokens:
            self._limiter.correct(self._born, 0, tokens_used - self.tokens, tokens_used, self._size)
        if headers is not None:
            age = 0.0 if self._sent_at is None else time.monotonic() - self._sent_at
            self._limiter.observe(headers, age)

    def cancel(self) -> None:
        """Give back what was not sent. The others' times stay as they were told; the next reservation gets what is free."""
        self._limiter.correct(self._born, -1, -self.tokens)


class RateLimiter:
    """One account's limits. For any number of threads and processes; every call is at most one round trip to Redis.

    ``limits`` are requests and tokens in a ``minute``, which is in seconds (tests have short ones); None is no limit of ours,
    but a pause holds all the same. ``processes`` share the account while Redis is away. Never raises an error of Redis.
    """

    def __init__(
        self,
        name: str,
        redis_url: str,
        limits: tuple[float | None, float | None],
        processes: int = 4,
        minute: float = 60.0,
    ) -> None:
        self._name = name
        self._limits = limits
        self._processes = processes
        self._minute = minute
        self._state = SharedState(redis_url, name)
        self._away_until = 0.0
        # Everything below is this process' own, under the lock. Its buckets are charged while Redis answers too: the share
        # begins with what this process has just sent.
        self._lock = threading.Lock()
        self._share = Buckets()
        self._ratio = TokenRatio()
        self._set_rates(limits)

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited, so that it matters how many they were."""
        return self._limits[1] is not None

    def _set_rates(self, limits: tuple[float | None, ...]) -> None:
        requests, tokens = limits
        self._rates = Rates.of(requests, tokens, self._minute)
        parts = [None if limit is None else limit / self._processes for limit in limits]
        self._share_rates = Rates.of(parts[0], parts[1], self._minute)

    def reserve(self, size: int, most_wait: float = MOST_WAIT) -> Reservation:
        """Book one request whose texts have ``size`` bytes together.

        Raises:
            Throttled: it would have to wait for more than ``most_wait`` seconds; nothing is booked.
        """
        return Reservation(self, size, most_wait, self.book(size, most_wait))

    def book(self, size: int, most_wait: float, born: str = "", tokens: float = 0.0) -> Booking:
        """Book for a reservation; with ``born`` and ``tokens``, see whether what was booked still holds, else book anew.

        Raises:
            Throttled: the wait would be longer than ``most_wait``.
        """
        booking = self._ask(lambda: self._state.reserve(self._rates, size, self._ratio, most_wait, born, tokens))
        now = time.monotonic()
        with self._lock:
            if booking is None:
                booking = self._from_share(now, size, most_wait, tokens)
            else:
                self._ratio = booking.ratio
                self._share.pause(now + booking.paused)
                if booking.booked and not tokens:
                    self._share.take(self._share_rates, now, 1, booking.tokens, self._minute)
        if not booking.booked:
            raise Throttled("the provider account's rate limit is booked up", booking.wait)
        return booking

    def _from_share(self, now: float, size: int, most_wait: float, tokens: float) -> Booking:
        paused = max(0.0, self._share.paused_until - now)
        if tokens:
            # Booked before, by whoever: the time was the right one, but for a pause.
            return Booking(paused <= most_wait, paused, paused, "", tokens, self._ratio)
        tokens = self._ratio.tokens_of(size)
        wait = self._share.reserve(self._share_rates, now, tokens, most_wait)
        return Booking(wait <= most_wait, wait, paused, "", tokens, self._ratio)

    def correct(self, born: str, requests: float, tokens: float, used: int = 0, size: int = 0) -> None:
        """Book that much more for a reservation (less, below 0), and learn that ``size`` bytes were ``used`` tokens."""
        ratio = self._ask(lambda: self._state.correct(self._rates, born, requests, tokens, self._ratio, used, size))
        with self._lock:
            self._share.take(self._share_rates, time.monotonic(), requests, tokens, self._minute)
            self._ratio = ratio or (self._ratio.learned(used, size) if size else self._ratio)

    def pause(self, seconds: float) -> None:
        """Nobody of the cluster sends for so long, at most an hour: for a 429, with what ``wait_of_refusal`` reads there."""
        if seconds > 0:
            seconds = min(seconds, LONGEST_WAIT)
            with self._lock:
                self._share.pause(time.monotonic() + seconds)
            self._ask(lambda: self._state.pause(seconds))

    def observe(self, headers: Mapping[str, str], age: float = 0.0) -> None:
        """Keep to what an answer's headers tell: a limit smaller than ours, or that nothing is left until the reset.

        ``age`` is how many seconds ago its request was sent. Names of headers are in lower case, or the mapping knows no case.
        A limit of ours that is None stays so.
        """
        told = [limit_of(unit, headers) for unit in UNITS]
        limits = tuple(min(ours, other) if ours and other else ours for ours, other in zip(self._limits, told, strict=True))
        with self._lock:
            self._set_rates(limits)
        self.pause(wait_of_answer(headers, self._minute) - age)

    def _ask(self, call: Callable[[], Answer]) -> Answer | None:
        """Ask Redis; None where it fails, or failed a moment ago."""
        if time.monotonic() < self._away_until:
            return None
        try:
            return call()
        except (redis.RedisError, OSError) as error:
            self._away_until = time.monotonic() + _AWAY
            log.warning(
                "the rate limit's state is out of reach: each process keeps to its share",
                extra={"code": "rate_limit_share", "account": self._name, "reason": type(error).__name__},
            )
            return None

    def close(self) -> None:
        """Close the connections."""
        self._state.close()
