"""What a provider's answer says of its limits: ``retry-after`` (RFC 9110) and OpenAI's ``x-ratelimit-*`` headers.

Names are looked up in lower case: give a case-insensitive mapping, as httpx has, or lower-case keys. What can't be read
counts as not said: Azure sends -1 and 0 where it does not know, others words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

# A slip in a header must not stop everybody for years.
LONGEST_WAIT = 3600.0
UNITS = ("requests", "tokens")

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d)")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
# A bucket that is empty takes a minute until it is full; what takes less is a window that ends.
_WHOLE_MINUTE = 0.9


def duration(text: str) -> float | None:
    """Seconds of a duration as Go writes it, and so OpenAI and Groq: ``20ms``, ``1s``, ``6m0s``, ``2m59.56s``; or of a number."""
    text = text.strip()
    if _PART.sub("", text):
        return _number(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)) if text else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def limit_of(unit: str, headers: Mapping[str, str]) -> float | None:
    """The limit a minute of ``requests`` or ``tokens``, or None where none above 0 is told."""
    return _number(headers.get(f"x-ratelimit-limit-{unit}")) or None


def wait_of_refusal(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds to wait after a 429, at most an hour, or None where it does not say. ``wall`` is the time since the epoch.

    ``x-ratelimit-reset-*`` counts only where nothing remains and no ``retry-after`` stands: it tells when the limit is
    whole again, not when the next request fits.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    seconds = milliseconds / 1000 if milliseconds else _retry_after(headers.get("retry-after", ""), wall)
    if not seconds:
        seconds = max(_resets(headers), default=0.0)
    return min(seconds, LONGEST_WAIT) if seconds > 0 else None


def _retry_after(text: str, wall: float) -> float:
    seconds = duration(text)
    if seconds is not None:
        return seconds
    try:
        return parsedate_to_datetime(text).timestamp() - wall
    except (ValueError, OverflowError):
        return 0.0


def wait_of_answer(headers: Mapping[str, str], minute: float) -> float:
    """Seconds, counted from when the request was sent, in which the next one would be refused, by an answer that was none.

    Where nothing remains, that is until the reset; but not where the reset is about a minute off, as long as a bucket takes
    to be full: there the next request fits long before, and whoever waits for the reset gives away most of the rate.
    """
    return max((reset for reset in _resets(headers) if reset < _WHOLE_MINUTE * minute), default=0.0)


def _resets(headers: Mapping[str, str]) -> list[float]:
    """Seconds until the reset of each limit of which nothing remains."""
    used_up = (unit for unit in UNITS if limit_of(unit, headers) and _number(headers.get(f"x-ratelimit-remaining-{unit}")) == 0)
    return [duration(headers.get(f"x-ratelimit-reset-{unit}", "")) or 0.0 for unit in used_up]
