"""How far the embedding of some documents is, from one look at their rows to the next."""

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

# Seconds over which the rate is measured; how often the local model server is asked; and how soon again if it does not answer.
_WINDOW, _ASK_EVERY, _ASK_AGAIN_AFTER = 30.0, 5.0, 60.0
# How `waits_for` begins where a closed gate holds documents back (worker.services.documents).
_GATES = ("the provider (", "the next day (")


@dataclass(slots=True)
class _Counted:
    generation: int
    embedded: int
    total: int


class ChunkProgress:
    """Adds up the chunks of documents that it is shown again and again, those that are finished meanwhile included.

    ``embedded`` and ``total`` are the chunks with a vector and all chunks; a document counts from when its chunks are known.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._documents: dict[UUID, _Counted] = {}
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
        """Chunks that got a vector per second, over the last 30 s; None before the first did."""
        if len(self._seen) < 2:
            return None
        (began, before), (ended, now) = self._seen[0], self._seen[-1]
        return (now - before) / (ended - began) if now > before and ended > began else None

    def look(self, rows: Iterable[DocumentStatus]) -> None:
        """Take the rows as they are now. Rows without counts of chunks leave what was known of them."""
        waits: Counter[str] = Counter()
        for row in rows:
            if row.status not in TERMINAL and row.waits_for:
                waits[row.waits_for] += 1
            before = self._documents.get(row.document_id)
            if row.chunks_total is not None:
                self._take(row.document_id, row.generation, row.chunks_embedded, row.chunks_total, before)
            elif before is not None and row.status in TERMINAL:
                # What failed or was removed has nothing to go either.
                done = before.total if row.status is Status.INDEXED else before.embedded
                self._take(row.document_id, before.generation, done, done, before)
        self._waits = waits
        now = self._clock()
        self._seen.append((now, self._new))
        while self._seen[0][0] < now - _WINDOW:
            self._seen.popleft()

    def _take(self, document_id: UUID, generation: int, embedded: int | None, total: int, before: _Counted | None) -> None:
        known = before.embedded if before is not None and before.generation == generation else 0
        number = known if embedded is None else embedded
        if before is not None:
            # What had a vector at the first look was not made while we looked.
            self._new += max(0, number - known)
        self._documents[document_id] = _Counted(generation, number, total)

    def sentence(self) -> str | None:
        """What the documents wait for, in words; None where nothing is known to say."""
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
