"""However requests come and leave, the scheduler gives each exactly the steps that it needs."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from infra.local.embedding_scheduler import Scheduler

# How many windows a new request has; 0: the next step is taken; -1: the oldest request leaves.
EVENTS = st.lists(st.integers(-1, 6), max_size=200)


@given(EVENTS)
def test_every_window_is_read_once_and_none_of_a_request_that_left(events: list[int]) -> None:
    scheduler = Scheduler()
    windows: dict[int, int] = {}
    taken: Counter[int | None] = Counter()
    left: set[int] = set()
    for number, event in enumerate(events):
        if event > 0:
            windows[number] = event
            scheduler.add(number, event)
        elif event == 0:
            request = scheduler.take()
            assert request not in left
            assert (request is None) == all(taken[known] == count for known, count in windows.items() if known not in left)
            taken[request] += 1
        elif windows.keys() - left:
            oldest = min(windows.keys() - left)
            left.add(oldest)
            scheduler.remove(oldest)
    while (request := scheduler.take()) is not None:
        assert request not in left
        taken[request] += 1
    for known, count in windows.items():
        assert taken[known] <= count if known in left else taken[known] == count
