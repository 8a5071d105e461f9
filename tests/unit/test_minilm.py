"""The local embedding model itself, with no server round it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from infra.local import minilm
from infra.local.minilm import DIMENSIONS, WINDOW, Model, combine, slices, windows


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.mark.parametrize("count", [0, 1, WINDOW, WINDOW + 1, 5 * WINDOW, 5 * WINDOW + 1])
def test_windows_cover_all_tokens_and_are_nearly_equal(count: int) -> None:
    cuts = windows(count)
    assert [index for cut in cuts for index in range(count)[cut]] == list(range(count))
    lengths = [cut.stop - cut.start for cut in cuts]
    assert max(lengths) <= WINDOW
    assert max(lengths) - min(lengths) <= 1


def test_a_text_that_is_tokenised_in_slices_has_the_tokens_of_the_whole(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "The lighthouse keeper's café re-opened\tat 09:30; entrée £4.50.\nVäst och öst — naïve coördination!  "
    text = words * 40
    whole = model.tokenize(text)
    monkeypatch.setattr(minilm, "SLICE", 57)
    assert len(list(slices(text))) > 50
    assert "".join(slices(text)) == text
    assert model.tokenize(text).tolist() == whole.tolist()


def test_a_long_text_without_white_space_is_sliced_all_the_same(model: Model) -> None:
    text = "図書館" * 40_000
    assert max(map(len, slices(text))) <= minilm.SLICE
    assert "".join(slices(text)) == text
    assert len(model.tokenize(text)) == len(text)


@pytest.mark.parametrize("text", ["\0", "\0\x01\x02", " \n\t", "\u200b", "\ufeff"])
def test_a_text_without_a_token_has_a_finite_vector_of_length_1(model: Model, text: str) -> None:
    tokens = model.tokenize(text)
    vector = combine([model.embed_window(tokens)], [len(tokens)])
    assert vector.shape == (DIMENSIONS,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_windows_that_cancel_out_leave_the_direction_of_the_first() -> None:
    one = np.zeros(DIMENSIONS, dtype=np.float32)
    one[0] = 1
    assert combine([one, -one], [10, 10]).tolist() == one.tolist()


def test_other_threads_run_while_a_long_text_is_tokenised(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "SLICE", 10_000_000)
    text = "lighthouse keepers and harbour pilots " * 40_000
    started, stop, ticks = threading.Event(), threading.Event(), 0

    def tick() -> None:
        nonlocal ticks
        while not stop.is_set():
            started.set()
            time.sleep(0.001)
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    started.wait()
    before = ticks
    model.tokenize(text)
    counted = ticks - before
    stop.set()
    thread.join()
    # With a call of the tokenizer that holds the interpreter the thread runs before and after it only.
    assert counted > 20
