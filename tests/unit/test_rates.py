"""When a request may be sent under a limit a minute, and how many tokens it is expected to take."""

from __future__ import annotations

import heapq
import random

import pytest

from tests.support.provider_limits import ALGORITHMS, Limits
from worker.domain.rates import LEAST_RATIO, Buckets, Rates, TokenRatio

FAR = 1e9


def simulate(limits: Limits, rates: Rates, sizes: tuple[int, int], minutes: float = 20, senders: int = 8) -> tuple[float, int]:
    """Senders that book, wait, send and go on. Gives the used share of the limit that binds, and how many were refused."""
    choose, buckets = random.Random(1), Buckets()
    taken = {"requests": 0, "tokens": 0}
    refused = 0
    events = [(0.0, number, 0) for number in range(senders)]  # when, who, the tokens that are sent then
    while events[0][0] < minutes * 60:
        now, who, tokens = heapq.heappop(events)
        if tokens:
            if limits.take(tokens, now) is None:
                taken["requests"] += 1
                taken["tokens"] += tokens
            else:
                refused += 1
        tokens = choose.randint(*sizes)
        wait = buckets.reserve(rates, now + 0.2, tokens, FAR)
        heapq.heappush(events, (now + 0.2 + wait, who, tokens))
    shares = [taken[unit] / (limits.limit(unit) * minutes) for unit in ("requests", "tokens") if limits.limit(unit)]
    return max(shares), refused


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("sizes", [(1, 100), (50, 3000), (3000, 4000)])
def test_the_rate_is_reached_and_nothing_is_refused_however_the_provider_counts(algorithm: str, sizes: tuple[int, int]) -> None:
    share, refused = simulate(Limits(60, 200_000, algorithm), Rates.of(60, 200_000), sizes)
    assert refused == 0
    assert 0.97 <= share <= 0.99


def test_nothing_is_refused_where_a_bucket_holds_no_more_than_a_second() -> None:
    share, refused = simulate(Limits(600, None, burst=1 / 60), Rates.of(600, None), (1, 100))
    assert (refused, share >= 0.97) == (0, True)


def test_requests_of_a_third_of_the_limit_reach_the_rate_of_a_bucket() -> None:
    share, refused = simulate(Limits(60, 200_000), Rates.of(60, 200_000), (65_000, 72_000))
    assert refused == 0
    assert 0.95 <= share <= 1.02


def test_a_few_requests_a_minute_are_spread_over_it() -> None:
    buckets, rates = Buckets(), Rates.of(3, None)
    waits = [buckets.reserve(rates, 0, 0, FAR) for _ in range(3)]
    assert waits == pytest.approx([0, 20.4, 40.8], abs=0.1)


def test_what_is_larger_than_the_burst_passes_alone() -> None:
    buckets, rates = Buckets(), Rates.of(None, 60_000)
    assert buckets.reserve(rates, 0, 90_000, FAR) == 0
    # It has to be paid off: 90,000 tokens at 980 a second, of which a bucket of 1000 was there.
    assert buckets.reserve(rates, 0, 1, FAR) == pytest.approx((90_000 - 1000 + 1) / 980, abs=0.1)
    assert buckets.reserve(rates, 200, 90_000, FAR) == 0


def test_a_wait_that_is_too_long_books_nothing() -> None:
    buckets, rates = Buckets(), Rates.of(60, None)
    buckets.reserve(rates, 0, 0, FAR)
    before = buckets.requests_full_at
    assert buckets.reserve(rates, 0, 0, most_wait=0.5) == pytest.approx(1.02, abs=0.01)
    assert buckets.requests_full_at == before


def test_after_a_pause_they_go_on_one_after_another() -> None:
    buckets, rates = Buckets(), Rates.of(60, None)
    buckets.pause(10)
    buckets.pause(5)
    assert [buckets.reserve(rates, 0, 0, FAR) for _ in range(3)] == pytest.approx([10, 11.02, 12.04], abs=0.01)


def test_time_without_requests_is_worth_one_burst_and_no_more() -> None:
    buckets, rates = Buckets(), Rates.of(600, None)
    buckets.reserve(rates, 0, 0, FAR)
    a_moment = 1e-6
    assert sum(buckets.reserve(rates, 3600, 0, a_moment) < a_moment for _ in range(100)) == 10


def test_what_is_given_back_can_be_taken_again() -> None:
    buckets, rates = Buckets(), Rates.of(60, 60_000)
    for _ in range(5):
        buckets.reserve(rates, 0, 1000, FAR)
    before = Buckets(buckets.requests_full_at, buckets.tokens_full_at)
    buckets.reserve(rates, 0, 5000, FAR)
    buckets.take(rates, 0, -1, -5000)
    assert buckets.requests_full_at == pytest.approx(before.requests_full_at)
    assert buckets.tokens_full_at == pytest.approx(before.tokens_full_at)


def test_a_debt_may_be_kept_from_growing_and_is_never_cut() -> None:
    buckets, rates = Buckets(), Rates.of(None, 60_000)
    buckets.take(rates, 0, 1, 500_000, longest_debt=60)
    assert buckets.tokens_full_at == 60
    buckets.reserve(rates, 0, 98_000, FAR)
    debt = buckets.tokens_full_at
    assert debt > 150
    buckets.take(rates, 0, 1, 100, longest_debt=60)
    assert buckets.tokens_full_at == debt


def test_without_limits_nobody_waits() -> None:
    buckets, rates = Buckets(), Rates.of(None, None)
    assert [buckets.reserve(rates, 7, 10**9, 0) for _ in range(1000)] == [0] * 1000


def test_tokens_are_estimated_rather_too_high_until_they_were_counted() -> None:
    assert TokenRatio().tokens_of(4000) == 1400
    learned = TokenRatio().learned(60_000, 240_000)
    assert 1000 <= learned.tokens_of(4000) <= 1030
    assert TokenRatio().learned(900_000, 100_000).tokens_of(100) == 100, "never more than a token a byte"
    assert TokenRatio().learned(0, 10**9).tokens_of(6400) == 6400 * LEAST_RATIO, "and never for nothing"
    assert TokenRatio().tokens_of(1) == 1


def test_the_average_follows_when_the_texts_change() -> None:
    ratio = TokenRatio()
    for _ in range(100):
        ratio = ratio.learned(25_000, 100_000)
    assert ratio.tokens_of(100_000) == pytest.approx(25_000, rel=0.01)
    for _ in range(60):
        ratio = ratio.learned(45_000, 100_000)
    assert ratio.tokens_of(100_000) == pytest.approx(45_000, rel=0.05)
