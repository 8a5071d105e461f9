"""A provider's rate limits as arithmetic: when a request may be sent, and how many tokens a text may have.

The generic cell rate algorithm (ITU-T I.371), for two limits at once. A limit is a bucket that refills all the time; it is
kept as the moment at which it is full, so that a reservation is one addition. ``worker/embed/rate_state.py`` does the same
steps in Lua, for all processes; a test holds the two together. Times are in seconds, on the caller's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Providers count in fixed minutes, in sliding ones, or by a bucket, and don't say which. What is sent in any minute is at
# most one burst and a minute's refill: (1/60 + 0.98) of the limit, so less than the limit in each of the three ways. A burst
# of one second passes too where a provider holds a minute's limit second by second (OpenAI's guide, "Rate limits").
HEADROOM = 0.98
BURST = 1 / 60

# Tokens a byte, where nothing was measured yet: English has 0.2 to 0.25, Chinese and tables of numbers up to 0.5. Less than
# the worst case, because the first answer corrects it, until when no more than a burst or one request was sent; measured with
# batches of 290 kB, 0.5 held an empty account at half of its rate for two minutes.
UNKNOWN_RATIO = 0.35
# Of 4000 bytes: the first real batch outweighs it.
_PRIOR_BYTES = 4000.0
# No tokenizer gives more tokens than bytes; a provider that tells no usage (0) must not teach that texts cost nothing.
MOST_RATIO = 1.0
LEAST_RATIO = 1 / 64
# So many bytes are remembered: older texts fade as newer ones come.
MEMORY_BYTES = 2_000_000.0


@dataclass(frozen=True, slots=True)
class Rate:
    """``per_second`` is the refill, ``burst`` what the bucket holds, in requests or tokens. ``per_second`` 0 is no limit."""

    per_second: float = 0.0
    burst: float = 0.0

    @classmethod
    def of(cls, limit: float | None, minute: float = 60.0) -> Rate:
        """The rate that stays under ``limit`` a minute; ``minute`` is how many seconds that is (tests have short ones)."""
        return cls() if limit is None else cls(HEADROOM * limit / minute, BURST * limit)

    def earliest(self, full_at: float, now: float, amount: float) -> float:
        """When ``amount`` may be taken. What is larger than the bucket needs it full, passes alone, and leaves a debt."""
        if not self.per_second:
            return now
        return max(now, full_at - (self.burst - min(amount, self.burst)) / self.per_second)

    def after(self, full_at: float, at: float, amount: float) -> float:
        """When the bucket is full again if ``amount`` is taken at ``at``. A negative amount is given back."""
        return max(full_at, at) + amount / self.per_second if self.per_second else full_at


@dataclass(frozen=True, slots=True)
class Rates:
    """Both limits of an account."""

    requests: Rate
    tokens: Rate

    @classmethod
    def of(cls, requests: float | None, tokens: float | None, minute: float = 60.0) -> Rates:
        return cls(Rate.of(requests, minute), Rate.of(tokens, minute))


@dataclass(slots=True)
class Buckets:
    """The state of both limits, and the moment before which nobody sends. New ones are full: one burst may pass."""

    requests_full_at: float = 0.0
    tokens_full_at: float = 0.0
    paused_until: float = 0.0

    def reserve(self, rates: Rates, now: float, tokens: float, most_wait: float) -> float:
        """Seconds until one request of so many tokens may be sent. It is booked unless that is more than ``most_wait``."""
        at = max(
            rates.requests.earliest(self.requests_full_at, now, 1),
            rates.tokens.earliest(self.tokens_full_at, now, tokens),
            self.paused_until,
        )
        if at - now <= most_wait:
            self.take(rates, at, 1, tokens)
        return at - now

    def take(self, rates: Rates, at: float, requests: float, tokens: float, longest_debt: float = math.inf) -> None:
        """Book requests and tokens at ``at``; negative ones are given back. No debt grows over ``longest_debt`` seconds."""
        self.requests_full_at = min(
            rates.requests.after(self.requests_full_at, at, requests), max(self.requests_full_at, at + longest_debt)
        )
        self.tokens_full_at = min(
            rates.tokens.after(self.tokens_full_at, at, tokens), max(self.tokens_full_at, at + longest_debt)
        )

    def pause(self, until: float) -> None:
        self.paused_until = max(self.paused_until, until)


@dataclass(frozen=True, slots=True)
class TokenRatio:
    """How many tokens a byte of UTF-8 has, as an average over the last texts: both are sums."""

    tokens: float = UNKNOWN_RATIO * _PRIOR_BYTES
    size: float = _PRIOR_BYTES

    def tokens_of(self, size: int) -> float:
        """The tokens to expect of ``size`` bytes."""
        return math.ceil(size * min(MOST_RATIO, max(LEAST_RATIO, self.tokens / self.size)))

    def learned(self, tokens: int, size: int) -> TokenRatio:
        """The average with one more request, whose ``size`` bytes were ``tokens``."""
        share = min(1.0, MEMORY_BYTES / (self.size + size))
        return TokenRatio((self.tokens + tokens) * share, (self.size + size) * share)
