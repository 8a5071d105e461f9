"""The provider's answers, good and bad, as the embedding stage meets them through the ``openai`` client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.support.provider import Provider, vector_of
from worker.domain.errors import IngestError, ProviderUnusable, TextFailed, Unavailable
from worker.domain.vectors import Vectors
from worker.embed import openai
from worker.embed.long_inputs import Outcome, embed_all
from worker.embed.openai import Model
from worker.embed.request_size import RequestSizer

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
    """As the stage does it; the first failure is raised."""
    outcome = run(texts, model)
    for error in (outcome.failure, *outcome.refusals.values()):
        if error is not None:
            raise error
    assert outcome.unusable == {}
    return np.stack([outcome.vectors[number] for number in range(len(texts))])


def run(texts: list[str], model: Model, sizer: RequestSizer | None = None) -> Outcome:
    def ask(part: Sequence[str], _: object) -> tuple[Vectors, Mapping[int, str]]:
        answer = openai.embed(part, model)
        return answer.vectors, answer.unusable

    return embed_all(texts, ask, 100, sizer or RequestSizer(128, 290_000, 16, 60.0))


def expected(texts: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.stack([vector_of(text, DIMENSIONS) for text in texts])


@pytest.mark.parametrize("fault", ["none", "shuffled"])
def test_each_text_gets_its_own_vector(fresh: Provider, asked: Model, fault: str) -> None:
    fresh.behave(script=[fault])
    vectors = embed(TEXTS, asked)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected(TEXTS), atol=1e-7)


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        *((fault, TextFailed, "embedding_unusable") for fault in ("too_few", "too_many", "duplicate_index")),
        *((fault, Unavailable, "provider_answer") for fault in ("truncated", "invalid_json")),
        ("html", ProviderUnusable, "provider_answer"),
        *((fault, Unavailable, "provider_unavailable") for fault in ("reset", "closed", "lost", "cut")),
        *((fault, Unavailable, "provider_unavailable") for fault in ("error_500", "error_502", "error_503")),
    ],
)
def test_an_answer_that_is_none_has_its_reason_and_the_next_one_counts(
    fresh: Provider, asked: Model, fault: str, error: type[IngestError], code: str
) -> None:
    fresh.behave(script=[fault])
    with pytest.raises(error) as caught:
        embed(TEXTS, asked)
    assert caught.value.code == code
    assert not any(text in str(caught.value) for text in TEXTS)
    np.testing.assert_allclose(embed(TEXTS, asked), expected(TEXTS), atol=1e-7)


def test_the_vectors_beside_one_that_cannot_be_used_count(fresh: Provider, asked: Model) -> None:
    fresh.behave(script=["nan"])
    outcome = run(TEXTS, asked)
    assert list(outcome.unusable) == [len(TEXTS) - 1]
    assert "NaN" in outcome.unusable[len(TEXTS) - 1]
    np.testing.assert_allclose(np.stack([outcome.vectors[number] for number in range(3)]), expected(TEXTS[:3]), atol=1e-7)


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
    outcome = run(texts, asked)
    assert {number: refusal.code for number, refusal in outcome.refusals.items()} == {2: "embedding_rejected"}
    np.testing.assert_allclose(np.stack([outcome.vectors[number] for number in (0, 1, 3, 4)]), expected(TEXTS), atol=1e-7)
    # Each is paid for once: what was answered is not asked again.
    assert fresh.stats()["billed"]["inputs"] == len(TEXTS)


def test_a_text_that_is_too_long_however_short_ends_and_names_the_setting(fresh: Provider, asked: Model) -> None:
    fresh.behave(max_input_tokens=1)
    outcome = run([TEXTS[1] * 20, "go"], asked)
    assert list(outcome.vectors) == [1]
    assert outcome.refusals[0].code == "embedding_rejected"
    assert "LEX_INGEST_EMBEDDING_MAX_TOKENS" in str(outcome.refusals[0])
    assert sum(fresh.stats()["statuses"].values()) < 20


def test_what_was_too_long_once_is_divided_at_once(fresh: Provider, asked: Model) -> None:
    fresh.behave(max_input_tokens=100)
    sizer = RequestSizer(128, 290_000, 16, 60.0)
    run(["word " * 200], asked, sizer)
    fresh.reset()
    fresh.behave(max_input_tokens=100)
    outcome = run(["other " * 200, "short"], asked, sizer)
    assert sorted(outcome.vectors) == [0, 1]
    assert fresh.stats()["statuses"] == {"200": 1}
    # Another script has more tokens for as many bytes, and is measured by its characters.
    assert run(["漢" * 100], asked, sizer).vectors
    assert fresh.requests[-1] == ["漢" * 100]


@pytest.mark.parametrize("habit", ["nobase64", "nobase64_422", "nobase64_silent"])
def test_a_provider_without_base64_is_asked_for_numbers_and_then_always(fresh: Provider, asked: Model, habit: str) -> None:
    fresh.behave(habit=habit)
    for _ in range(3):
        np.testing.assert_allclose(embed(TEXTS, asked), expected(TEXTS), atol=1e-6)
    assert fresh.stats()["statuses"] == {("422" if habit == "nobase64_422" else "400"): 1, "200": 3}


def test_a_server_that_takes_another_encoding_than_before_is_followed(fresh: Provider, asked: Model) -> None:
    embed(TEXTS, asked)
    fresh.behave(habit="nobase64")
    np.testing.assert_allclose(embed(TEXTS, asked), expected(TEXTS), atol=1e-6)


def test_a_refused_text_is_asked_for_in_no_other_encoding_once_one_was_taken(fresh: Provider, asked: Model) -> None:
    embed(TEXTS, asked)
    fresh.behave(poison="poison")
    assert list(run(["a poison text"], asked).refusals) == [0]
    assert fresh.stats()["statuses"] == {"200": 1, "400": 1}


def test_an_answer_says_what_it_costs(fresh: Provider, asked: Model) -> None:
    assert openai.embed(TEXTS, asked).tokens == fresh.stats()["billed"]["tokens"] > 0


def test_a_provider_that_nobody_reaches_is_told_from_one_that_does_not_answer(asked: Model) -> None:
    with pytest.raises(Unavailable) as caught:
        openai.embed(TEXTS, replace(asked, base_url="http://127.0.0.1:1/v1"))
    assert caught.value.code == openai.UNREACHABLE
