"""Processes that share a provider account's limits through one Valkey."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
import redis

from tests.support.limited_senders import Job, Senders, send
from tests.support.provider import Provider
from tests.support.provider_server import ProviderProcess
from tests.support.valkey import start_valkey
from worker.domain.errors import Throttled
from worker.domain.rates import Buckets, Rates, TokenRatio
from worker.embed.rate_limit import RateLimiter

Make = Callable[..., RateLimiter]


@pytest.fixture(scope="module")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process, port = start_valkey(tmp_path_factory.mktemp("valkey"))
    yield f"redis://127.0.0.1:{port}/0"
    process.kill()
    process.wait()


@pytest.fixture
def url(valkey_url: str) -> str:
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    return valkey_url


@pytest.fixture
def make(url: str) -> Iterator[Make]:
    """Limiters of one account, as several processes have one each."""
    made: list[RateLimiter] = []

    def make(requests: float | None = None, tokens: float | None = None, minute: float = 60.0) -> RateLimiter:
        made.append(RateLimiter("account", url, (requests, tokens), 4, minute))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


def usual_rate(requests: list[dict[str, Any]], unit: str) -> float:
    """Requests or tokens a second, as the median over stretches of half the run: a sender that was once late does not count."""
    half = len(requests) // 2
    amounts = [1 if unit == "requests" else request["tokens"] for request in requests]
    return median(
        sum(amounts[start : start + half]) / (requests[start + half]["at"] - requests[start]["at"])
        for start in range(len(requests) - half)
    )


def test_four_processes_reach_the_limit_of_requests_and_are_not_refused(url: str) -> None:
    with ProviderProcess(dimensions=8, vectors="table", requests_per_minute=30, minute=1.0, algorithm="window") as provider:
        seen = Senders(Job(url, provider.base_url, 30, None, minute=1.0, seconds=3.0)).run()
        requests, stats = provider.requests(), provider.stats()
    assert sum(one.sent for one in seen) == len(requests)
    assert all(one.sent > 5 for one in seen)
    # One may have been held up by the machine for so long that it came into the next window.
    assert stats["limited"] <= 1
    assert len(requests) <= 3.1 * 30 * 1.02
    assert usual_rate(requests, "requests") >= 0.95 * 30


def test_four_senders_reach_the_limit_of_tokens_once_they_have_learned(url: str, make: Make) -> None:
    provider = Provider(dimensions=8, vectors="table")
    try:
        job = Job(url, provider.base_url, None, 100_000, 1.0, 0.5, chunks=(1, 8), characters=(100, 4000), name="account")
        for seconds in (0.5, 3.0):
            provider.reset()
            threads = [
                threading.Thread(target=send, args=(replace(job, seconds=seconds, seed=number), make(None, 100_000, 1.0)))
                for number in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        requests = provider.core.counts.requests_as_json()
    finally:
        provider.close()
    # Of the last request only the sending is in the time.
    tokens, span = sum(request["tokens"] for request in requests[:-1]), requests[-1]["at"] - requests[0]["at"]
    assert tokens <= 100_000 * span * 1.02
    assert usual_rate(requests, "tokens") >= 0.95 * 100_000


def test_many_threads_may_share_a_limiter(make: Make) -> None:
    limiter = make(requests=600)
    waits: list[float] = []
    threads = [threading.Thread(target=lambda: waits.append(limiter.reserve(1).wait)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(wait < 0.1 for wait in waits) <= 13, "the burst of a second, and what came meanwhile"
    assert max(waits) > 2


def test_the_script_does_what_the_arithmetic_does(make: Make) -> None:
    requests, tokens = 60, 60_000
    limiter, buckets, rates = make(requests, tokens), Buckets(), Rates.of(requests, tokens)
    begun = time.monotonic()
    for size in (200, 7000, 10, 10, 10, 10, 10, 90_000, 2, 30_000, 1):
        reservation = limiter.reserve(size, 10_000)
        at = time.monotonic() - begun + reservation.wait
        assert reservation.tokens == TokenRatio().tokens_of(size)
        assert at == pytest.approx(buckets.reserve(rates, 0, reservation.tokens, 10_000), abs=1.0)


def test_a_wait_that_is_too_long_is_said_and_books_nothing(make: Make) -> None:
    limiter = make(requests=6)
    limiter.reserve(1)
    for _ in range(3):
        with pytest.raises(Throttled) as raised:
            limiter.reserve(1, most_wait=5)
        assert 8 <= (raised.value.retry_after or 0) <= 10.3
    assert limiter.reserve(1, most_wait=15).wait <= 10.3


def test_a_pause_holds_for_all_even_those_that_have_their_time(make: Make) -> None:
    one, other = make(requests=600), make(requests=600)
    booked = [other.reserve(1) for _ in range(12)]
    assert booked[0].remaining() == 0
    assert 0 < booked[-1].wait < 1
    one.pause(50)
    assert 49 <= other.reserve(1).wait <= 56
    assert booked[0].remaining() == 0, "it may have been sent"
    time.sleep(booked[-1].remaining())
    assert booked[-1].remaining() > 40
    with pytest.raises(Throttled):
        make(requests=600).reserve(1, most_wait=10)


def test_a_pause_holds_without_any_limit_and_spreads_those_that_wake(make: Make) -> None:
    one, other = make(), make()
    assert [one.reserve(10**9).wait for _ in range(10)] == [0] * 10
    one.pause(40)
    waits = [other.reserve(10**9).wait for _ in range(20)]
    assert min(waits) > 39
    assert max(waits) - min(waits) > 1


def test_the_longer_of_two_pauses_holds_and_none_is_longer_than_an_hour(make: Make) -> None:
    limiter = make()
    limiter.pause(50)
    limiter.pause(1)
    limiter.pause(-5)
    assert limiter.reserve(1).wait > 45
    limiter.pause(1e9)
    assert limiter.reserve(1, most_wait=1e12).wait <= 3600 * 1.1


@pytest.mark.parametrize(("used", "difference"), [(100, -6.1), (3000, 23.5), (700, 0.0), (None, 0.0), (0, 0.0)])
def test_settling_corrects_what_was_estimated(make: Make, used: int | None, difference: float) -> None:
    limiter = make(tokens=6000)
    reservation = limiter.reserve(2000)
    assert reservation.tokens == 700
    reservation.settle(used)
    # 700 tokens, of which the bucket had 100, are paid off at 98 a second; a text of one byte takes 1 token.
    assert limiter.reserve(1).wait == pytest.approx(601 / 98 + difference, abs=1.5)


def test_what_one_learns_all_know(make: Make) -> None:
    one, other = make(tokens=10**9), make(tokens=10**9)
    one.reserve(500_000).settle(125_000)
    assert other.reserve(100_000).tokens == pytest.approx(25_200, rel=0.01)


def test_what_was_not_sent_is_given_back(make: Make) -> None:
    limiter = make(requests=60, tokens=6000)
    for _ in range(5):
        limiter.reserve(4000, 1000).cancel()
    assert limiter.reserve(4000, 1000).wait < 1.1


def test_a_smaller_limit_that_an_answer_tells_is_kept_to_and_a_larger_one_is_not(make: Make) -> None:
    limiter = make(requests=600)
    limiter.observe({"x-ratelimit-limit-requests": "6000", "x-ratelimit-limit-tokens": "10"})
    assert max(limiter.reserve(1000).wait for _ in range(11)) < 0.2
    limiter.observe({"x-ratelimit-limit-requests": "6"})
    limiter.reserve(1)
    assert limiter.reserve(1).wait > 9
    limiter.observe({"x-ratelimit-limit-requests": "-1"})
    assert make(requests=600).reserve(1, 100).wait > 9, "what is booked stays so"


def test_where_nothing_is_left_until_a_reset_all_wait_for_it(make: Make) -> None:
    used_up = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
    make().reserve(1).settle(1, used_up)
    assert make().reserve(1).wait > 28


def test_the_keys_are_ours_and_expire(make: Make, url: str) -> None:
    limiter = make(60, 1000)
    limiter.reserve(100).settle(20)
    limiter.pause(1)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        assert client.keys() == ["lex-ingest:rate:account"]
        assert 0 < client.ttl("lex-ingest:rate:account") <= 7 * 86_400
