"""Which fault a request meets, and what becomes of an answer."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.provider_behaviour import Behaviour
from tests.support.provider_faults import NO_FAULT, Draw, Fault, Kind, read_chances, spoiled_places, spoiled_vector
from tests.support.provider_vectors import Writer, vector_of, written


def test_a_script_goes_first_and_in_order() -> None:
    behaviour = Behaviour().changed({"script": ["error_503", "none", {"kind": "late", "seconds": 3}], "chances": {"cut": 1}})
    draw = Draw(1, behaviour.script, behaviour.chances)
    assert [draw.next() for _ in range(3)] == [Fault(Kind.ERROR, 503), NO_FAULT, Fault(Kind.LATE, seconds=3)]
    assert draw.next().kind is Kind.CUT


def test_chances_are_kept_and_the_same_seed_draws_the_same() -> None:
    chances = read_chances([{"kind": "error_502", "retry_after": 1, "chance": 0.2}, {"kind": "reset", "chance": 0.1}])
    drawn, again = ([draw.next() for _ in range(5000)] for draw in (Draw(7, (), chances), Draw(7, (), chances)))
    assert drawn == again
    assert 900 < sum(fault.kind is Kind.ERROR and fault.status == 502 and fault.retry_after == 1 for fault in drawn) < 1100
    assert 400 < sum(fault.kind is Kind.RESET for fault in drawn) < 600


@pytest.mark.parametrize(
    "values",
    [
        {"chances": {"cut": 0.6, "slow": 0.5}}, {"chances": {"cut": -0.1}}, {"script": ["no such"]}, {"nothing": 1},
        {"script": [{"kind": "cut", "what": 1}]}, {"algorithm": "leaky"}, {"minute": 0}, {"script": 7}, {"latency_": 1},
    ],
)  # fmt: skip
def test_what_can_not_be_set_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Behaviour().changed(values)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_wrong_count_is_wrong_and_a_shuffled_one_is_right(count: int) -> None:
    right = [(index, index) for index in range(count)]
    assert spoiled_places(Kind.NONE, count, 1) == right
    assert len(spoiled_places(Kind.TOO_FEW, count, 1)) == count - 1
    assert [index for index, _ in spoiled_places(Kind.TOO_MANY, count, 1)] == list(range(count + 1))
    doubled = [index for index, _ in spoiled_places(Kind.DUPLICATE_INDEX, count, 1)]
    assert len(set(doubled)) < len(doubled)
    shuffled = spoiled_places(Kind.SHUFFLED, count, 1)
    assert sorted(shuffled) == right
    assert shuffled != right or count == 1


def test_spoiled_vectors() -> None:
    vector = vector_of("a few words", 8)
    assert spoiled_vector(Kind.WRONG_DIMENSIONS, vector, False).shape == (7,)
    assert np.isnan(spoiled_vector(Kind.NAN, vector, True)).sum() == 1
    assert spoiled_vector(Kind.NAN, vector, False) is vector
    assert np.isfinite(vector).all()


def test_texts_that_share_words_are_near_each_other() -> None:
    tide, mill, bread = (vector_of(text, 256) for text in ("the tide drives the mill", "the mill by the tide", "flour and water"))
    assert tide @ mill > 0.5 > tide @ bread
    assert np.linalg.norm(tide) == pytest.approx(1)


def test_a_written_vector_is_remembered_by_all_that_it_depends_on() -> None:
    writer = Writer()
    ways = [("words", "a", b"\0" * 32, 4, True), ("words", "a", b"\0" * 32, 4, False), ("words", "a", b"\0" * 32, 5, True),
            ("table", "a", b"\0" * 32, 4, True), ("table", "a", b"\1" * 32, 4, True)]  # fmt: skip
    for way, text, digest, dimensions, as_base64 in ways * 2:
        vector = writer.vector(way, text, digest, dimensions)
        assert writer.written(way, text, digest, dimensions, as_base64) == written(vector, as_base64)
    assert len(writer._kept) == len(ways)
