"""How large the next request may be: small at first, growing with quick answers, smaller after slow ones and refusals."""

from __future__ import annotations

import pytest

from worker.embed.request_size import AWAY_AFTER, Limits, RequestSizer

TEXTS, SIZE, IN_FLIGHT = 128, 290_000, 16


@pytest.fixture
def sizer() -> RequestSizer:
    return RequestSizer(TEXTS, SIZE, IN_FLIGHT, timeout=60.0)


def answer(sizer: RequestSizer, seconds: float, number: int = 1) -> None:
    """So many full requests are answered."""
    for _ in range(number):
        limits = sizer.limits()
        sizer.answered(limits.texts, limits.size, seconds)


def test_the_first_requests_are_few_and_small(sizer: RequestSizer) -> None:
    assert sizer.limits() == Limits(8, 18_125, 2)
    assert RequestSizer(4, SIZE, 1, 60.0).limits() == Limits(1, 36_250, 1)


def test_quick_answers_let_both_grow_to_their_most(sizer: RequestSizer) -> None:
    answer(sizer, 2.0)
    assert sizer.limits() == Limits(16, 36_250, 3)
    answer(sizer, 0.2)
    assert sizer.limits() == Limits(64, 145_000, 6)
    answer(sizer, 0.2, 2)
    assert sizer.limits() == Limits(TEXTS, SIZE, IN_FLIGHT)


def test_a_request_that_was_not_full_lets_nothing_grow(sizer: RequestSizer) -> None:
    before = sizer.limits()
    sizer.answered(1, 100, 0.2)
    assert sizer.limits() == before


def test_slow_answers_make_requests_smaller_until_one_takes_a_quarter_of_what_is_allowed() -> None:
    sizer = RequestSizer(TEXTS, SIZE, IN_FLIGHT, timeout=10.0)
    for _ in range(20):
        texts = sizer.limits().texts
        sizer.answered(texts, texts * 1000, 0.5 * texts)
    assert 2 <= sizer.limits().texts <= 6


@pytest.mark.parametrize("latency", [2.6, 4.0, 6.0, 12.0])
def test_a_provider_that_is_slow_whatever_the_size_gets_large_requests_all_the_same(latency: float) -> None:
    sizer = RequestSizer(TEXTS, SIZE, IN_FLIGHT, timeout=60.0)
    for _ in range(60):
        limits = sizer.limits()
        sizer.answered(limits.texts, limits.size, latency + 0.001 * limits.texts)
    assert sizer.limits() == Limits(TEXTS, SIZE, IN_FLIGHT)


def test_requests_to_a_provider_that_computes_text_by_text_stay_near_their_goal() -> None:
    sizer = RequestSizer(TEXTS, SIZE, IN_FLIGHT, timeout=60.0)
    for number in range(100):
        limits = sizer.limits()
        sizer.answered(limits.texts, limits.size, 0.3 * limits.texts)
        if number > 10:
            assert 8 <= sizer.limits().texts <= 32


def test_texts_that_are_slow_one_by_one_are_asked_for_one_by_one() -> None:
    sizer = RequestSizer(TEXTS, SIZE, IN_FLIGHT, timeout=10.0)
    answer(sizer, 9.0, 12)
    assert (sizer.limits().texts, sizer.limits().in_flight) == (1, 1)
    answer(sizer, 0.1, 20)
    assert sizer.limits() == Limits(TEXTS, SIZE, IN_FLIGHT)


def test_a_time_out_halves_the_requests_and_their_number(sizer: RequestSizer) -> None:
    answer(sizer, 0.2, 20)
    assert not sizer.timed_out(TEXTS)
    assert sizer.limits() == Limits(TEXTS // 2, SIZE // 2, IN_FLIGHT // 2)
    # Another one of those that were sent before.
    assert not sizer.timed_out(TEXTS)
    assert sizer.limits().texts == TEXTS // 2


def test_time_outs_without_an_answer_mean_that_the_provider_is_away(sizer: RequestSizer) -> None:
    for _ in range(AWAY_AFTER - 1):
        assert not sizer.timed_out(8)
    answer(sizer, 1.0)
    assert not sizer.timed_out(8)
    assert [sizer.timed_out(8) for _ in range(AWAY_AFTER - 1)] == [False, True]


def test_one_text_that_times_out_alone_makes_no_other_request_smaller(sizer: RequestSizer) -> None:
    answer(sizer, 0.2, 4)
    sizer.timed_out(1)
    assert sizer.limits().texts == TEXTS


@pytest.mark.parametrize(("most", "allowed"), [(10, 10), (None, 64), (500, 64)])
def test_a_number_of_texts_that_was_refused_is_never_reached_again(sizer: RequestSizer, most: int | None, allowed: int) -> None:
    answer(sizer, 0.2, 20)
    sizer.refused(128, 100_000, True, most)
    assert sizer.limits() == Limits(allowed, SIZE, IN_FLIGHT)
    answer(sizer, 0.2, 20)
    assert sizer.limits().texts == allowed


def test_a_size_that_was_refused_is_never_reached_again(sizer: RequestSizer) -> None:
    answer(sizer, 0.2, 20)
    sizer.refused(40, 72_000, False, None)
    answer(sizer, 0.2, 20)
    assert sizer.limits() == Limits(TEXTS, 36_000, IN_FLIGHT)


def test_the_shortest_text_that_was_too_long_is_kept(sizer: RequestSizer) -> None:
    assert sizer.too_long() == float("inf")
    sizer.too_long(900.0)
    sizer.too_long(1200.0)
    assert sizer.too_long() == 900.0
