"""The local embedding server, asked through the real ``openai`` client."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest

from infra.local.stack import Stack, down, up

MODEL = "all-minilm-l6-v2-int8"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("OPENAI_API_KEY", raising=False)
        folder = tmp_path_factory.mktemp("embeddings")
        running = up(folder, parts=("embeddings",), detach=False)
        yield running
        down(folder)
        assert running.supervisor is not None
        running.supervisor.wait()


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key=stack.environment["OPENAI_API_KEY"], base_url=stack.environment["OPENAI_BASE_URL"], max_retries=0
    ) as made:
        yield made


def vectors(client: openai.OpenAI, *texts: str) -> np.ndarray:
    answer = client.embeddings.create(model=MODEL, input=list(texts))
    assert [item.index for item in answer.data] == list(range(len(texts)))
    return np.array([item.embedding for item in answer.data])


def test_vectors_are_of_length_1_and_near_for_texts_that_mean_the_same(client: openai.OpenAI) -> None:
    cat, kitten, rates = vectors(
        client, "The cat sat on the mat.", "A kitten is resting on a rug.", "The central bank raised interest rates in March."
    )
    assert cat.shape == (384,)
    assert np.linalg.norm(cat) == pytest.approx(1.0, abs=1e-5)
    assert cat @ kitten > 0.4 > 0.2 > cat @ rates


def test_the_last_sentence_of_a_long_text_counts(client: openai.OpenAI) -> None:
    start = " ".join(f"Sentence {number} tells of the river and its banks in spring." for number in range(80))
    volcano, law, question = vectors(
        client, f"{start} At last the volcano erupted.", f"{start} At last the tax law passed.", "an erupting volcano"
    )
    assert volcano @ law < 0.9995
    assert question @ volcano > question @ law


def test_a_text_has_the_same_vector_alone_and_in_a_batch_of_other_lengths(client: openai.OpenAI) -> None:
    texts = ["short", "a middling sentence about the weather in the north", "word " * 700, "é ü 漢字 😀"]
    together = vectors(client, *texts)
    for text, vector in zip(texts, together, strict=True):
        # int8 layers scale by the batch's largest value, so equal to the last bit can't be asked.
        assert vectors(client, text)[0] @ vector > 0.99


def test_both_encodings_carry_the_same_numbers_and_usage_counts_tokens(client: openai.OpenAI) -> None:
    # Not asked for an encoding, the client takes base64 and decodes it.
    encoded = client.embeddings.create(model=MODEL, input="two words")
    plain = client.embeddings.create(model=MODEL, input="two words", encoding_format="float")
    assert encoded.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (2, 2)
    assert [model.id for model in client.models.list()] == [MODEL]


def test_what_can_not_be_answered_raises_the_clients_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model"):
        client.embeddings.create(model="text-embedding-3-small", input="x")
    with pytest.raises(openai.BadRequestError, match="384"):
        client.embeddings.create(model=MODEL, input="x", dimensions=256)
    with pytest.raises(openai.BadRequestError, match="empty"):
        client.embeddings.create(model=MODEL, input=["x", ""])
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="wrong").embeddings.create(model=MODEL, input="x")
    assert caught.value.code == "invalid_api_key"


def test_the_server_writes_nothing_into_the_home_folder(stack: Stack, client: openai.OpenAI) -> None:
    vectors(client, "anything")
    home = stack.data_dir.parent / "home0"
    assert json.loads((stack.data_dir / "run" / "processes.json").read_text())["embeddings"]["environment"]["HOME"] == str(home)
    assert list(home.rglob("*")) == []


def test_the_server_is_not_started_where_the_user_has_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LEX_INGEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-users-own")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("LEX_INGEST_EMBEDDING_MODEL", "the-users-model")
    stack = up(tmp_path / "d", parts=("valkey", "embeddings"), detach=False)
    found = stack.parts()
    down(tmp_path / "d")
    assert stack.supervisor is not None
    stack.supervisor.wait()
    assert [part.name for part in found] == ["valkey"]
    assert stack.environment["OPENAI_API_KEY"] == "sk-users-own"
    assert stack.environment["LEX_INGEST_EMBEDDING_MODEL"] == "the-users-model"
    assert "LEX_INGEST_EMBEDDING_PROVIDER" not in stack.environment
