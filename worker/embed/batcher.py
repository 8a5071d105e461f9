"""Texts of many documents, gathered into requests: shared by all threads of a process, several requests in flight.

Whoever has texts submits them and waits on a ``Ticket``. A request takes from each waiting document in turn, so that a long one
keeps no short one waiting; a text that several documents have is asked for once. What a request does is the caller's ``work``:
this module knows threads, and neither the provider nor the database.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

# Texts that a request takes of one document before it is another's turn.
_QUANTUM = 32


@dataclass(slots=True)
class Entry:
    """A text that waits, or is on its way. ``owner`` is who submitted it first: the one that pays for it."""

    digest: bytes
    text: str
    size: int  # UTF-8 bytes
    owner: Hashable
    tickets: list[Ticket] = field(default_factory=list)
    sent: bool = False


class Permit(Protocol):
    """The right to send a request, which may be given back."""

    def cancel(self) -> None: ...


_P = TypeVar("_P", bound=Permit)


@dataclass(slots=True, eq=False)
class Ticket:
    """Texts that one caller waits for: of those ``submitted``, ``open`` are not settled yet. ``failures``: by digest."""

    owner: Hashable
    woken: threading.Event
    submitted: int = 0
    open: int = 0
    failures: dict[bytes, Exception] = field(default_factory=dict)

    def wait(self, seconds: float) -> None:
        """Return when some of the texts were settled since the last call, or after ``seconds``."""
        self.woken.wait(seconds)
        self.woken.clear()

    def left(self) -> int:
        """How many of the texts are not settled yet.

        Raises:
            Exception: what went wrong with one of them.
        """
        for error in self.failures.values():
            raise error
        return self.open


class Batcher(Generic[_P]):
    """``max_inputs`` texts and ``max_bytes`` UTF-8 bytes in a request, at most, and ``in_flight`` requests at a time.

    ``admit`` waits until another request of so many bytes may be sent, and gives the right to do so. It is asked before the texts
    are chosen: where it takes long, more of them come together. ``work`` does a request: it gives, by digest, what is wrong with
    some of its texts, and what either of them raises concerns them all. ``linger``: seconds that a request which is not full
    waits for more texts. The threads are made when first needed, and end with the process.
    """

    def __init__(
        self,
        admit: Callable[[int], _P],
        work: Callable[[Sequence[Entry], _P], Mapping[bytes, Exception]],
        max_inputs: int,
        max_bytes: int,
        in_flight: int,
        linger: float = 0.01,
    ) -> None:
        self._admit, self._work, self._max_inputs, self._max_bytes = admit, work, max_inputs, max_bytes
        self._in_flight, self._linger = in_flight, linger
        self._changed = threading.Condition()
        self._entries: dict[bytes, Entry] = {}
        self._queues: OrderedDict[Hashable, deque[Entry]] = OrderedDict()
        self._waiting = self._waiting_bytes = 0
        self._threads = 0
        # One thread gathers at a time: else each idle one would take a few texts of what could be one request.
        self._gathering = threading.Lock()

    def submit(self, owner: Hashable, texts: Sequence[tuple[bytes, str]], woken: threading.Event | None = None) -> Ticket:
        """Ask for the vectors of ``texts``, each with its digest. ``owner``: whose turn it is, and who pays. ``woken`` is set
        whenever some of them are settled: one event for all tickets of a caller, and no thread is woken for another's."""
        ticket = Ticket(owner, woken or threading.Event())
        with self._changed:
            for digest, text in texts:
                entry = self._entries.get(digest)
                if entry is None:
                    entry = self._entries[digest] = Entry(digest, text, len(text.encode()), owner)
                    self._queues.setdefault(owner, deque()).append(entry)
                    self._waiting += 1
                    self._waiting_bytes += entry.size
                if ticket not in entry.tickets:
                    entry.tickets.append(ticket)
                    ticket.open += 1
            ticket.submitted = ticket.open
            while self._threads < min(self._in_flight, self._waiting):
                self._threads += 1
                threading.Thread(target=self._run, name=f"embedding-request-{self._threads}", daemon=True).start()
            self._changed.notify_all()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Wait for nothing more: texts that nobody else wants and that are not on their way are not asked for."""
        with self._changed:
            ticket.open = 0
            # An entry that nobody waits for is left out when its turn comes.
            for entry in self._entries.values():
                if ticket in entry.tickets:
                    entry.tickets.remove(ticket)

    def withdraw(self, ticket: Ticket) -> int:
        """Ask for nothing more of it; what is on its way stays open, and is settled as ever. Returns how many it gave up."""
        with self._changed:
            unsent = [entry for entry in self._entries.values() if ticket in entry.tickets and not entry.sent]
            for entry in unsent:
                entry.tickets.remove(ticket)
            ticket.open -= len(unsent)
            ticket.submitted -= len(unsent)
            return len(unsent)

    def _run(self) -> None:
        while True:
            batch: list[Entry] = []
            failures: Mapping[bytes, Exception]
            try:
                with self._gathering:
                    size = self._wait_for_texts()
                    try:
                        permit = self._admit(size)
                    finally:
                        with self._changed:
                            batch = self._take()
                if batch:
                    failures = self._work(batch, permit)
                else:
                    permit.cancel()
                    continue
            except BaseException as error:  # noqa: BLE001 - whoever waits for these texts raises it; nobody else would
                failure = error if isinstance(error, Exception) else RuntimeError(f"a request ended by {type(error).__name__}")
                failures = {entry.digest: failure for entry in batch}
            with self._changed:
                for entry in batch:
                    del self._entries[entry.digest]
                    for ticket in entry.tickets:
                        ticket.open -= 1
                        if entry.digest in failures:
                            ticket.failures[entry.digest] = failures[entry.digest]
                woken = {id(ticket): ticket.woken for entry in batch for ticket in entry.tickets}
            for event in woken.values():
                event.set()

    def _wait_for_texts(self) -> int:
        """Until there is one, and a little longer. Returns about how many bytes the next request will have."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            end = time.monotonic() + self._linger
            while self._waiting < self._max_inputs and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return min(self._waiting_bytes * min(self._waiting, self._max_inputs) // max(1, self._waiting), self._max_bytes)

    def _take(self) -> list[Entry]:
        batch: list[Entry] = []
        size = 0
        while self._queues:
            owner, queue = next(iter(self._queues.items()))
            for _ in range(min(_QUANTUM, len(queue))):
                entry = queue[0]
                if entry.tickets and batch and (len(batch) == self._max_inputs or size + entry.size > self._max_bytes):
                    return batch
                queue.popleft()
                self._waiting -= 1
                self._waiting_bytes -= entry.size
                if entry.tickets:
                    entry.sent = True
                    batch.append(entry)
                    size += entry.size
                else:
                    del self._entries[entry.digest]
            self._queues.move_to_end(owner)
            if not queue:
                del self._queues[owner]
        return batch
