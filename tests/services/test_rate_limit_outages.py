"""The rate limit where its Valkey dies, hangs, comes back or forgets."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.valkey import start_valkey
from worker.domain.errors import Throttled
from worker.embed.rate_limit import RateLimiter


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    process, port = start_valkey(tmp_path)
    yield process, port
    os.kill(process.pid, signal.SIGCONT) if process.poll() is None else None
    process.kill()
    process.wait()


def limiter_at(port: int, requests: float | None = 60, tokens: float | None = None) -> RateLimiter:
    return RateLimiter("account", f"redis://127.0.0.1:{port}/0", (requests, tokens), processes=4)


def test_with_valkey_dead_a_process_keeps_to_its_share(valkey: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = valkey
    limiter = limiter_at(port)
    limiter.reserve(1)
    process.kill()
    process.wait()
    waits = [limiter.reserve(1).wait for _ in range(5)]
    limiter.close()
    # A quarter of 0.98 requests a second; the first still pays for the one before.
    assert waits == pytest.approx([4.08, 8.16, 12.24, 16.33, 20.41], abs=1.0)


def test_a_process_that_never_saw_valkey_has_its_share_too() -> None:
    limiter = limiter_at(1, requests=60, tokens=6000)
    assert limiter.reserve(20).wait == 0
    assert 3 < limiter.reserve(20).wait < 4.2
    with pytest.raises(Throttled):
        limiter.reserve(20_000, most_wait=1)
    reservation = limiter.reserve(2000)
    reservation.settle(500)
    assert limiter.reserve(2000).tokens < 700, "it learns by itself"
    limiter.pause(50)
    assert limiter.reserve(1, most_wait=1000).wait > 49
    limiter.close()


def test_a_booked_time_holds_when_valkey_dies_while_it_is_waited_for(valkey: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = valkey
    limiter = limiter_at(port, requests=600)
    booked = [limiter.reserve(1) for _ in range(12)][-1]
    assert booked.wait > 0
    process.kill()
    process.wait()
    booked.hold()
    booked.settle(1)
    limiter.close()


def test_a_frozen_valkey_is_not_asked_each_time(valkey: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = valkey
    limiter = limiter_at(port)
    limiter.reserve(1)
    os.kill(process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    waits = [limiter.reserve(1, 1000).wait for _ in range(20)]
    assert time.monotonic() - begun < 5, "half a second for the first, nothing for the others"
    assert waits == sorted(waits)
    os.kill(process.pid, signal.SIGCONT)
    limiter.close()


def test_when_valkey_is_back_the_limit_is_shared_again(valkey: tuple[subprocess.Popen[bytes], int], tmp_path: Path) -> None:
    process, port = valkey
    one, other = limiter_at(port), limiter_at(port)
    process.kill()
    process.wait()
    one.reserve(1)
    again, _ = start_valkey(tmp_path, port)
    try:
        one._away_until = 0.0
        waits = [limiter.reserve(1).wait for limiter in (one, other, one, other)]
        assert waits == pytest.approx([0, 1.02, 2.04, 3.06], abs=0.5)
    finally:
        one.close()
        other.close()
        again.kill()
        again.wait()


def test_an_emptied_valkey_begins_anew_with_one_burst(valkey: tuple[subprocess.Popen[bytes], int]) -> None:
    _, port = valkey
    limiter = limiter_at(port, requests=600)
    waiting = [limiter.reserve(1) for _ in range(13)][-1]
    assert 0 < waiting.wait <= 0.4
    with redis.Redis(port=port) as client:
        client.flushall()
    waits = [limiter_at(port, requests=600).reserve(1).wait for _ in range(40)]
    assert sum(wait < 0.02 for wait in waits) <= 20, "a burst of 10, and what came meanwhile"
    assert waits[-1] > 1
    # Whoever had a time of before asks again, and stands behind the new ones.
    time.sleep(waiting.remaining())
    assert waiting.remaining() > 0.5
    limiter.close()


def test_a_clock_that_was_set_back_does_not_stop_everybody(valkey: tuple[subprocess.Popen[bytes], int]) -> None:
    _, port = valkey
    limiter = limiter_at(port)
    limiter.reserve(1)
    with redis.Redis(port=port) as client:
        ahead = time.time() + 86_400
        client.hset("lex-ingest:rate:account", mapping={"requests_full_at": ahead, "paused_until": ahead})
    assert limiter.reserve(1).wait == 0
    limiter.close()
