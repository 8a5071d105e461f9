"""The batcher: texts of many documents, gathered into few requests, each text once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pytest

from worker.embed.batcher import Again, Batcher, Entry, Ticket
from worker.embed.request_size import Limits


class Permit:
    """What a limiter would give."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Provider:
    """Notes each request; a request waits while ``closed``."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.open, self.admitted = threading.Event(), threading.Event()
        self.open.set()
        self.admitted.set()
        self.full: Exception | None = None
        self.sizes: list[int] = []
        self.permits: list[Permit] = []
        self.failures: dict[bytes, Exception] = {}
        self.error: Exception | None = None
        self.busy = self.most_busy = 0
        self._lock = threading.Lock()

    def admit(self, size: int) -> Permit:
        self.sizes.append(size)
        self.admitted.wait(10)
        if self.full is not None:
            raise self.full
        self.permits.append(Permit())
        return self.permits[-1]

    def __call__(self, batch: Sequence[Entry], permit: Permit) -> Mapping[bytes, Exception]:
        with self._lock:
            self.requests.append([entry.text for entry in batch])
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        self.open.wait(10)
        with self._lock:
            self.busy -= 1
        if self.error is not None:
            raise self.error
        return self.failures


def fixed(texts: int, size: int) -> Callable[[], Limits]:
    """Limits that stay."""
    return lambda: Limits(texts, size, in_flight=100)


def texts(*names: str) -> list[tuple[bytes, str]]:
    return [(name.encode(), name) for name in names]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def settle(batcher: Batcher, *tickets: Ticket) -> None:
    end = time.monotonic() + 10
    while any(ticket.left() for ticket in tickets):
        assert time.monotonic() < end
        tickets[0].wait(0.05)


@pytest.fixture
def provider() -> Provider:
    return Provider()


def test_texts_of_several_documents_share_a_request(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(10, 1000), in_flight=4, linger=0.2)
    tickets = [batcher.submit(owner, texts(f"{owner}1", f"{owner}2")) for owner in "abc"]
    settle(batcher, *tickets)
    assert [sorted(request) for request in provider.requests] == [["a1", "a2", "b1", "b2", "c1", "c2"]]


def test_a_full_request_waits_for_nobody(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(2, 1000), in_flight=1, linger=60)
    settle(batcher, batcher.submit("a", texts("1", "2", "3", "4")))
    assert provider.requests == [["1", "2"], ["3", "4"]]


def test_no_request_is_over_its_limits_but_one_text_may_be(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(3, 10), in_flight=1, linger=0)
    settle(batcher, batcher.submit("a", texts("aaaa", "bbbb", "cccc", "d", "e", "f", "g", "x" * 50, "h")))
    assert provider.requests == [["aaaa", "bbbb"], ["cccc", "d", "e"], ["f", "g"], ["x" * 50], ["h"]]


def test_a_text_of_two_documents_is_asked_for_once(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(10, 1000), in_flight=2, linger=0)
    provider.open.clear()
    first = batcher.submit("a", texts("same", "mine"))
    until(lambda: provider.requests)
    second = batcher.submit("b", texts("same"))  # on its way already
    assert (first.left(), second.left()) == (2, 1)
    provider.open.set()
    settle(batcher, first, second)
    assert provider.requests == [["same", "mine"]]


def test_so_many_requests_are_in_flight_and_no_more(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(1, 1000), in_flight=3, linger=0)
    provider.open.clear()
    ticket = batcher.submit("a", texts(*"123456789"))
    until(lambda: provider.busy == 3)
    time.sleep(0.05)
    provider.open.set()
    settle(batcher, ticket)
    assert (provider.most_busy, sorted(text for request in provider.requests for text in request)) == (3, list("123456789"))


def test_a_short_document_does_not_wait_behind_a_long_one(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(40, 100_000), in_flight=1, linger=0)
    provider.open.clear()
    long = batcher.submit("long", texts(*(f"long {number}" for number in range(500))))
    until(lambda: provider.requests)
    short = batcher.submit("short", texts("short"))
    provider.open.set()
    settle(batcher, long, short)
    assert ["short" in request for request in provider.requests].index(True) <= 2


def test_a_late_note_is_in_the_next_request_however_small_requests_are(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(2, 100_000), in_flight=1, linger=0)
    provider.open.clear()
    long = batcher.submit("long", texts(*(f"long {number}" for number in range(20))))
    until(lambda: provider.requests)
    note = batcher.submit("note", texts("note"))
    provider.open.set()
    settle(batcher, long, note)
    assert "note" in provider.requests[1]


def test_a_short_text_goes_into_a_request_that_is_too_full_for_a_long_one(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(8, 10), in_flight=1, linger=0)
    provider.open.clear()
    long = batcher.submit("long", texts(*(f"long {number}" for number in range(4))))
    until(lambda: provider.requests)
    other, note = batcher.submit("other", texts("a longer text")), batcher.submit("note", texts("note"))
    provider.open.set()
    settle(batcher, long, other, note)
    assert provider.requests == [["long 0"], ["long 1", "note"], ["a longer text"], ["long 2"], ["long 3"]]


def test_documents_take_turns_where_a_request_has_one_text(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(1, 100_000), in_flight=1, linger=0)
    provider.open.clear()
    tickets = [batcher.submit("a", texts("a1", "a2", "a3", "a4"))]
    until(lambda: provider.requests)
    tickets += [batcher.submit(owner, texts(f"{owner}1", f"{owner}2")) for owner in "bc"]
    provider.open.set()
    settle(batcher, *tickets)
    assert [request[0] for request in provider.requests] == ["a1", "a2", "b1", "c1", "a3", "b2", "c2", "a4"]


def test_a_limit_that_changes_counts_for_the_next_request(provider: Provider) -> None:
    now = [Limits(4, 100_000, 1)]
    batcher = Batcher(provider.admit, provider, lambda: now[0], in_flight=8, linger=0)
    provider.open.clear()
    ticket = batcher.submit("a", texts(*"123456789"))
    until(lambda: provider.requests)
    time.sleep(0.05)
    assert provider.busy == 1
    now[0] = Limits(1, 100_000, 3)
    provider.open.set()
    settle(batcher, ticket)
    assert [len(request) for request in provider.requests] == [4, 1, 1, 1, 1, 1]
    assert provider.most_busy <= 3


def test_a_text_that_comes_again_does_so_in_requests_as_small_as_was_said(provider: Provider) -> None:
    halves: list[list[str]] = []

    def work(batch: Sequence[Entry], permit: Permit) -> Mapping[bytes, Exception | Again]:
        halves.append([entry.text for entry in batch])
        if "bad" not in halves[-1]:
            return {}
        if len(batch) > 1:
            return {entry.digest: Again(len(batch) // 2) for entry in batch}
        batch[0].strikes += 1
        return {b"bad": ValueError("it is this one") if batch[0].strikes == 2 else Again(1)}

    batcher = Batcher(provider.admit, work, fixed(8, 100_000), in_flight=1, linger=0.1)
    good, bad = batcher.submit("good", texts(*"1234567")), batcher.submit("bad", texts("bad"))
    settle(batcher, good)
    with pytest.raises(ValueError, match="this one"):
        settle(batcher, bad)
    assert [len(half) for half in halves if "bad" in half] == [8, 4, 2, 1, 1]
    assert sum(len(half) for half in halves) <= 8 + 8 + 4 + 4 + 2


def test_what_comes_again_and_nobody_waits_for_any_more_is_not_asked_for(provider: Provider) -> None:
    asked: list[str] = []

    def work(batch: Sequence[Entry], permit: Permit) -> Mapping[bytes, Exception | Again]:
        asked.extend(entry.text for entry in batch)
        provider.open.wait(10)
        return {entry.digest: Again(1) for entry in batch if entry.text == "gone"}

    batcher = Batcher(provider.admit, work, fixed(8, 100_000), in_flight=1, linger=0)
    provider.open.clear()
    gone = batcher.submit("a", texts("gone"))
    until(lambda: asked)
    batcher.cancel(gone)
    kept = batcher.submit("b", texts("kept"))
    provider.open.set()
    settle(batcher, kept)
    assert asked == ["gone", "kept"]


def test_a_refused_text_is_its_own_document_s_trouble(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(10, 1000), in_flight=1, linger=0.1)
    provider.failures = {b"bad": ValueError("refused")}
    bad, good = batcher.submit("a", texts("bad", "fine")), batcher.submit("b", texts("good"))
    with pytest.raises(ValueError, match="refused"):
        settle(batcher, bad)
    settle(batcher, good)
    assert len(provider.requests) == 1


def test_what_a_whole_request_meets_all_of_its_documents_meet_and_the_next_goes_on(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(10, 1000), in_flight=1, linger=0.1)
    provider.error = OSError("away")
    tickets = [batcher.submit(owner, texts(owner)) for owner in "ab"]
    for ticket in tickets:
        with pytest.raises(OSError, match="away"):
            settle(batcher, ticket)
    provider.error = None
    settle(batcher, batcher.submit("a", texts("a")))
    assert len(provider.requests) == 2


def test_what_nobody_waits_for_any_more_is_not_asked_for(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(1, 1000), in_flight=1, linger=0)
    provider.open.clear()
    gone = batcher.submit("a", texts("1", "2", "3"))
    until(lambda: provider.requests)
    kept = batcher.submit("b", texts("3", "4"))
    batcher.cancel(gone)
    provider.open.set()
    settle(batcher, kept)
    assert (gone.left(), sorted(provider.requests)) == (0, [["1"], ["3"], ["4"]])


def test_while_a_request_waits_to_be_admitted_more_texts_join_it(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(10, 1000), in_flight=3, linger=0)
    provider.admitted.clear()
    tickets = [batcher.submit("a", texts("1"))]
    until(lambda: provider.sizes)
    tickets += [batcher.submit(owner, texts(owner)) for owner in "bcd"]
    provider.admitted.set()
    settle(batcher, *tickets)
    assert (provider.sizes[0], provider.requests) == (1, [["1", "b", "c", "d"]])


def test_where_no_request_is_admitted_the_texts_meet_that_error(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(10, 1000), in_flight=1, linger=0)
    provider.full = TimeoutError("booked up")
    with pytest.raises(TimeoutError, match="booked up"):
        settle(batcher, batcher.submit("a", texts("1")))
    provider.full = None
    settle(batcher, batcher.submit("a", texts("1")))
    assert provider.requests == [["1"]]


def test_a_permit_that_nobody_needs_any_more_is_given_back(provider: Provider) -> None:
    batcher = Batcher(provider.admit, provider, fixed(10, 1000), in_flight=1, linger=0)
    provider.admitted.clear()
    ticket = batcher.submit("a", texts("1"))
    until(lambda: provider.sizes)
    batcher.cancel(ticket)
    provider.admitted.set()
    until(lambda: provider.permits and provider.permits[0].cancelled)
    settle(batcher, batcher.submit("a", texts("2")))
    assert (provider.requests, provider.permits[1].cancelled) == ([["2"]], False)
