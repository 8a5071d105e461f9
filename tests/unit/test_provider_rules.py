"""The test provider's answers without its sockets: OpenAI's rules, the order they are asked in, and what is counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.provider_behaviour import Behaviour
from tests.support.provider_core import Core, Reply
from tests.support.provider_rules import digest_of, tokens_of

POISON = "\u2620poison"


def core(**behaviour: Any) -> Core:
    return Core(Behaviour().changed({"dimensions": 4, **behaviour}))


def ask(one: Core, *texts: Any, now: float = 0.0, delivered: bool = True, key: str = "k", **more: Any) -> Reply:
    body = json.dumps({"model": "m", "input": list(texts), "encoding_format": "base64", **more}).encode()
    reply = one.handle("POST", "/v1/embeddings", key, body, now, 0.0)
    reply.ended(delivered)
    return reply


def error(reply: Reply) -> tuple[int, Any, str]:
    body = json.loads(reply.payload)["error"]
    return reply.status, body["code"], body["message"]


@pytest.mark.parametrize(("text", "tokens"), [("a", 1), ("abcd", 1), ("abcde", 2), ("éé", 1), ("€€", 2), ([1, 2, 3], 3)])
def test_tokens_are_counted_by_bytes(text: Any, tokens: int) -> None:
    assert tokens_of(text) == tokens


def test_usage_is_the_sum_of_the_inputs() -> None:
    answer = json.loads(ask(core(), "abcd", "abcde").payload)
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert [item["index"] for item in answer["data"]] == [0, 1]


@pytest.mark.parametrize("given", ["text", ["text"], [1, 2], [[1, 2], [3]]])
def test_inputs_may_be_texts_or_tokens(given: Any) -> None:
    assert ask(core(), input=given).status == 200


@pytest.mark.parametrize("given", [None, [], {}, [None], 7, [["a"]][:0]])
def test_anything_else_is_a_bad_request(given: Any) -> None:
    assert error(ask(core(), input=given))[0] == 400


def test_the_limits_of_a_request() -> None:
    one = core(max_inputs=2, max_input_tokens=10, max_request_tokens=15, too_long_code="context_length_exceeded")
    assert ask(one, "a" * 40, "a" * 20).status == 200
    assert error(ask(one, "a", "a", "a"))[:2] == (400, "array_above_max_length")
    status, code, message = error(ask(one, "a" * 41))
    assert (status, code) == (400, "context_length_exceeded")
    assert message.startswith("This model's maximum context length is 10 tokens, however you requested 11 tokens")
    assert error(ask(one, "a" * 40, "a" * 24)) == (
        400,
        "max_tokens_per_request",
        "Requested 16 tokens, max 15 tokens per request",
    )
    assert error(ask(one, "a", ""))[2] == "Invalid 'input[1]': input cannot be an empty string."
    assert one.counts.billed.requests == 1


def test_one_poisoned_input_fails_the_request_and_is_not_named() -> None:
    one = core()
    status, code, message = error(ask(one, "good", f"bad {POISON} text"))
    assert (status, code) == (400, None)
    assert "input[1]" not in message
    assert ask(one, "good").status == 200
    assert one.counts.billed.inputs == 1


def test_over_the_limit_is_429_with_the_headers_and_costs_nothing() -> None:
    one = core(requests_per_minute=1, minute=6)
    good = ask(one, "a")
    assert good.headers["x-ratelimit-remaining-requests"] == "0"
    refused = ask(one, "b", now=2.0)
    assert error(refused)[:2] == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "4"
    assert refused.headers["x-ratelimit-reset-requests"] == "4s"
    assert ask(one, "b", now=6.0).status == 200
    assert (one.counts.limited, one.counts.billed.requests) == (1, 2)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error_500", 500, None), ("error_503", 503, None), ("throttled", 429, "rate_limit_exceeded"),
        ("throttled_bare", 429, "rate_limit_exceeded"), ("quota", 429, "insufficient_quota"), ("key", 401, "invalid_api_key"),
        ("model", 404, "model_not_found"),
    ],
)  # fmt: skip
def test_refusals_on_demand_bill_nothing(fault: str, status: int, code: str | None) -> None:
    one = core(script=[fault])
    assert error(ask(one, "a"))[:2] == (status, code)
    assert one.counts.billed.requests == 0
    assert one.counts.faults == {fault.rstrip("_0123456789"): 1}


def test_refusals_on_demand_have_the_headers_that_were_asked_for() -> None:
    script = [{"kind": "throttled", "retry_after": 3}, "throttled_bare", {"kind": "error_503", "retry_after": 0.5}, "error_502"]
    one = core(script=script)
    replies = [ask(one, "a") for _ in script]
    assert [reply.headers.get("retry-after") for reply in replies] == ["3", None, "0.5", None]
    assert replies[3].content_type == "text/html"


def test_keys_and_models_are_checked_where_there_is_a_list() -> None:
    one = core(keys=["k"], models=["m"])
    assert ask(one, "a").status == 200
    assert error(ask(one, "a", key="other"))[:2] == (401, "invalid_api_key")
    assert error(ask(one, "a", model="other"))[:2] == (404, "model_not_found")


@pytest.mark.parametrize("kind", ["lost", "cut", "truncated", "invalid_json", "html", "no_usage"])
def test_an_answer_that_nobody_can_read_is_billed_and_unconfirmed(kind: str) -> None:
    one = core(script=[kind])
    ask(one, "abcde", delivered=kind not in ("lost", "cut"))
    counts = one.counts
    assert (counts.billed.tokens, counts.answered.tokens, counts.unconfirmed.tokens, counts.deserted.tokens) == (2, 0, 2, 0)


@pytest.mark.parametrize("kind", ["too_few", "too_many", "duplicate_index", "wrong_dimensions", "nan"])
def test_a_useless_answer_is_billed_and_tells_so(kind: str) -> None:
    one = core(script=[kind])
    assert json.loads(ask(one, "abcde").payload)["usage"]["total_tokens"] == 2
    assert (one.counts.answered.tokens, one.counts.useless.tokens, one.counts.unconfirmed.tokens) == (2, 2, 0)


def test_a_client_that_has_gone_is_billed_and_unconfirmed() -> None:
    one = core()
    ask(one, "abcde", delivered=False)
    assert (one.counts.billed.tokens, one.counts.unconfirmed.tokens, one.counts.deserted.tokens) == (2, 2, 2)


def test_how_many_times_each_text_was_embedded() -> None:
    one = core()
    ask(one, "a", "b")
    ask(one, "b")
    assert one.counts.texts_as_json() == {digest_of("a").hex(): 1, digest_of("b").hex(): 2}
    assert one.counts.texts_as_json(at_least=2) == {digest_of("b").hex(): 2}
    assert one.counts.as_json()["texts"] == {"distinct": 2, "repeated": 1, "most": 2, "full": False}
    assert [request["outcome"] for request in one.counts.requests_as_json()] == ["answered", "answered"]


def test_a_reset_forgets_counts_faults_and_what_was_used() -> None:
    one = core(requests_per_minute=1)
    one.failures.append((500, "x", {}))
    one.change({"script": ["cut"], "latency": 3})
    one.reset()
    assert ask(one, "a").delay == 0
    assert one.counts.billed.requests == one.counts.answered.requests == 1


def test_changing_one_thing_leaves_the_rest() -> None:
    one = core(script=["key", "quota"], requests_per_minute=1)
    ask(one, "a")
    one.change({"latency": 1.5})
    one.change({"chances": {"none": 1}})
    assert error(ask(one, "a"))[1] == "insufficient_quota"
    assert ask(one, "a").status == 200
    assert ask(one, "a").status == 429
    assert ask(one, "a").delay == 1.5
