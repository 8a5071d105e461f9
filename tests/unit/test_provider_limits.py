"""The test provider's limits a minute, and how it tells of them."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime

import pytest

from tests.support.provider_limits import ALGORITHMS, Limits, duration, meter, state_headers, wait_headers


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_client_that_comes_again_when_it_is_told_gets_the_whole_limit_and_never_more(algorithm: str) -> None:
    limits = Limits(requests=60, tokens=10_000, algorithm=algorithm, minute=2.0)
    now, taken = 0.0, 0
    while now < 20:
        refusal = limits.take(250, now)
        if refusal is None:
            taken += 250
        else:
            assert refusal.unit == "tokens"
            now += refusal.wait + 1e-6
    # The first minute's limit may be used at once.
    assert 100_000 <= taken <= 111_000


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_wait_that_is_told_is_enough_and_no_less_would_do(algorithm: str) -> None:
    one = meter(algorithm, 10, 60)
    for now in (1.0, 2.0, 7.0):
        one.take(3, now)
    wait = one.wait(5, 7.5)
    assert wait > 0
    assert one.wait(5, 7.5 + wait * 0.99) > 0
    assert one.wait(5, 7.5 + wait) == 0


def test_a_fixed_window_lets_twice_the_limit_pass_about_its_end_and_the_others_do_not() -> None:
    let_in = {}
    for algorithm in ALGORITHMS:
        limits = Limits(requests=10, algorithm=algorithm, minute=60)
        let_in[algorithm] = sum(limits.take(1, now) is None for now in [59.9] * 15 + [60.1] * 15)
    assert let_in == {"bucket": 10, "window": 20, "sliding": 10}


def test_a_small_burst_spreads_the_requests() -> None:
    limits = Limits(requests=60, minute=60, burst=1 / 60)
    assert [limits.take(1, now) is None for now in (0.0, 0.5, 1.0, 1.5, 2.0)] == [True, False, True, False, True]


def test_what_is_refused_by_one_limit_takes_nothing_from_the_other() -> None:
    limits = Limits(requests=2, tokens=100)
    assert limits.take(90, 0) is None
    refusal = limits.take(20, 0)
    assert refusal is not None
    assert (refusal.unit, refusal.limit, refusal.used, refusal.requested) == ("tokens", 100, 90, 20)
    assert limits.take(10, 0) is None


def test_where_refusals_are_charged_hammering_keeps_the_door_shut() -> None:
    limits = Limits(requests=60, minute=60, charge_refused=True)
    assert sum(limits.take(1, 0.0) is None for _ in range(60)) == 60
    assert all(limits.take(1, number / 10) is not None for number in range(1, 100))


def test_a_request_over_the_whole_limit_never_fits() -> None:
    for algorithm in ALGORITHMS:
        refusal = Limits(tokens=100, algorithm=algorithm).take(101, 0)
        assert refusal is not None
        assert math.isinf(refusal.wait)


def test_without_limits_everything_fits_and_no_header_tells_of_any() -> None:
    limits = Limits()
    assert limits.take(10**9, 0) is None
    assert state_headers(limits, "full", 0) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.012, "12ms"), (1, "1s"), (1.2, "1.2s"), (59.999, "59.999s"), (360, "6m0s"), (90.5, "1m30.5s"),
        (3723.5, "1h2m3.5s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_headers_of_the_state_are_those_of_openai() -> None:
    limits = Limits(requests=60, tokens=6000)
    limits.take(600, 0)
    assert state_headers(limits, "full", 0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5400",
        "x-ratelimit-reset-tokens": "6s",
    }
    assert state_headers(limits, "retry-after", 0) == state_headers(limits, "none", 0) == {}
    assert set(state_headers(limits, "garbage", 0)) == set(state_headers(limits, "full", 0))


def test_the_wait_is_told_as_asked_for() -> None:
    assert wait_headers(1.2, 60, "full", 0) == {"retry-after": "2", "retry-after-ms": "1200"}
    assert wait_headers(1.2, 60, "retry-after", 0) == {"retry-after": "2"}
    assert wait_headers(1.2, 60, "none", 0) == {}
    assert parsedate_to_datetime(wait_headers(1.2, 60, "date", 1000)["retry-after"]).timestamp() == 1002
    assert wait_headers(math.inf, 60, "full", 0) == {}


def test_in_a_short_minute_seconds_are_short_too() -> None:
    assert wait_headers(0.05, 2, "full", 0) == {"retry-after": "0.067", "retry-after-ms": "50"}
