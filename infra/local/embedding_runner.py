"""Runs the local model over the windows of many requests, and measures how fast that goes."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.local.embedding_scheduler import Scheduler
from infra.local.minilm import Tokens, Vector, combine, windows
from infra.local.session_priority import SessionPriority

# Requests that are accepted and not answered yet. The stack's own clients have a few at a time; each waits in a thread.
MAX_REQUESTS = 64
# The nice value of the threads that compute, so that a search or another program gets a core first. Linux has a nice value per
# thread. Under six busy processes on 2 cores these threads still get a tenth of each core.
NICENESS = 5
# Seconds over which the speed is averaged, and seconds without work after which the average begins anew.
SPAN, PAUSE = 30.0, 5.0


class Overloaded(Exception):
    """``MAX_REQUESTS`` requests are accepted already, and the next one is refused."""


class Throughput:
    """Texts and tokens per second over the last ``SPAN`` seconds, or since the work began if that is less.

    Times are seconds of one clock, given by the caller and never going back.
    """

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int, int]] = deque()
        self._begun: float | None = None
        self._last = 0.0

    def begin(self, now: float) -> None:
        """Note that there is work. A short pause between two requests counts as work."""
        if self._begun is None or now - self._last > PAUSE:
            self._begun = self._last = now

    def add(self, now: float, texts: int, tokens: int) -> None:
        """Note what one step has finished."""
        self._last = now
        self._steps.append((now, texts, tokens))
        while self._steps[0][0] < now - SPAN:
            self._steps.popleft()

    def per_second(self, now: float) -> tuple[float, float] | None:
        """Texts and tokens per second, or None if there was no work since the start."""
        if self._begun is None:
            return None
        since = max(now - SPAN, self._begun)
        counted = [(texts, tokens) for at, texts, tokens in self._steps if at >= since]
        seconds = max(1.0, now - since)
        return sum(texts for texts, _ in counted) / seconds, sum(tokens for _, tokens in counted) / seconds


@dataclass(eq=False)
class Job:
    """One accepted request. Its fields change under the runner's lock until ``finished`` is set."""

    number: int
    texts: int  # not computed yet
    finished: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    pieces: list[tuple[int, Tokens]] = field(default_factory=list)  # each window and the text that it belongs to
    vectors: list[Vector | None] = field(default_factory=list)  # one per window
    windows_left: list[int] = field(default_factory=list)  # one per text
    following: Iterator[int] = field(default_factory=lambda: iter(()))  # the windows that no thread has taken yet

    def result(self) -> NDArray[np.float32]:
        """One row per text. The windows are added in their order, so the same text always has the same vector."""
        if self.error is not None:
            raise self.error
        rows = []
        for _, group in itertools.groupby(range(len(self.pieces)), key=lambda index: self.pieces[index][0]):
            indexes = list(group)
            found = [vector for index in indexes if (vector := self.vectors[index]) is not None]
            rows.append(combine(found, [len(self.pieces[index][1]) for index in indexes]))
        return np.stack(rows)


class Runner:
    """Reads windows in one thread per core. Each thread reads one window at a time, on its core alone.

    A step is one window (at most 254 tokens, about 0.1 s of one core), after which the thread takes the window that the
    scheduler chooses by then. For full windows that is faster than batches of eight on all cores (5,800 against 3,900
    tokens per second on 2 cores: tests/benchmarks/local_model.py). It needs no padding, and the vector of a text does
    not depend on the texts beside it, which in a batch share a scale in the model's int8 layers.

    A request of one window may be a query. The runner gives the session its usual priority while such a request waits; it
    decides this before each window and when such a request is submitted.
    """

    def __init__(self, embed_window: Callable[[Tokens], Vector], priority: SessionPriority, threads: int | None = None) -> None:
        self._embed_window, self._priority = embed_window, priority
        self._changed = threading.Condition()
        self._scheduler, self._throughput = Scheduler(), Throughput()
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count()
        self._dropped = 0
        for _ in range(threads or len(os.sched_getaffinity(0))):
            threading.Thread(target=self._work, daemon=True).start()

    def accept(self, texts: int) -> Job:
        """Count a request of so many texts as waiting. The caller must call ``close`` for it in any case.

        Raises:
            Overloaded: too many requests wait already.
        """
        with self._changed:
            if len(self._jobs) >= MAX_REQUESTS:
                raise Overloaded
            job = Job(next(self._numbers), texts)
            self._jobs[job.number] = job
            return job

    def submit(self, job: Job, texts: Sequence[Tokens]) -> None:
        """Have the tokens of all texts of the request read. ``job.finished`` tells when that is done."""
        pieces = [(owner, tokens[cut]) for owner, tokens in enumerate(texts) for cut in windows(len(tokens))]
        with self._changed:
            job.pieces, job.vectors = pieces, [None] * len(pieces)
            job.windows_left = [len(windows(len(tokens))) for tokens in texts]
            job.following = iter(range(len(pieces)))
            self._throughput.begin(time.monotonic())
            self._scheduler.add(job.number, len(pieces))
            if len(pieces) == 1:
                self._priority.choose(query_waits=True)
            self._changed.notify(len(pieces))

    def close(self, job: Job, *, dropped: bool = False) -> None:
        """Forget a request: no further window of it is read. ``dropped``: its client left before the answer."""
        with self._changed:
            self._scheduler.remove(job.number)
            del self._jobs[job.number]
            self._dropped += dropped

    def load(self) -> dict[str, Any]:
        """What ``GET /v1/status`` answers: the speed, and what is accepted and not computed yet."""
        with self._changed:
            speed = self._throughput.per_second(time.monotonic())
            return {
                "texts_per_second": None if speed is None else round(speed[0], 2),
                "tokens_per_second": None if speed is None else round(speed[1], 1),
                "waiting_texts": sum(job.texts for job in self._jobs.values()),
                "requests": len(self._jobs),
                "dropped": self._dropped,
            }

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        while True:
            with self._changed:
                while (number := self._scheduler.take()) is None:
                    self._changed.wait()
                self._priority.choose(query_waits=any(len(waiting.pieces) == 1 for waiting in self._jobs.values()))
                job = self._jobs[number]
                index = next(job.following)
            owner, tokens = job.pieces[index]
            started, used = time.monotonic(), time.thread_time()
            try:
                vector = self._embed_window(tokens)
            except Exception as error:  # noqa: BLE001 - raised again by `result`: it fails this request, and the thread goes on
                with self._changed:
                    self._scheduler.remove(number)
                    job.error = error
                    job.finished.set()
                continue
            with self._changed:
                self._priority.record_step(time.thread_time() - used, time.monotonic() - started)
                job.vectors[index] = vector
                job.windows_left[owner] -= 1
                done = job.windows_left[owner] == 0
                job.texts -= done
                self._throughput.add(time.monotonic(), int(done), len(tokens))
                if job.texts == 0:
                    job.finished.set()
