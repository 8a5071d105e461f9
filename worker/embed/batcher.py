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

from worker.embed.request_size import Limits

# The most texts that a request takes from one document before the next document's turn.
_QUANTUM = 32


@dataclass(slots=True)
class Entry:
    """A text that waits, or is in a request. ``owner`` is the caller that submitted it first, which is charged for it.

    ``most_beside`` is how many texts a request with this one may have; None sets no limit of its own. ``work`` counts in
    ``strikes`` how often a request failed because of this text alone.
    """

    digest: bytes
    text: str
    size: int  # UTF-8 bytes
    owner: Hashable
    tickets: list[Ticket] = field(default_factory=list)
    sent: bool = False
    most_beside: int | None = None
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """Result of ``work`` for a text that goes into another request, of at most ``most`` texts (None: no limit)."""

    most: int | None = None


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
    """Requests of texts that several callers have submitted.

    Args:
        admit: waits until another request of so many bytes may be sent, and gives the right to do so. It is asked before the
            texts are chosen: where it takes long, more of them come together.
        work: does a request, and gives by digest what is wrong with some of its texts, or ``Again``. What ``admit`` or ``work``
            raises concerns all texts of the request.
        limits: what the next request may have; asked anew for each one.
        in_flight: requests at a time, whatever ``limits`` says. So many threads are made when first needed, and end with the
            process.
        linger: seconds that a request which is not full waits for more texts.
    """

    def __init__(
        self,
        admit: Callable[[int], _P],
        work: Callable[[Sequence[Entry], _P], Mapping[bytes, Exception | Again]],
        limits: Callable[[], Limits],
        in_flight: int,
        linger: float = 0.01,
    ) -> None:
        self._admit, self._work, self._limits = admit, work, limits
        self._in_flight, self._linger = in_flight, linger
        self._busy = 0
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
            results: Mapping[bytes, Exception | Again]
            try:
                with self._gathering:
                    size = self._wait_for_texts()
                    try:
                        permit = self._admit(size)
                    finally:
                        with self._changed:
                            batch = self._take()
                if batch:
                    results = self._work(batch, permit)
                else:
                    permit.cancel()
                    continue
            except BaseException as error:  # noqa: BLE001 - whoever waits for these texts raises it; nobody else would
                failure = error if isinstance(error, Exception) else RuntimeError(f"a request ended by {type(error).__name__}")
                results = {entry.digest: failure for entry in batch}
            for event in self._settle(batch, results):
                event.set()

    def _settle(self, batch: Sequence[Entry], results: Mapping[bytes, Exception | Again]) -> list[threading.Event]:
        """Tell the tickets what became of the texts, and queue those that are asked for again. Returns whom to wake."""
        woken: dict[int, threading.Event] = {}
        with self._changed:
            self._busy -= 1 if batch else 0
            for entry in reversed(batch):
                result = results.get(entry.digest)
                if isinstance(result, Again) and entry.tickets:
                    entry.sent, entry.most_beside = False, result.most
                    # Send this text before its owner's other texts, because its result also helps to size their requests.
                    self._queues.setdefault(entry.owner, deque()).appendleft(entry)
                    self._waiting += 1
                    self._waiting_bytes += entry.size
                    continue
                del self._entries[entry.digest]
                for ticket in entry.tickets:
                    ticket.open -= 1
                    if isinstance(result, Exception):
                        ticket.failures[entry.digest] = result
                    woken[id(ticket)] = ticket.woken
            self._changed.notify_all()
        return list(woken.values())

    def _wait_for_texts(self) -> int:
        """Wait until there is a text and a request may go out, and a little longer. Returns about how many bytes it will have."""
        with self._changed:
            while not self._waiting or self._busy >= min(self._in_flight, self._limits().in_flight):
                self._changed.wait()
            limits = self._limits()
            end = time.monotonic() + self._linger
            while self._waiting < limits.texts and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return min(self._waiting_bytes * min(self._waiting, limits.texts) // max(1, self._waiting), limits.size)

    def _take(self) -> list[Entry]:
        limits = self._limits()
        batch: list[Entry] = []
        size, most = 0, limits.texts
        # Take so few texts per document that every waiting document is in the request, if there is room for that many.
        quantum = max(1, min(_QUANTUM, limits.texts // max(1, len(self._queues))))
        served: set[Hashable] = set()
        passed_over: dict[Hashable, None] = {}
        while len(passed_over) < len(self._queues) and len(batch) < most:
            owner, queue = next(iter(self._queues.items()))
            taken = 0
            while queue and taken < quantum:
                entry = queue[0]
                if entry.tickets:
                    allowed = most if entry.most_beside is None else min(most, entry.most_beside)
                    if batch and (len(batch) >= allowed or size + entry.size > limits.size):
                        passed_over[owner] = None
                        break
                    most, size, taken = allowed, size + entry.size, taken + 1
                    entry.sent = True
                    batch.append(entry)
                    served.add(owner)
                else:
                    del self._entries[entry.digest]
                queue.popleft()
                self._waiting -= 1
                self._waiting_bytes -= entry.size
            self._queues.move_to_end(owner)
            if not queue:
                del self._queues[owner]
        # A document whose next text had no room is the first one in the next request.
        for owner in reversed([owner for owner in passed_over if owner not in served]):
            self._queues.move_to_end(owner, last=False)
        self._busy += 1 if batch else 0
        return batch
