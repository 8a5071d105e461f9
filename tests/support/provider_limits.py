"""The test provider's limits a minute: what fits now, and the headers that tell of it. Pure: time is an argument.

Three ways to count, as providers differ: ``bucket`` refills all the time (OpenAI's way), ``window`` starts anew with each
minute by the clock, ``sliding`` looks back one minute. A "minute" may be any number of seconds, so that a test of limits
a minute takes seconds; what OpenAI rounds to seconds is rounded to a sixtieth of it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol

# Sums of floats: what is a billionth short of room for a request has room for it.
_SLACK = 1e-9


class Meter(Protocol):
    """One limit. ``wait`` is 0 where the amount fits now and infinite where it never will; ``take`` is called after it fitted."""

    def wait(self, amount: float, now: float) -> float: ...

    def take(self, amount: float, now: float) -> None: ...

    def left(self, now: float) -> float: ...

    def until_full(self, now: float) -> float: ...


@dataclass
class Bucket:
    """``limit`` a minute flow in, up to ``capacity``."""

    limit: float
    minute: float
    capacity: float
    _level: float = field(init=False)
    _seen: float = 0.0

    def __post_init__(self) -> None:
        self._level = self.capacity

    def left(self, now: float) -> float:
        self._level = min(self.capacity, self._level + max(0.0, now - self._seen) * self.limit / self.minute)
        self._seen = max(self._seen, now)
        return self._level

    def wait(self, amount: float, now: float) -> float:
        if amount > self.capacity:
            return math.inf
        missing = amount - self.left(now)
        return missing * self.minute / self.limit if missing > _SLACK * amount else 0.0

    def take(self, amount: float, now: float) -> None:
        self._level = max(0.0, self.left(now) - amount)

    def until_full(self, now: float) -> float:
        return (self.capacity - self.left(now)) * self.minute / self.limit


@dataclass
class Window:
    """``limit`` in each minute, counted from a multiple of the minute."""

    limit: float
    minute: float
    _number: float = -1.0
    _used: float = 0.0

    def left(self, now: float) -> float:
        if now // self.minute > self._number:
            self._number, self._used = now // self.minute, 0.0
        return self.limit - self._used

    def wait(self, amount: float, now: float) -> float:
        if amount > self.limit:
            return math.inf
        return 0.0 if amount <= self.left(now) else self.minute - now % self.minute

    def take(self, amount: float, now: float) -> None:
        self._used = min(self.limit, self.limit - self.left(now) + amount)

    def until_full(self, now: float) -> float:
        return 0.0 if self.left(now) == self.limit else self.minute - now % self.minute


@dataclass
class Sliding:
    """``limit`` in any stretch of a minute."""

    limit: float
    minute: float
    _taken: deque[tuple[float, float]] = field(default_factory=deque)
    _used: float = 0.0

    def left(self, now: float) -> float:
        while self._taken and self._taken[0][0] <= now - self.minute:
            self._used -= self._taken.popleft()[1]
        if not self._taken:
            self._used = 0.0
        return self.limit - self._used

    def wait(self, amount: float, now: float) -> float:
        if amount > self.limit:
            return math.inf
        room = self.left(now)
        if amount <= room:
            return 0.0
        for taken_at, taken in self._taken:
            room += taken
            if amount <= room:
                return taken_at + self.minute - now
        return self.minute

    def take(self, amount: float, now: float) -> None:
        amount = min(amount, self.left(now))
        self._taken.append((now, amount))
        self._used += amount

    def until_full(self, now: float) -> float:
        self.left(now)
        return self._taken[-1][0] + self.minute - now if self._taken else 0.0


ALGORITHMS = ("bucket", "window", "sliding")


def meter(algorithm: str, limit: float, minute: float, burst: float = 1.0) -> Meter:
    """``burst`` is the part of the limit that a bucket holds: how much may come at once after a pause."""
    match algorithm:
        case "bucket":
            return Bucket(limit, minute, max(1.0, limit * burst))
        case "window":
            return Window(limit, minute)
        case "sliding":
            return Sliding(limit, minute)
    raise ValueError(f"{algorithm!r} is not one of {', '.join(ALGORITHMS)}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """``unit`` is ``requests`` or ``tokens``. ``wait`` is infinite where the request alone is over the limit."""

    unit: str
    limit: int
    used: int
    requested: int
    wait: float


@dataclass
class Limits:
    """Both limits of an account; None is no limit. What is refused takes nothing, unless ``charge_refused``, as OpenAI does."""

    requests: float | None = None
    tokens: float | None = None
    algorithm: str = "bucket"
    minute: float = 60.0
    burst: float = 1.0
    charge_refused: bool = False
    meters: dict[str, Meter] = field(init=False)

    def __post_init__(self) -> None:
        wanted = {"requests": self.requests, "tokens": self.tokens}
        self.meters = {
            unit: meter(self.algorithm, limit, self.minute, self.burst) for unit, limit in wanted.items() if limit is not None
        }

    def take(self, tokens: int, now: float) -> Refusal | None:
        """Let one request of so many tokens in, or say why not. It takes from both limits or from none."""
        amounts = {"requests": 1, "tokens": tokens}
        waits = {unit: one.wait(amounts[unit], now) for unit, one in self.meters.items()}
        unit = max(waits, key=lambda name: waits[name], default=None)
        refused = unit is not None and waits[unit] > 0
        if not refused or self.charge_refused:
            for name, one in self.meters.items():
                one.take(amounts[name], now)
        if unit is None or not refused:
            return None
        limit = self.limit(unit)
        return Refusal(unit, limit, round(limit - self.meters[unit].left(now)), amounts[unit], waits[unit])

    def limit(self, unit: str) -> int:
        return int((self.requests if unit == "requests" else self.tokens) or 0)


HEADERS = ("full", "retry-after", "none", "date", "garbage")
_GARBAGE = {
    "retry-after": "soon", "retry-after-ms": "NaN", "x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "",
    "x-ratelimit-reset-requests": "later", "x-ratelimit-limit-tokens": "1e999", "x-ratelimit-remaining-tokens": "many",
    "x-ratelimit-reset-tokens": "6m0",
}  # fmt: skip


def duration(seconds: float) -> str:
    """As OpenAI writes how long a limit takes to be whole again: ``0s``, ``12ms``, ``1.2s``, ``6m0s``, ``1h2m3.5s``."""
    milliseconds = math.ceil(max(0.0, seconds) * 1000 - 1e-6)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{rest}" if hours else f"{minutes}m{rest}" if minutes else rest


def state_headers(limits: Limits, style: str, now: float) -> dict[str, str]:
    """What every answer says of the limits: only in the style ``full``, and garbage in ``garbage``."""
    if style == "garbage" and limits.meters:
        return {name: value for name, value in _GARBAGE.items() if name.startswith("x-")}
    if style != "full":
        return {}
    found = {}
    for unit, one in limits.meters.items():
        found[f"x-ratelimit-limit-{unit}"] = str(limits.limit(unit))
        found[f"x-ratelimit-remaining-{unit}"] = str(max(0, int(one.left(now) + _SLACK)))
        found[f"x-ratelimit-reset-{unit}"] = duration(one.until_full(now))
    return found


def wait_headers(wait: float, minute: float, style: str, wall: float) -> dict[str, str]:
    """What a refusal says of when to come again. A wait without end is not told."""
    if style == "garbage":
        return {name: value for name, value in _GARBAGE.items() if name.startswith("retry")}
    if style == "none" or math.isinf(wait):
        return {}
    if style == "date":
        return {"retry-after": formatdate(math.ceil(wall + wait), usegmt=True)}
    second = minute / 60
    rounded = f"{math.ceil(wait / second - _SLACK) * second:.3f}".rstrip("0").rstrip(".")
    headers = {"retry-after": rounded}
    return {**headers, "retry-after-ms": str(math.ceil(wait * 1000))} if style == "full" else headers
