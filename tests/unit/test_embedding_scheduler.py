"""In which order the local model reads the windows of its requests."""

from __future__ import annotations

from infra.local.embedding_scheduler import SMALL_IN_A_ROW, Scheduler


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


def test_long_requests_take_turns_so_a_late_short_one_ends_early() -> None:
    scheduler = Scheduler()
    scheduler.add(1, 1000)
    order(scheduler, 10)
    scheduler.add(2, 800)
    scheduler.add(3, 3)
    taken = order(scheduler, 12)
    assert taken == [1, 2, 3] * 3 + [1, 2, 1]


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
    assert turns == [SMALL_IN_A_ROW + place * (SMALL_IN_A_ROW + 1) for place in range(10)]


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
    assert order(scheduler, 3) == [3, 1, 2]
    scheduler.remove(1)
    scheduler.remove(1)
    assert order(scheduler) == [2, 2, 2, 2]
