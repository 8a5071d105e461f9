"""Processes that send to the test provider under one rate limit: ``Senders`` starts them, each is ``python -m`` this module.

They say that they are ready, start together when they are told to, and print what they saw as one line of JSON.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.provider_rules import tokens_of
from worker.domain.errors import Throttled
from worker.domain.provider_headers import wait_of_refusal
from worker.embed.rate_limit import RateLimiter, Reservation

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """``chunks`` are the least and the most texts of a request, ``characters`` those of a text. ``client`` says who sends:
    ``http`` (urllib: light, and sees the headers) or ``embed`` (``worker.embed.openai.embed``). Times are in seconds."""

    redis_url: str
    base_url: str
    requests: float | None
    tokens: float | None
    minute: float
    seconds: float
    chunks: tuple[int, int] = (1, 1)
    characters: tuple[int, int] = (400, 400)
    client: str = "http"
    name: str = "test"
    processes: int = 4
    most_wait: float = 60.0
    dimensions: int = 8
    seed: int = 0


@dataclass
class Seen:
    sent: int = 0
    refused: int = 0
    given_up: int = 0
    failed: int = 0


class Senders:
    """``job.processes`` of them, each with a seed of its own."""

    def __init__(self, job: Job) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.limited_senders", json.dumps(asdict(replace(job, seed=number)))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )
            for number in range(job.processes)
        ]  # fmt: skip
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def start(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def wait(self) -> list[Seen]:
        return [Seen(**json.loads(process.communicate(timeout=120)[0])) for process in self._processes]

    def run(self) -> list[Seen]:
        self.start()
        return self.wait()


def batches(job: Job) -> Callable[[], list[str]]:
    choose = random.Random(job.seed)
    pool = ["".join(choose.choices("etaoinshrdlu  ", k=choose.randint(*job.characters))) for _ in range(200)]
    return lambda: choose.sample(pool, choose.randint(*job.chunks))


def by_http(job: Job, limiter: RateLimiter, reservation: Reservation, texts: Sequence[str]) -> bool:
    """Whether the provider took the request."""
    body = json.dumps({"input": texts, "model": "m", "dimensions": job.dimensions}).encode()
    request = urllib.request.Request(f"{job.base_url}/embeddings", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            usage: Mapping[str, int] = json.load(answer).get("usage", {})
            reservation.settle(usage.get("total_tokens"), answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            limiter.pause(wait_of_refusal(error.headers, time.time()) or job.minute / 10)
        return False
    return True


def by_embed(job: Job, limiter: RateLimiter, reservation: Reservation, texts: Sequence[str]) -> bool:
    from worker.embed.openai import embed
    from worker.settings import Settings

    settings = Settings(
        openai_api_key="test", openai_base_url=job.base_url, embedding_model="m", embedding_dimensions=job.dimensions
    )
    try:
        embed(texts, settings)
    except Throttled as error:
        limiter.pause(error.retry_after or job.minute / 10)
        return False
    # What the provider's usage says, which embed does not hand on.
    reservation.settle(sum(map(tokens_of, texts)))
    return True


def send(job: Job, limiter: RateLimiter) -> Seen:
    seen = Seen()
    make, client = batches(job), by_embed if job.client == "embed" else by_http
    end = time.monotonic() + job.seconds
    while time.monotonic() < end:
        texts = make()
        try:
            reservation = limiter.reserve(sum(len(text.encode()) for text in texts), job.most_wait)
            if reservation.wait > end - time.monotonic():
                reservation.cancel()
                break
            reservation.hold()
        except Throttled as error:
            seen.given_up += 1
            time.sleep(min(error.retry_after or 0.01, max(0.0, end - time.monotonic())))
            continue
        if client(job, limiter, reservation, texts):
            seen.sent += 1
        else:
            seen.refused += 1
    return seen


def main() -> None:
    given: dict[str, Any] = json.loads(sys.argv[1])
    job = Job(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
    if job.client == "embed":
        import worker.embed.openai  # noqa: F401 - it takes a second to import, which is no second of sending
    limiter = RateLimiter(job.name, job.redis_url, (job.requests, job.tokens), job.processes, job.minute)
    print("ready", flush=True)  # noqa: T201 - whoever started it waits for it
    sys.stdin.readline()
    seen = send(job, limiter)
    limiter.close()
    print(json.dumps(asdict(seen)), flush=True)  # noqa: T201 - the result


if __name__ == "__main__":
    main()
