"""What to do about an error: a pure decision. Only the document's row schedules; no Celery ETA, no ``self.retry``."""

from __future__ import annotations

from dataclasses import dataclass

from worker.domain.document import Status
from worker.domain.errors import (
    BudgetSpent,
    IngestError,
    NoText,
    PermanentError,
    ProviderUnusable,
    Throttled,
    Unavailable,
    Unsupported,
)

MAX_ATTEMPTS = 3
MAX_LEASE_LOSSES = 10

_BACKOFF_BASE = 10.0
_BACKOFF_CAP = 600.0
_UNAVAILABLE_AFTER = 10.0
_REFUSED_AFTER = 60.0
# Not answered by waiting a little: a person must act. Still nothing about the document.
_REFUSALS = frozenset({"access_denied", "bucket_missing"})
_THROTTLED_AFTER = 20.0
_UNUSABLE_AFTER = 60.0
# A budget that was raised meanwhile is seen this soon.
_BUDGET_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Try this document again ``after`` seconds. ``spend`` says whether it counts as one of its attempts."""

    after: float
    code: str
    reason: str
    spend: bool = True


@dataclass(frozen=True, slots=True)
class Park:
    """Close the gate for all documents for ``after`` seconds; nobody's attempt is spent."""

    after: float
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End in the terminal ``status``."""

    status: Status
    code: str
    reason: str


Decision = Retry | Park | GiveUp


def backoff(attempt: int, jitter: float) -> float:
    """Seconds before attempt ``attempt + 1``: 10, 20, 40 … at most 600, of which the upper half is random.

    ``jitter`` is from 0 to 1. ("Equal jitter", AWS Architecture Blog, "Exponential Backoff and Jitter".)
    """
    ceiling = min(_BACKOFF_CAP, _BACKOFF_BASE * 2.0 ** max(0, attempt - 1))
    return ceiling / 2 + jitter * ceiling / 2


def decide(error: BaseException, attempts: int, jitter: float) -> Decision:
    """Decide what follows ``error``.

    Args:
        error: what the stage raised. Anything outside the tree of ``worker.domain.errors`` counts as ``internal_error``.
        attempts: how many attempts the document has spent before this one.
        jitter: a random number from 0 to 1.
    """
    if isinstance(error, Unsupported):
        return GiveUp(Status.UNSUPPORTED, error.code, error.message)
    if isinstance(error, NoText):
        return GiveUp(Status.NO_TEXT, error.code, error.message)
    if isinstance(error, PermanentError):
        return GiveUp(Status.FAILED, error.code, error.message)
    if isinstance(error, ProviderUnusable):
        return Park(_UNUSABLE_AFTER * (1 + jitter), error.code, error.message)
    if isinstance(error, BudgetSpent):
        return Park(min(error.seconds_left, _BUDGET_AFTER * (1 + jitter)), error.code, error.message)
    if isinstance(error, Throttled):
        return Park((error.retry_after or _THROTTLED_AFTER) * (1 + jitter / 4), error.code, error.message)
    if isinstance(error, Unavailable):
        after = _REFUSED_AFTER if error.code in _REFUSALS else _UNAVAILABLE_AFTER
        return Retry(after * (1 + jitter), error.code, error.message, spend=False)
    code, reason = _describe(error)
    if attempts + 1 >= MAX_ATTEMPTS:
        return GiveUp(Status.FAILED, code, reason)
    return Retry(backoff(attempts + 1, jitter), code, reason)


def _describe(error: BaseException) -> tuple[str, str]:
    if isinstance(error, IngestError):
        return error.code, error.message
    if isinstance(error, MemoryError):
        return "memory", "the worker ran out of memory"
    # Only the type: the text of a foreign exception may quote the document.
    return "internal_error", f"unexpected {type(error).__name__}; the worker's log has the traceback"
