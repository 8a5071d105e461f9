"""Progress of embedding: how many chunks of some documents have a vector, how fast that goes, and what they wait for.

``step_display`` prints what a command itself does; this module prints nothing.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from infra.cli import local_model
from worker.domain.document import TERMINAL, Status

if TYPE_CHECKING:
    from infra.cli.local_model import LocalModelLoad
    from worker.services.documents import DocumentStatus
    from worker.settings import Settings

# Seconds: over which the rate is measured; between two questions to the local model server; and between them if it is silent.
_WINDOW, _ASK_EVERY, _ASK_AGAIN_AFTER = 30.0, 5.0, 60.0
# How `waits_for` begins for a document that a closed gate holds back (worker.services.documents).
_GATES = ("the provider (", "the next day (")


@dataclass(slots=True)
class _ChunkCounts:
    generation: int
    embedded: int
    total: int


class ChunkProgress:
    """Adds up the chunks of the documents whose rows it gets, again and again, by ``look``.

    ``embedded`` is the number of chunks with a vector, ``total`` that of all chunks. A document counts as soon as the number of
    its chunks is known, and still counts when it is done.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._documents: dict[UUID, _ChunkCounts] = {}
        self._seen: deque[tuple[float, int]] = deque()
        self._new = 0
        self._waits: Counter[str] = Counter()
        self._load: LocalModelLoad | None = None
        self._ask_at = clock()

    @property
    def embedded(self) -> int:
        return sum(counted.embedded for counted in self._documents.values())

    @property
    def total(self) -> int:
        return sum(counted.total for counted in self._documents.values())

    @property
    def to_go(self) -> int:
        return self.total - self.embedded

    @property
    def rate(self) -> float | None:
        """Chunks per second that got a vector in the last 30 s; None if none did."""
        if len(self._seen) < 2:
            return None
        (began, before), (ended, now) = self._seen[0], self._seen[-1]
        return (now - before) / (ended - began) if now > before and ended > began else None

    def look(self, rows: Iterable[DocumentStatus]) -> None:
        """Take the documents' rows as they are now. A row without counts of chunks keeps the counts that it had before."""
        waits: Counter[str] = Counter()
        for row in rows:
            if row.status not in TERMINAL and row.waits_for:
                waits[row.waits_for] += 1
            before = self._documents.get(row.document_id)
            if row.chunks_total is not None:
                self._take(row.document_id, row.generation, row.chunks_embedded, row.chunks_total, before)
            elif before is not None and row.status in TERMINAL:
                # A document that failed or was removed has no chunks to go: count only those with a vector.
                done = before.total if row.status is Status.INDEXED else before.embedded
                self._take(row.document_id, before.generation, done, done, before)
        self._waits = waits
        now = self._clock()
        self._seen.append((now, self._new))
        while self._seen[0][0] < now - _WINDOW:
            self._seen.popleft()

    def _take(self, document_id: UUID, generation: int, embedded: int | None, total: int, before: _ChunkCounts | None) -> None:
        known = before.embedded if before is not None and before.generation == generation else 0
        number = known if embedded is None else embedded
        if before is not None:
            # Chunks that had a vector at the first look do not count for the rate.
            self._new += max(0, number - known)
        self._documents[document_id] = _ChunkCounts(generation, number, total)

    def sentence(self) -> str | None:
        """Say what the documents wait for, or how fast they are embedded; None if neither is known."""
        held_up = next((waits for waits, _ in self._waits.most_common() if waits.startswith(_GATES)), None)
        if held_up is not None:
            return f"waiting for {held_up}"
        if self.to_go:
            busy = self._local_load()
            if busy is not None:
                return busy
            if self.rate is not None:
                return f"{self.rate:.1f} chunks/s, {self.to_go:,} to go"
        if self._waits:
            ((waits, _),) = self._waits.most_common(1)
            return f"waiting for {waits}"
        return None

    def _local_load(self) -> str | None:
        now = self._clock()
        if now >= self._ask_at:
            self._load = local_model.load(self._settings)
            self._ask_at = now + (_ASK_EVERY if self._load is not None else _ASK_AGAIN_AFTER)
        return None if self._load is None else self._load.sentence(self.to_go)
