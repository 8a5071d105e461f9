"""The provider's answers, good and bad, as the embedding stage meets them through the ``openai`` client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.support.provider import Provider, vector_of
from worker.domain.errors import ProviderUnusable, Unavailable
from worker.domain.vectors import Vectors
from worker.embed import openai
from worker.embed.long_inputs import embed_all
from worker.embed.openai import Model

DIMENSIONS = 16
TEXTS = ["one text", "another text of more words", "a third", "and the last"]


@pytest.fixture
def fresh() -> Iterator[Provider]:
    provider = Provider(dimensions=DIMENSIONS)
    yield provider
    provider.close()


@pytest.fixture
def asked(fresh: Provider) -> Model:
    return Model("m", DIMENSIONS, fresh.base_url, "k", timeout=5)


def embed(texts: list[str], model: Model) -> Vectors:
    """As the stage does it; the first refusal is raised."""
    found, refused = embed_all(texts, lambda part, _: openai.embed(part, model).vectors, 100)
    for refusal in refused.values():
        raise refusal
    return np.stack([found[number] for number in range(len(texts))])


def expected(texts: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.stack([vector_of(text, DIMENSIONS) for text in texts])


@pytest.mark.parametrize("fault", ["none", "shuffled"])
def test_each_text_gets_its_own_vector(fresh: Provider, asked: Model, fault: str) -> None:
    fresh.behave(script=[fault])
    vectors = embed(TEXTS, asked)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected(TEXTS), atol=1e-7)


@pytest.mark.parametrize(
    "fault",
    [
        *("too_few", "too_many", "duplicate_index", "nan", "truncated", "invalid_json", "html"),
        *("reset", "closed", "lost", "cut", "error_500", "error_502", "error_503"),
    ],
)
def test_an_answer_that_is_none_says_nothing_about_the_document(fresh: Provider, asked: Model, fault: str) -> None:
    fresh.behave(script=[fault])
    with pytest.raises(Unavailable) as caught:
        embed(TEXTS, asked)
    assert caught.value.code == "provider_unavailable"
    assert not any(text in str(caught.value) for text in TEXTS)
    np.testing.assert_allclose(embed(TEXTS, asked), expected(TEXTS), atol=1e-7)


def test_vectors_of_another_length_are_for_a_person_to_look_at(fresh: Provider, asked: Model) -> None:
    fresh.behave(script=["wrong_dimensions"])
    with pytest.raises(ProviderUnusable) as caught:
        embed(TEXTS, asked)
    assert caught.value.code == "provider_dimensions"


def test_a_text_that_is_too_long_is_embedded_whole_in_parts(fresh: Provider, asked: Model) -> None:
    fresh.behave(max_input_tokens=100)
    long = " ".join(f"word{number}" for number in range(120))
    vectors = embed([*TEXTS, long], asked)
    np.testing.assert_allclose(vectors[:-1], expected(TEXTS), atol=1e-7)
    assert np.linalg.norm(vectors[-1]) == pytest.approx(1, abs=1e-6)
    parts = [text for texts in fresh.requests for text in texts if text not in TEXTS and text != long]
    assert {word for part in parts for word in part.split()} >= set(long.split())
    # Nearer to the whole than any of its words is.
    assert vectors[-1] @ vector_of(long, DIMENSIONS) > 0.9


def test_a_long_text_that_the_provider_takes_is_not_divided(fresh: Provider, asked: Model) -> None:
    long = "naïve café " * 50
    np.testing.assert_allclose(embed([long], asked), expected([long]), atol=1e-7)
    assert fresh.requests == [[long]]


def test_a_text_that_is_refused_for_what_it_says_spoils_no_other(fresh: Provider, asked: Model) -> None:
    fresh.behave(poison="poison")
    texts = [*TEXTS[:2], "a poison text", *TEXTS[2:]]
    found, refused = embed_all(texts, lambda part, _: openai.embed(part, asked).vectors, 100)
    assert {number: refusal.code for number, refusal in refused.items()} == {2: "embedding_rejected"}
    np.testing.assert_allclose(np.stack([found[number] for number in (0, 1, 3, 4)]), expected(TEXTS), atol=1e-7)
    # Each is paid for once: what was answered is not asked again.
    assert fresh.stats()["billed"]["inputs"] == len(TEXTS)


def test_an_answer_says_what_it_costs(fresh: Provider, asked: Model) -> None:
    assert openai.embed(TEXTS, asked).tokens == fresh.stats()["billed"]["tokens"] > 0


def test_a_provider_that_nobody_reaches_is_told_from_one_that_does_not_answer(asked: Model) -> None:
    with pytest.raises(Unavailable) as caught:
        openai.embed(TEXTS, replace(asked, base_url="http://127.0.0.1:1/v1"))
    assert caught.value.code == openai.UNREACHABLE
