"""What the command line learns of the local model server's load, from a server over HTTP that answers well, badly or never."""

from __future__ import annotations

import json
import socket
import time

import pytest

from infra.cli import local_model
from infra.cli.local_model import LocalModelLoad
from tests.support.load_server import server_that_answers
from worker.setting_values import Provider
from worker.settings import Settings


def local(url: str) -> Settings:
    return Settings(embedding_provider="local", openai_base_url=url, openai_api_key="a key")


def test_the_server_s_load_is_read_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    answer = {"texts_per_second": 3.14, "tokens_per_second": 800.0, "waiting_texts": 181, "requests": 4, "dropped": 1}
    with server_that_answers(json.dumps(answer).encode()) as (url, asked):
        load = local_model.load(local(url))
        beside = Settings(providers=(("local", Provider("its key", url)),))
        assert local_model.load(beside) == load
    assert load == LocalModelLoad(3.14, 181)
    assert load.sentence() == "the local model is busy: 3.1 chunks/s, 181 to go"
    assert load.sentence(12_345) == "the local model is busy: 3.1 chunks/s, 12,345 to go"
    assert asked == [("/v1/status", "Bearer a key"), ("/v1/status", "Bearer its key")]


def test_an_idle_model_is_not_called_busy() -> None:
    assert LocalModelLoad(None, 0).sentence() is None
    assert LocalModelLoad(None, 0).sentence(5) is None
    assert LocalModelLoad(3.0, 7).sentence(0) is None
    assert LocalModelLoad(None, 7).sentence() == "the local model is busy: 7 to go"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200), (b"<html>", 200), (b"[]", 200), (b"\xff", 200), (b"{}", 200), (b'{"waiting_texts": true}', 200),
        (b'{"waiting_texts": -1}', 200), (b'{"waiting_texts": "3"}', 200), (b"not found", 404), (b'{"waiting_texts": 1}', 500),
    ],
)  # fmt: skip
def test_an_answer_of_another_kind_is_no_load(body: bytes, status: int) -> None:
    with server_that_answers(body, status) as (url, asked):
        assert local_model.load(local(url)) is None
        assert asked


@pytest.mark.parametrize("rate", ["null", "0", "-1", "NaN", "true", '"3"'])
def test_a_rate_that_is_none_is_left_out(rate: str) -> None:
    with server_that_answers(f'{{"texts_per_second": {rate}, "waiting_texts": 2}}'.encode()) as (url, _):
        assert local_model.load(local(url)) == LocalModelLoad(None, 2)


def test_another_provider_is_not_asked_and_a_dead_or_frozen_server_holds_nobody_up() -> None:
    with server_that_answers(b'{"waiting_texts": 1}') as (url, asked):
        assert local_model.load(Settings(embedding_provider="openai", openai_base_url=url, openai_api_key="a key")) is None
        assert asked == []
    assert local_model.load(local(url)) is None
    assert local_model.load(Settings(embedding_provider="local")) is None
    # It takes connections and never answers, as a stopped process does.
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        begun = time.monotonic()
        assert local_model.load(local(f"http://127.0.0.1:{frozen.getsockname()[1]}/v1")) is None
        assert time.monotonic() - begun < 30
