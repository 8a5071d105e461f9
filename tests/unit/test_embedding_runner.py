"""Many requests share the local model. A window's first token names its request here, and a gate holds the model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infra.local.embedding_runner import MAX_REQUESTS, PAUSE, SPAN, Job, Overloaded, Runner, Throughput
from infra.local.minilm import DIMENSIONS, WINDOW, Tokens, Vector
from infra.local.session_priority import SessionPriority

SOON = 30.0  # seconds, of which an idle machine needs none
NO_FILE = Path("/nonexistent")  # the priority of the session that runs these tests stays as it is


class HeldModel:
    """Waits before each window until a step is allowed, and notes whose windows it has read."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.begun, self._allowed = threading.Semaphore(0), threading.Semaphore(0)

    def embed_window(self, tokens: Tokens) -> Vector:
        self.begun.release()
        assert self._allowed.acquire(timeout=SOON)
        self.read.append(int(tokens[0]))
        if tokens[0] == 13:
            raise RuntimeError("the model failed")
        vector = np.zeros(DIMENSIONS, dtype=np.float32)
        vector[int(tokens[0])] = 1
        return vector

    def allow(self, steps: int = 1_000) -> None:
        self._allowed.release(steps)


def tokens(name: int, windows: int = 1) -> Tokens:
    return np.full(windows * WINDOW, name, dtype=np.int32)


@pytest.fixture
def model() -> Iterator[HeldModel]:
    made = HeldModel()
    yield made
    made.allow()


@pytest.fixture
def runner(model: HeldModel) -> Runner:
    return Runner(model.embed_window, SessionPriority(NO_FILE), threads=1)


def submitted(runner: Runner, *texts: Tokens) -> Job:
    job = runner.accept(len(texts))
    runner.submit(job, texts)
    return job


def test_a_query_is_answered_while_a_long_request_is_at_work(model: HeldModel, runner: Runner) -> None:
    long = submitted(runner, tokens(1, 20))
    assert model.begun.acquire(timeout=SOON)
    query = submitted(runner, tokens(2))
    model.allow(2)
    assert query.finished.wait(SOON)
    assert model.read == [1, 2]
    assert not long.finished.is_set()
    assert query.result().shape == (1, DIMENSIONS)


def test_the_model_has_its_usual_share_of_the_processors_only_while_a_short_request_waits(model: HeldModel) -> None:
    shares: list[bool] = []

    class Noted(SessionPriority):
        def choose(self, *, query_waits: bool) -> None:
            shares.append(query_waits)

    runner = Runner(model.embed_window, Noted(NO_FILE), threads=1)
    submitted(runner, tokens(1, 20))
    assert model.begun.acquire(timeout=SOON)
    assert shares == [False]
    query = submitted(runner, tokens(2))
    assert shares == [False, True]
    model.allow(2)
    assert query.finished.wait(SOON)
    runner.close(query)
    assert model.begun.acquire(timeout=SOON)
    model.allow(1)
    for _ in range(2):
        assert model.begun.acquire(timeout=SOON)
    assert not shares[-1]


def test_the_session_has_a_low_priority_unless_a_query_waits_or_the_model_was_starved(tmp_path: Path) -> None:
    file = tmp_path / "autogroup"
    file.touch()
    priority = SessionPriority(file)
    priority.choose(query_waits=True)
    assert file.read_text().split() == []  # a new session has the usual priority
    priority.choose(query_waits=False)
    priority.record_step(processor_s=0.1, wall_s=1.9)
    priority.choose(query_waits=False)
    assert file.read_text().split() == ["10"]
    priority.choose(query_waits=True)
    priority.choose(query_waits=False)
    assert file.read_text().split() == ["10", "0", "10"]
    priority.record_step(processor_s=0.1, wall_s=2.1)
    priority.choose(query_waits=False)
    assert file.read_text().split() == ["10", "0", "10", "0"]


def test_no_further_window_is_read_of_a_request_whose_client_left(model: HeldModel, runner: Runner) -> None:
    gone = submitted(runner, tokens(1, 20))
    assert model.begun.acquire(timeout=SOON)
    other = submitted(runner, tokens(2, 30))
    runner.close(gone, dropped=True)
    model.allow()
    assert other.finished.wait(SOON)
    assert model.read == [1] + [2] * 30
    assert runner.load()["dropped"] == 1
    assert runner.load()["requests"] == 1


def test_a_failure_of_the_model_fails_its_request_alone(model: HeldModel, runner: Runner) -> None:
    model.allow()
    failed, sound = submitted(runner, tokens(13, 5)), submitted(runner, tokens(2, 5))
    assert failed.finished.wait(SOON)
    assert sound.finished.wait(SOON)
    with pytest.raises(RuntimeError, match="the model failed"):
        failed.result()
    assert model.read.count(13) == 1
    assert sound.result()[0][2] == 1


def test_each_text_has_the_mean_of_its_own_windows(model: HeldModel, runner: Runner) -> None:
    model.allow()
    mixed = np.concatenate([tokens(1, 2), tokens(2, 1)])
    job = submitted(runner, tokens(3), mixed, np.concatenate([tokens(4, 1), tokens(4)[:100]]))
    assert job.finished.wait(SOON)
    first, second, third = job.result()
    assert first[3] == third[4] == pytest.approx(1)
    assert second[1] == pytest.approx(2 * second[2])
    assert np.linalg.norm(second) == pytest.approx(1)


def test_the_load_counts_texts_that_are_accepted_and_not_computed(model: HeldModel, runner: Runner) -> None:
    assert runner.load() == {
        "texts_per_second": None, "tokens_per_second": None, "waiting_texts": 0, "requests": 0, "dropped": 0,
    }  # fmt: skip
    read = runner.accept(7)  # its texts are not tokenised yet
    long = submitted(runner, tokens(1), tokens(2), tokens(3, 2))
    assert (runner.load()["waiting_texts"], runner.load()["requests"]) == (10, 2)
    assert runner.load()["texts_per_second"] == 0
    model.allow(3)
    for _ in range(4):
        assert model.begun.acquire(timeout=SOON)
    # The fourth window is begun, so three are done: two texts, and half of the third.
    assert runner.load()["waiting_texts"] == 8
    model.allow()
    assert long.finished.wait(SOON)
    load = runner.load()
    assert load["waiting_texts"] == 7
    assert load["texts_per_second"] > 0
    assert load["tokens_per_second"] > 0
    runner.close(read)
    runner.close(long)
    assert (runner.load()["waiting_texts"], runner.load()["requests"], runner.load()["dropped"]) == (0, 0, 0)


def test_more_requests_than_may_wait_are_refused_until_one_is_closed(runner: Runner) -> None:
    jobs = [runner.accept(1) for _ in range(MAX_REQUESTS)]
    with pytest.raises(Overloaded):
        runner.accept(1)
    runner.close(jobs[0])
    runner.accept(1)


def test_the_speed_is_the_mean_over_the_last_half_minute_of_work() -> None:
    speed = Throughput()
    assert speed.per_second(1000.0) is None
    speed.begin(1000.0)
    for second in range(1, 61):
        speed.begin(1000.0 + second)
        speed.add(1000.0 + second, 2 if second <= 30 else 4, 100)
    assert speed.per_second(1060.0) == (pytest.approx(4, rel=0.05), pytest.approx(100, rel=0.05))
    # Nothing since: it falls to nothing.
    assert speed.per_second(1060.0 + SPAN / 2) == (pytest.approx(2, rel=0.1), pytest.approx(50, rel=0.1))
    assert speed.per_second(1060.0 + SPAN + 1) == (0, 0)


def test_the_speed_of_new_work_is_not_diluted_by_the_idle_time_before_it() -> None:
    speed = Throughput()
    speed.begin(0.0)
    speed.add(0.0, 1, 10)
    speed.begin(PAUSE + 1)
    for second in range(1, 5):
        speed.add(PAUSE + 1 + second, 3, 300)
    assert speed.per_second(PAUSE + 5) == (pytest.approx(3), pytest.approx(300))
    # One query does not look like a thousand a second.
    alone = Throughput()
    alone.begin(0.0)
    alone.add(0.001, 1, 10)
    assert alone.per_second(0.001) == (1, 10)
