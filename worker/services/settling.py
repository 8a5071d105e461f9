"""How a failed stage ends: what its error means is decided, and written to the row."""

from __future__ import annotations

import random
import time
import traceback
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy.exc import DBAPIError

from worker import telemetry
from worker.domain.document import Status
from worker.domain.errors import IngestError, TransientError, Unavailable
from worker.domain.retrying import Decision, GiveUp, Park, Retry, decide
from worker.objects import ObjectFacts, RejectedUnread, UnsupportedUnread
from worker.settings import Settings
from worker.store import chunks, gates, leases
from worker.store.leases import Lease
from worker.store.models import EMBEDDING_GATE
from worker.store.session import is_away, is_gone, transaction

log = telemetry.get_logger(__name__)


class StageFailed(Exception):
    """A stage ended with ``error``, and the row says what follows: ``retry_in`` seconds, or nothing (a terminal status)."""

    def __init__(self, error: BaseException, status: Status, code: str, retry_in: float | None) -> None:
        super().__init__(f"{code}: {error}")
        self.error = error
        self.status = status
        self.code = code
        self.retry_in = retry_in


def settle(lease: Lease, settings: Settings, error: Exception, read: ObjectFacts | None) -> StageFailed:
    """Write down what follows ``error``, and say it. ``read`` is the object that it was about, where that is known.

    PostgreSQL may just be starting again: that is waited for, as long as a lease lasts, for else this one had to run out.

    Raises:
        LeaseLost: the row is not ours to write any more.
        DBAPIError: PostgreSQL stays away.
    """
    error = _in_our_terms(error)
    decision = decide(error, lease.attempts, random.random())  # noqa: S311 - jitter, not a secret
    about = error.facts if isinstance(error, RejectedUnread | UnsupportedUnread) else read
    facts = object_columns(about) if about is not None else {}
    log.warning(
        "stage failed",
        extra={
            "code": decision.code,
            "decision": type(decision).__name__,
            "attempt": lease.attempts + 1,
            # Where, and not what: the text of a foreign exception may quote the document.
            "frames": None if isinstance(error, IngestError) else frames(error),
        },
    )
    end = time.monotonic() + settings.lease
    while True:
        try:
            return _write(lease, settings, error, decision, facts)
        except DBAPIError as trouble:
            if not is_away(trouble) or time.monotonic() > end:
                raise
            time.sleep(0.5)


def _write(lease: Lease, settings: Settings, error: Exception, decision: Decision, facts: dict[str, Any]) -> StageFailed:
    with transaction(settings.database_url) as connection:
        match decision:
            case GiveUp(status, code, reason):
                leases.fence(connection, lease)
                if status is Status.FAILED:
                    # What an earlier version said is served on; what this one has stored so far will never be.
                    chunks.replace_unserved(connection, lease.document_id, lease.active_generation)
                else:
                    # The object is sound and has no text: what an earlier version said is not in the bucket any more.
                    chunks.withdraw(connection, lease.document_id)
                leases.finish(
                    connection,
                    lease,
                    status,
                    settings.requeue_after,
                    error_code=code,
                    error=reason,
                    attempts=lease.attempts + 1,
                    **facts,
                )
                return StageFailed(error, status, code, None)
            case Park(after, code, reason):
                gates.close(connection, EMBEDDING_GATE, after, code, reason)
                ended = leases.hand_back(connection, lease, after=after, spend=False, error_code=code, error=reason)
                return StageFailed(error, ended.status, code, after)
            case Retry(after, code, reason, spend):
                ended = leases.hand_back(connection, lease, after=after, spend=spend, error_code=code, error=reason)
                return StageFailed(error, ended.status, code, after)


def _in_our_terms(error: Exception) -> Exception:
    """The error of the tree that says what a foreign one means; others stay what they are."""
    cause: BaseException | None = error
    while cause is not None:
        # Raised anywhere, in the middle of a statement too, whose own complaint then hides it.
        if isinstance(cause, SoftTimeLimitExceeded):
            return TransientError("timeout", "the stage took longer than a task may")
        cause = cause.__cause__ or cause.__context__
    if is_away(error):
        return Unavailable("database_unavailable", f"PostgreSQL could not go on: {type(error).__name__}")
    if is_gone(error):
        return Unavailable("profile_dropped", "the vectors' table was dropped meanwhile: the next try asks which profile serves")
    return error


def frames(error: BaseException) -> list[str]:
    """Where it was raised, innermost last."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]


def object_columns(facts: ObjectFacts) -> dict[str, Any]:
    """The columns of ``documents`` that tell which object was read last."""
    return {
        "etag": facts.etag,
        "version_id": facts.version_id,
        "size": facts.size,
        "content_type": facts.content_type,
        "last_modified": facts.last_modified,
    }
