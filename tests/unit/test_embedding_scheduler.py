"""In which order the local model reads the windows of its requests."""

from __future__ import annotations

from infra.local.embedding_scheduler import SHARE, Scheduler


def order(scheduler: Scheduler, most: int = 10_000) -> list[int]:
    taken: list[int] = []
    while len(taken) < most and (request := scheduler.take()) is not None:
        taken.append(request)
    return taken


def test_a_query_goes_before_every_long_request() -> None:
    scheduler = Scheduler()
    scheduler.add(1, 100)
    assert order(scheduler, 2) == [1, 1]
    scheduler.add(2, 100)
    scheduler.add(3, 1)
    assert scheduler.take() == 3


def test_queries_are_served_in_the_order_in_which_they_came() -> None:
    scheduler = Scheduler()
    for request in (4, 2, 9):
        scheduler.add(request, 1)
    assert order(scheduler) == [4, 2, 9]


def test_a_late_note_does_not_wait_behind_a_document() -> None:
    scheduler = Scheduler()
    scheduler.add(1, 1000)
    order(scheduler, 2 * SHARE)
    scheduler.add(2, 800)
    scheduler.add(3, 6)
    assert order(scheduler, 8) == [3, 3, 3, 1, 3, 3, 3, 1]
    assert scheduler.take() == 2


def test_of_two_like_requests_one_is_answered_in_half_of_the_time() -> None:
    scheduler = Scheduler()
    scheduler.add(1, 60)
    scheduler.add(2, 60)
    taken = order(scheduler)
    assert taken == [1] * 60 + [2] * 60


def test_a_stream_of_notes_leaves_a_document_its_share() -> None:
    scheduler = Scheduler()
    scheduler.add(0, 1000)
    taken = []
    for note in range(1, 201):
        scheduler.add(note, 2)
        taken.append(scheduler.take())
    assert [place for place, request in enumerate(taken) if request == 0] == list(range(SHARE - 1, 200, SHARE))


def test_a_stream_of_queries_leaves_a_long_request_its_share() -> None:
    scheduler = Scheduler()
    scheduler.add(0, 10)
    taken = []
    for query in range(1, 201):
        # There is always another query waiting.
        scheduler.add(1000 + query, 1)
        scheduler.add(2000 + query, 1)
        taken.append(scheduler.take())
    turns = [place for place, request in enumerate(taken) if request == 0]
    assert turns == [SHARE - 1 + place * SHARE for place in range(10)]


def test_queries_alone_lose_no_step_to_the_share_of_long_requests() -> None:
    scheduler = Scheduler()
    for query in range(20):
        scheduler.add(query, 1)
    assert order(scheduler) == list(range(20))
    assert scheduler.take() is None


def test_a_removed_request_gets_no_further_step() -> None:
    scheduler = Scheduler()
    scheduler.add(1, 5)
    scheduler.add(2, 5)
    scheduler.add(3, 1)
    assert order(scheduler, 3) == [3, 1, 1]
    scheduler.remove(1)
    scheduler.remove(1)
    assert order(scheduler) == [2, 2, 2, 2, 2]
    scheduler.add(4, 1)
    scheduler.remove(4)
    assert scheduler.take() is None
