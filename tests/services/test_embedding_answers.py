"""The provider's answers, good and bad, as the embedding stage meets them through the ``openai`` client."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.provider import Provider, vector_of
from worker.domain.errors import ProviderUnusable, Rejected, Unavailable
from worker.embed.openai import embed
from worker.settings import Settings

DIMENSIONS = 16
TEXTS = ["one text", "another text of more words", "a third", "and the last"]


@pytest.fixture
def fresh() -> Iterator[Provider]:
    provider = Provider(dimensions=DIMENSIONS)
    yield provider
    provider.close()


@pytest.fixture
def asked(fresh: Provider) -> Settings:
    return Settings(
        openai_api_key="k",
        openai_base_url=fresh.base_url,
        embedding_model="m",
        embedding_dimensions=DIMENSIONS,
        embedding_max_tokens=100,
        embedding_timeout=5,
    )


def expected(texts: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.stack([vector_of(text, DIMENSIONS) for text in texts])


@pytest.mark.parametrize("fault", ["none", "shuffled"])
def test_each_text_gets_its_own_vector(fresh: Provider, asked: Settings, fault: str) -> None:
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
def test_an_answer_that_is_none_says_nothing_about_the_document(fresh: Provider, asked: Settings, fault: str) -> None:
    fresh.behave(script=[fault])
    with pytest.raises(Unavailable) as caught:
        embed(TEXTS, asked)
    assert caught.value.code == "provider_unavailable"
    assert not any(text in str(caught.value) for text in TEXTS)
    np.testing.assert_allclose(embed(TEXTS, asked), expected(TEXTS), atol=1e-7)


def test_vectors_of_another_length_are_for_a_person_to_look_at(fresh: Provider, asked: Settings) -> None:
    fresh.behave(script=["wrong_dimensions"])
    with pytest.raises(ProviderUnusable) as caught:
        embed(TEXTS, asked)
    assert caught.value.code == "provider_dimensions"


def test_a_text_that_is_too_long_is_embedded_whole_in_parts(fresh: Provider, asked: Settings) -> None:
    fresh.behave(max_input_tokens=100)
    long = " ".join(f"word{number}" for number in range(120))
    vectors = embed([*TEXTS, long], asked)
    np.testing.assert_allclose(vectors[:-1], expected(TEXTS), atol=1e-7)
    assert np.linalg.norm(vectors[-1]) == pytest.approx(1, abs=1e-6)
    parts = [text for texts in fresh.requests for text in texts if text not in TEXTS and text != long]
    assert {word for part in parts for word in part.split()} >= set(long.split())
    # Nearer to the whole than any of its words is.
    assert vectors[-1] @ vector_of(long, DIMENSIONS) > 0.9


def test_a_long_text_that_the_provider_takes_is_not_divided(fresh: Provider, asked: Settings) -> None:
    long = "naïve café " * 50
    np.testing.assert_allclose(embed([long], asked), expected([long]), atol=1e-7)
    assert fresh.requests == [[long]]


def test_a_text_that_is_refused_for_what_it_says_is_rejected(fresh: Provider, asked: Settings) -> None:
    fresh.behave(poison="poison")
    with pytest.raises(Rejected) as caught:
        embed([*TEXTS, "a poison text"], asked)
    assert caught.value.code == "embedding_rejected"
    assert fresh.stats()["billed"]["inputs"] <= len(TEXTS)
