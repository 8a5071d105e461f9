"""Bodies with status 200 that are no embeddings answer: each has a typed error, and a token count that no request has is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.domain.errors import IngestError
from worker.embed.decoding import read_answer


def body(embedding: Any, **fields: Any) -> bytes:
    return json.dumps({"data": [{"index": 0, "embedding": embedding}], **fields}).encode()


@pytest.mark.parametrize("embedding", [5, True, 0.5, [10**400, 1], {"a": 1}, [[1, 2]], [[1], [1, 2]], "é", ["x", "y"]])
def test_a_vector_that_is_no_list_of_numbers_is_no_answer(embedding: Any) -> None:
    with pytest.raises(IngestError) as caught:
        read_answer(body(embedding), 1, "model", 2)
    assert caught.value.code == "provider_answer"


@pytest.mark.parametrize("tokens", [2**64 - 1, 2**63, 10**30, True, -1, 5.0, "7", None, [7]])
def test_a_token_count_that_no_request_has_is_not_believed(tokens: Any) -> None:
    assert read_answer(body([0.6, 0.8], usage={"total_tokens": tokens}), 1, "model", 2).tokens is None


def test_a_token_count_is_read() -> None:
    assert read_answer(body([0.6, 0.8], usage={"total_tokens": 7}), 1, "model", 2).tokens == 7
