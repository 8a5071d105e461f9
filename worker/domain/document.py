"""The life of a Document: its statuses and the moves between them. Nothing else in the project names a move.

``due_at`` is null exactly in the terminal statuses. What a waiting document waits for (a worker, a retry, a gate) is
read off its row, and is not one more status.
"""

from __future__ import annotations

from enum import StrEnum

from worker.contract import Stage


class Status(StrEnum):
    """Stored as text in ``documents.status``."""

    PENDING = "PENDING"
    EXTRACTING = "EXTRACTING"
    EXTRACTED = "EXTRACTED"
    EMBEDDING = "EMBEDDING"
    INDEXED = "INDEXED"
    FAILED = "FAILED"
    UNSUPPORTED = "UNSUPPORTED"
    NO_TEXT = "NO_TEXT"
    DELETED = "DELETED"


TERMINAL: frozenset[Status] = frozenset({Status.INDEXED, Status.FAILED, Status.UNSUPPORTED, Status.NO_TEXT, Status.DELETED})

# From each status, the statuses that may follow. A way back (EXTRACTING -> PENDING, EMBEDDING -> EXTRACTED) is a
# holder that hands back its work: a retry, a clean shutdown, a lost lease. A terminal row moves only to PENDING, when a
# newer generation is wanted. EXTRACTING becomes INDEXED where the bytes are those that are served.
TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.EXTRACTING}),
    Status.EXTRACTING: frozenset({Status.PENDING, Status.EXTRACTED}) | TERMINAL,
    Status.EXTRACTED: frozenset({Status.EMBEDDING, Status.PENDING}),
    Status.EMBEDDING: frozenset({Status.PENDING, Status.EXTRACTED, Status.INDEXED, Status.FAILED}),
    Status.INDEXED: frozenset({Status.PENDING}),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.UNSUPPORTED: frozenset({Status.PENDING}),
    Status.NO_TEXT: frozenset({Status.PENDING}),
    Status.DELETED: frozenset({Status.PENDING}),
}

# Which stage takes a document on from each status that waits, and the status that a leased one falls back to.
WAITING_FOR: dict[Status, Stage] = {Status.PENDING: Stage.EXTRACT, Status.EXTRACTED: Stage.EMBED}
HAND_BACK: dict[Status, Status] = {Status.EXTRACTING: Status.PENDING, Status.EMBEDDING: Status.EXTRACTED}


class InvalidTransition(RuntimeError):
    """A move that the table does not have: a defect of the caller, never of a document."""


def check_transition(current: Status, new: Status) -> Status:
    """Return ``new`` if ``current`` may become it.

    Raises:
        InvalidTransition: the table has no such move.
    """
    if new not in TRANSITIONS[current]:
        raise InvalidTransition(f"{current} cannot become {new}")
    return new
