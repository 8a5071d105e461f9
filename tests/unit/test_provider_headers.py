"""What answers say of limits and waits, in the ways that providers write it."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from tests.support.provider_limits import Limits, state_headers, wait_headers
from tests.support.provider_limits import duration as written
from worker.domain.provider_headers import LONGEST_WAIT, duration, limit_of, wait_of_answer, wait_of_refusal


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("12ms", 0.012), ("0s", 0), ("1h2m3.5s", 3723.5), ("2m59.56s", 179.56),
        ("7.66s", 7.66), ("1d2h", 93_600), ("500µs", 0.0005), ("17", 17), ("0.25", 0.25), (" 1s ", 1),
        ("", None), ("6m0", None), ("later", None), ("-1", None), ("-1s", None), ("NaN", None), ("1e999", None), ("s", None),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.9, 1.0, 59.999, 60.0, 359.5, 3600.0, 86_399.0])
def test_durations_of_the_tests_provider_are_read_as_they_were_meant(seconds: float) -> None:
    assert duration(written(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "limit"), [("60", 60), ("-1", None), ("0", None), ("many", None), ("1e999", None)])
def test_a_limit_that_is_no_limit_counts_as_not_told(text: str, limit: float | None) -> None:
    assert limit_of("requests", {"x-ratelimit-limit-requests": text}) == limit
    assert limit_of("tokens", {"x-ratelimit-limit-requests": text}) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after": "3", "retry-after-ms": "2100"}, 2.1),
        ({"retry-after": formatdate(1_000_020, usegmt=True)}, 20),
        ({"retry-after": formatdate(999_000, usegmt=True)}, None),
        ({"retry-after": "999999999"}, LONGEST_WAIT),
        ({"retry-after": "soon", "retry-after-ms": "NaN"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
        (
            {
                "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "57s",
                "x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s",
            },
            360,
        ),
        ({"retry-after": "1", "x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "0",
          "x-ratelimit-reset-tokens": "6m0s"}, 1),
    ],
)  # fmt: skip
def test_the_wait_after_a_refusal(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_of_refusal(headers, wall=1_000_000) == seconds


@pytest.mark.parametrize("style", ["full", "retry-after", "date"])
def test_the_wait_that_the_tests_provider_asks_for_is_long_enough(style: str) -> None:
    seconds = wait_of_refusal(wait_headers(2.5, 60, style, 1_000_000), 1_000_000)
    assert seconds is not None
    assert 2.5 <= seconds <= 3.5


def test_garbage_says_nothing() -> None:
    limits = Limits(60, 1000)
    headers = {**state_headers(limits, "garbage", 0), **wait_headers(3, 60, "garbage", 0)}
    assert wait_of_refusal(headers, 0) is None
    assert wait_of_answer(headers, 60) == 0
    assert limit_of("requests", headers) is None
    assert limit_of("tokens", headers) is None


def test_a_window_that_is_used_up_is_waited_for_and_a_bucket_that_refills_is_not() -> None:
    waits = {}
    for algorithm in ("window", "bucket"):
        limits = Limits(requests=4, algorithm=algorithm)
        for _ in range(4):
            limits.take(1, 40.0)
        waits[algorithm] = wait_of_answer(state_headers(limits, "full", 40.0), 60)
    assert waits == {"window": 20, "bucket": 0}


def test_where_something_remains_nobody_waits() -> None:
    limits = Limits(requests=4, algorithm="window")
    limits.take(1, 40.0)
    assert wait_of_answer(state_headers(limits, "full", 40.0), 60) == 0
