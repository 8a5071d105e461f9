"""The embedding provider of the tests as the real ``openai`` client meets it, in a thread and as a process."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from tests.support.provider import Provider, vector_of
from tests.support.provider_server import ProviderProcess

TEXTS = ["one text", "another text of more words", "a third"]


@pytest.fixture
def fresh() -> Iterator[Provider]:
    provider = Provider(dimensions=16)
    yield provider
    provider.close()


@pytest.fixture
def client(fresh: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="k", base_url=fresh.base_url, max_retries=0, timeout=10) as client:
        yield client


def ask(client: openai.OpenAI, texts: list[str] = TEXTS, **more: Any) -> Any:
    return client.embeddings.create(input=texts, model="m", **more)


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_each_text_gets_its_vector_in_either_encoding(client: openai.OpenAI, fresh: Provider, encoding: dict[str, str]) -> None:
    answer = ask(client, **encoding)
    assert answer.usage.total_tokens == sum(-(-len(text) // 4) for text in TEXTS)
    for text, item in zip(TEXTS, answer.data, strict=True):
        # The client decodes base64 only where it asked for it by itself.
        encoded = isinstance(item.embedding, str)
        vector = np.frombuffer(base64.b64decode(item.embedding), "<f4") if encoded else item.embedding
        np.testing.assert_allclose(vector, vector_of(text, 16), atol=1e-7)
    assert fresh.requests == [TEXTS]


def test_a_length_that_is_asked_for_is_given(client: openai.OpenAI) -> None:
    assert {len(item.embedding) for item in ask(client, dimensions=5).data} == {5}


def test_one_connection_serves_many_requests_and_many_connections_are_served_at_once(fresh: Provider) -> None:
    fresh.behave(latency=0.2)
    with (
        openai.OpenAI(api_key="k", base_url=fresh.base_url, max_retries=0) as client,
        ThreadPoolExecutor(20) as pool,
    ):
        begun = time.monotonic()
        list(pool.map(lambda number: ask(client, [f"text {number}"]), range(40)))
        assert time.monotonic() - begun < 3
    stats = fresh.stats()
    assert stats["max_in_flight"] == 20
    assert (stats["billed"]["requests"], stats["answered"]["requests"], stats["in_flight"]) == (40, 40, 0)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("error_500", openai.InternalServerError), ("error_502", openai.InternalServerError),
        ("throttled", openai.RateLimitError), ("quota", openai.RateLimitError),
        ("key", openai.AuthenticationError), ("model", openai.NotFoundError),
        ("reset", openai.APIConnectionError), ("closed", openai.APIConnectionError),
        ("lost", openai.APIConnectionError), ("cut", openai.APIConnectionError),
    ],
)  # fmt: skip
def test_a_fault_is_the_clients_error_and_the_next_request_works(
    client: openai.OpenAI, fresh: Provider, fault: str, error: type[Exception]
) -> None:
    fresh.behave(script=["none", fault])
    ask(client)
    with pytest.raises(error):
        ask(client)
    ask(client)
    stats = fresh.stats()
    lost = fault in ("lost", "cut")
    assert (stats["billed"]["requests"], stats["unconfirmed"]["requests"]) == (3, 1) if lost else (2, 0)
    assert (stats["answered"]["requests"], stats["in_flight"]) == (2, 0)


@pytest.mark.parametrize("fault", ["truncated", "invalid_json", "html", "no_usage", "nan", "too_few", "shuffled"])
def test_a_spoiled_answer_arrives_with_status_200(fresh: Provider, fault: str) -> None:
    fresh.behave(script=[fault])
    body = {"input": TEXTS, "model": "m", "encoding_format": "float"}
    answer = httpx2.post(f"{fresh.base_url}/embeddings", json=body)
    assert answer.status_code == 200
    whole = httpx2.post(f"{fresh.base_url}/embeddings", json=body)
    assert whole.content != answer.content


def test_an_answer_that_is_cut_arrives_in_part(fresh: Provider) -> None:
    fresh.behave(script=["cut"])
    with httpx2.stream("POST", f"{fresh.base_url}/embeddings", json={"input": TEXTS, "model": "m"}) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx2.TransportError):
            answer.read()


@pytest.mark.parametrize("kind", ["slow", "late"])
def test_a_slow_answer_takes_its_time_and_is_right(client: openai.OpenAI, fresh: Provider, kind: str) -> None:
    fresh.behave(script=[{"kind": kind, "seconds": 0.4}])
    begun = time.monotonic()
    assert len(ask(client).data) == 3
    assert time.monotonic() - begun > 0.3
    assert fresh.stats()["answered"]["requests"] == 1


def test_a_client_that_gives_up_leaves_an_unconfirmed_request(client: openai.OpenAI, fresh: Provider) -> None:
    fresh.behave(script=[{"kind": "late", "seconds": 30}])
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.2))
    deadline = time.monotonic() + 5
    while fresh.stats()["in_flight"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fresh.stats()["deserted"]["requests"] == fresh.stats()["unconfirmed"]["requests"] == 1


def test_the_client_is_told_when_to_come_again(client: openai.OpenAI, fresh: Provider) -> None:
    fresh.behave(requests_per_minute=1, minute=60)
    good = client.embeddings.with_raw_response.create(input=TEXTS, model="m")
    assert good.headers["x-ratelimit-reset-requests"] == "1m0s"
    for style in ("full", "date", "none", "garbage"):
        fresh.behave(headers=style)
        with pytest.raises(openai.RateLimitError) as refused:
            ask(client)
        assert refused.value.code == "rate_limit_exceeded"
        told = refused.value.response.headers.get("retry-after")
        match style:
            case "full":
                assert 58 <= float(told or 0) <= 60
            case "date":
                assert 55 < parsedate_to_datetime(told or "").timestamp() - time.time() < 62
            case "none":
                assert told is None
            case _:
                assert told == "soon"


def test_as_a_process_it_is_the_same_and_is_controlled_over_http() -> None:
    with ProviderProcess(dimensions=8, vectors="table", tokens_per_minute=1000, script=["error_503"]) as provider:
        with openai.OpenAI(api_key="k", base_url=provider.base_url, max_retries=0) as client:
            with pytest.raises(openai.InternalServerError):
                ask(client)
            assert len(ask(client).data[0].embedding) == 8
            provider.behave(chances={"key": 1})
            with pytest.raises(openai.AuthenticationError):
                ask(client)
            with pytest.raises(ValueError, match="there is no speed"):
                provider.behave(speed=9)
        stats = provider.stats()
        assert stats["statuses"] == {"503": 1, "200": 1, "401": 1}
        assert stats["paths"] == {"POST /v1/embeddings": 3}
        assert provider.texts() == {hashlib.sha256(text.encode()).hexdigest(): 1 for text in TEXTS}
        assert [request["outcome"] for request in provider.requests()] == ["answered"]
        provider.reset()
        assert provider.stats()["billed"] == {"requests": 0, "inputs": 0, "tokens": 0}
    assert provider.process.returncode == 0


def test_what_a_client_knows_of_and_what_is_billed_agree_in_a_storm_of_faults(fresh: Provider) -> None:
    kinds = ("error", "throttled", "reset", "closed", "lost", "cut", "truncated", "html", "no_usage", "too_few", "slow", "late")
    fresh.behave(chances=[{"kind": kind, "seconds": 0.3, "chance": 0.05} for kind in kinds], requests_per_minute=150, minute=1)
    url = f"{fresh.base_url}/embeddings"

    def one(number: int) -> int:
        """The tokens that the answer tells of."""
        body = {"input": [f"text {number} {place}" for place in range(number % 7 + 1)], "model": "m", "encoding_format": "base64"}
        try:
            # Some late answers are not waited for.
            answer = httpx2.post(url, json=body, timeout=0.2 if number % 2 else 5)
            return int(answer.json()["usage"]["total_tokens"])
        except (httpx2.TransportError, ValueError, KeyError):
            return 0

    with ThreadPoolExecutor(8) as pool:
        known = sum(pool.map(one, range(400)))
    deadline = time.monotonic() + 5
    while fresh.stats()["in_flight"] and time.monotonic() < deadline:
        time.sleep(0.01)
    stats = fresh.stats()
    assert set(stats["faults"]) == set(kinds)
    assert stats["in_flight"] == 0
    for unit in ("requests", "inputs", "tokens"):
        assert stats["billed"][unit] == stats["answered"][unit] + stats["unconfirmed"][unit]
    assert known <= stats["answered"]["tokens"] <= stats["billed"]["tokens"]
    # What was in a client's buffer when it gave up is not seen here: a slow answer's last piece.
    assert known >= stats["answered"]["tokens"] - 100
    assert stats["unconfirmed"]["tokens"] > stats["deserted"]["tokens"] > 0


def test_without_http_the_answer_is_the_same(fresh: Provider) -> None:
    status, answer, _ = fresh.answer({"input": TEXTS, "model": "m"})
    assert status == 200
    assert len(answer["data"]) == 3
    assert fresh.stats()["answered"]["inputs"] == 3
