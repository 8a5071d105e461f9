"""Chooses the size and the number of concurrent requests to one provider, from its answers so far.

A request that timed out may be billed and brings nothing, so requests begin small. They grow while answers come quickly, twofold
or fourfold, so that a fast provider has full requests after two rounds. They shrink in proportion where answers are slow; a
time-out halves them, and the number in flight too, since a provider that computes one request after the other shares its speed
among them. A limit that the provider has named is never exceeded again.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

# The longest that a request should take: this share of its time-out, and at most so many seconds, since a short document waits
# behind it. The next answer may then take four times as long without a time-out.
_SHARE_OF_TIMEOUT, _MOST_SECONDS = 0.25, 5.0
# A provider with a long latency may take this part of the time-out.
_MOST_OF_TIMEOUT = 0.5
# How much two requests must differ in size for a comparison, and how far a request near its goal grows, so that they do.
_STEP = 1.25
# The first requests have an eighth of what one may have, but at most 8 texts, two at a time: 16 texts together.
_FIRST_SHARE, _FIRST_TEXTS, _FIRST_IN_FLIGHT = 1 / 8, 8, 2
# Time-outs in a row, without any answer, after which the provider counts as away.
AWAY_AFTER = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the next request: its texts, their UTF-8 bytes together (``size``), and the requests in flight with it."""

    texts: int
    size: int
    in_flight: int


class RequestSizer:
    """Sizes the requests to one provider and model in one process. Thread-safe.

    Args:
        texts: texts in a request, at most.
        size: UTF-8 bytes in a request, at most.
        in_flight: requests in flight, at most.
        timeout: seconds that one request may take.
    """

    def __init__(self, texts: int, size: int, in_flight: int, timeout: float) -> None:
        self._most = Limits(texts, size, in_flight)
        self._least_goal, self._most_goal = min(_SHARE_OF_TIMEOUT * timeout, _MOST_SECONDS), _MOST_OF_TIMEOUT * timeout
        # Seconds of an answer that do not depend on its size; and the size and the seconds of the last full request.
        self._latency = 0.0
        self._last: tuple[int, float] | None = None
        self._share = min(_FIRST_SHARE, _FIRST_TEXTS / texts)
        self._in_flight = min(_FIRST_IN_FLIGHT, in_flight)
        self._timeouts = 0
        self._answered_at = float("-inf")
        self._too_long: float | None = None
        self._lock = threading.Lock()

    def limits(self) -> Limits:
        """What the next request may have now."""
        with self._lock:
            return self._limits()

    def _limits(self) -> Limits:
        return Limits(max(1, int(self._share * self._most.texts)), max(1, int(self._share * self._most.size)), self._in_flight)

    def answered(self, texts: int, size: int, seconds: float) -> None:
        """Learn from a request that was answered ``seconds`` after it was sent."""
        with self._lock:
            self._timeouts, self._answered_at = 0, time.monotonic()
            now = self._limits()
            # A request that was not full says nothing about a larger one.
            is_full = 2 * texts > now.texts or 2 * size > now.size
            if is_full:
                self._compare(size, seconds)
            goal = min(max(self._least_goal, 2 * self._latency), self._most_goal)
            if seconds > goal:
                if now.texts == 1:
                    self._in_flight = max(1, self._in_flight - 1)
                self._share = max(1 / self._most.texts, self._share * max(0.5, min(goal / seconds, 1 / _STEP)))
            elif is_full and seconds < goal / 2:
                very_quick = seconds < goal / 8
                self._share = min(1.0, (4 if very_quick else 2) * self._share)
                grown = 2 * self._in_flight if very_quick else self._in_flight + 1
                self._in_flight = min(self._most.in_flight, grown)
            elif is_full:
                # By at least one text.
                self._share = min(1.0, max(_STEP * self._share, self._share + 1 / self._most.texts))
                if self._latency > seconds / 2:
                    self._in_flight = min(self._most.in_flight, self._in_flight + 1)

    def _compare(self, size: int, seconds: float) -> None:
        if self._last is not None and not 1.01 / _STEP < size / self._last[0] < 0.99 * _STEP:
            slope = max(0.0, (seconds - self._last[1]) / (size - self._last[0]))
            self._latency = (self._latency + max(0.0, seconds - slope * size)) / 2
        self._last = size, seconds

    def timed_out(self, texts: int) -> bool:
        """Learn from a request of so many texts that timed out. Returns True if the provider seems to be away."""
        with self._lock:
            self._timeouts += 1
            if texts > 1:
                # Requests that were sent together time out together, so halve the size only once for all of them.
                self._share = max(1 / self._most.texts, min(self._share, texts / self._most.texts / 2))
            self._in_flight = max(1, self._in_flight // 2)
            return self._timeouts >= AWAY_AFTER

    def refused(self, texts: int, size: int, by_number: bool, most_texts: int | None) -> None:
        """Learn from a request that was refused for its number of texts (``by_number``) or for its size."""
        with self._lock:
            if by_number:
                allowed = most_texts if most_texts is not None and 0 < most_texts < texts else texts // 2
                share = self._share * self._most.texts
                self._most = Limits(max(1, min(self._most.texts, allowed)), self._most.size, self._most.in_flight)
                self._share = min(1.0, share / self._most.texts)
            else:
                share = self._share * self._most.size
                self._most = Limits(self._most.texts, max(1, min(self._most.size, size // 2)), self._most.in_flight)
                self._share = min(1.0, share / self._most.size)

    def answered_since(self, moment: float) -> bool:
        """Whether any request was answered after ``moment`` (``time.monotonic``)."""
        with self._lock:
            return self._answered_at > moment

    def too_long(self, tokens: float | None = None) -> float:
        """Return the estimated tokens of the shortest text that was refused for its length; infinity if there was none.

        ``worker.embed.long_inputs.about_tokens`` makes the estimates.

        Args:
            tokens: the tokens of a text that was refused for its length just now.
        """
        with self._lock:
            if tokens is not None:
                self._too_long = tokens if self._too_long is None else min(self._too_long, tokens)
            return float("inf") if self._too_long is None else self._too_long
