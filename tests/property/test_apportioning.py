"""A request's tokens among its documents: nothing is lost, nothing is invented, and nobody pays for another."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.apportioning import apportion
from worker.domain.spending import Purpose, divide

WEIGHTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=50)
TOTALS = st.integers(0, 10**12)
DOCUMENTS = st.lists(
    st.tuples(st.integers(0, 5).map(lambda n: UUID(int=n)), st.sampled_from(Purpose), st.integers(0, 10**6)),
    min_size=1,
    max_size=60,
)


@given(TOTALS, WEIGHTS)
def test_the_shares_add_up_to_the_total(total: int, weights: list[int]) -> None:
    assert sum(apportion(total, weights)) == total


@given(TOTALS, WEIGHTS.filter(any))
def test_each_share_is_its_quota_rounded_up_or_down(total: int, weights: list[int]) -> None:
    whole = sum(weights)
    for share, weight in zip(apportion(total, weights), weights, strict=True):
        assert total * weight // whole <= share <= -(-total * weight // whole)


@given(TOTALS, WEIGHTS.filter(any))
def test_what_is_left_goes_to_the_largest_remainders(total: int, weights: list[int]) -> None:
    whole = sum(weights)
    extra = [share - total * weight // whole for share, weight in zip(apportion(total, weights), weights, strict=True)]
    remainders = [total * weight % whole for weight in weights]
    given_to = [remainder for remainder, more in zip(remainders, extra, strict=True) if more]
    passed_by = [remainder for remainder, more in zip(remainders, extra, strict=True) if not more]
    assert min(given_to, default=whole) >= max(passed_by, default=0)


def test_of_equal_remainders_the_first_takes_more() -> None:
    assert apportion(5, [1, 1, 1]) == [2, 2, 1]
    assert apportion(2, [0, 1, 1, 1]) == [0, 1, 1, 0]


def test_weights_that_are_all_nothing_count_as_equal() -> None:
    assert apportion(3, [0, 0]) == [2, 1]


def test_no_parts_take_nothing_and_can_t_take_something() -> None:
    assert apportion(0, []) == []
    with pytest.raises(ValueError, match="no parts"):
        apportion(1, [])


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, [1, -1])])
def test_nothing_negative_is_divided(total: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="negative"):
        apportion(total, weights)


@given(TOTALS, DOCUMENTS)
def test_a_request_s_tokens_and_texts_are_its_parts(tokens: int, inputs: list[tuple[UUID, Purpose, int]]) -> None:
    parts = divide(tokens, inputs)
    assert sum(part.tokens for part in parts) == tokens
    found = {(part.document_id, part.purpose): part.inputs for part in parts}
    assert len(found) == len(parts)
    assert found == {
        place: sum((document, purpose) == place for document, purpose, _ in inputs)
        for place in {(document, purpose) for document, purpose, _ in inputs}
    }


def test_a_document_s_share_is_by_all_its_texts_together() -> None:
    one, other = UUID(int=1), UUID(int=2)
    parts = divide(100, [(one, Purpose.DOCUMENT, 10), (other, Purpose.DOCUMENT, 60), (one, Purpose.DOCUMENT, 30)])
    assert [(part.document_id, part.inputs, part.tokens) for part in parts] == [(one, 2, 40), (other, 1, 60)]
