"""What the words of a refusal mean: those that servers answer with (``worker.embed.refusals`` names the sources)."""

from __future__ import annotations

import json

import pytest

from worker.embed.refusals import Kind, Refusal, is_web_page, read_refusal

LONG, MANY, LARGE = Kind.TEXT_TOO_LONG, Kind.TOO_MANY_TEXTS, Kind.REQUEST_TOO_LARGE


def error(message: str, code: str | int | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        # OpenAI and Azure
        (400, "This model's maximum context length is 8192 tokens, however you requested 9000 (9000 in your prompt).", LONG),
        (400, "Invalid 'input': maximum context length is 8192 tokens.", LONG),
        (400, "Invalid 'input[0]': maximum input length is 8192 tokens.", LONG),
        (400, "Invalid 'input': maximum request size is 300000 tokens per request.", LARGE),
        (400, "Requested 310000 tokens, max 300000 tokens per request", LARGE),
        (429, "Request too large for text-embedding-3-small on tokens per min (TPM): Limit 40000, Requested 60000.", LARGE),
        (429, "Rate limit reached for text-embedding-3-small on tokens per min (TPM).", Kind.THROTTLED),
        (404, "The API deployment for this resource does not exist.", Kind.MODEL),
        (400, "'$.input' is invalid. Please check the API reference.", Kind.TEXT),
        (500, "The server had an error while processing your request.", Kind.FAILURE),
        # vLLM
        (400, "This model's maximum context length is 512 tokens. However, you requested 1502 tokens. Please reduce it.", LONG),
        (400, "You passed 8193 input tokens. However, the model's context length is only 8192 tokens.", LONG),
        (400, "Model x does not support matryoshka representation, changing output dimensions leads to poor results.",
         Kind.DIMENSIONS),
        # llama.cpp, llama-box
        (500, "input (992 tokens) is too large to process. increase the physical batch size (current batch size: 512)", LONG),
        (500, "input is larger than the max context size. skipping", LONG),
        (400, "the request exceeds the available context size, try increasing it", LONG),
        (500, "decoding exceeds the available context size. try increasing the context size.", LONG),
        (400, "Illegal param: prefill 744 tokens exceed n_ctx_per_seq, try increasing total context size", LONG),
        (501, "This server does not support embeddings. Start it with `--embeddings`", Kind.MODEL),
        # Ollama, LM Studio, NIM
        (400, "the input length exceeds the context length", LONG),
        (500, "input length exceeds maximum context length", LONG),
        (400, "Input length 6491 exceeds context length 1500", LONG),
        (400, "the model is loaded with context length of only 32768 tokens, which is not enough", LONG),
        (400, "Input length 1024 exceeds maximum allowed token size 512", LONG),
        # Mistral, Gemini, DashScope
        (400, "Too many tokens in batch. Max is 16384 got 17555", LARGE),
        (400, "Request payload size exceeds the limit: 4194304 bytes.", LARGE),
        (400, "The input token count is 20050 but the model supports up to 20000.", LONG),
        (400, "API key not valid. Please pass a valid API key.", Kind.KEY),
        (400, "Range of input length should be [1, 30000]", LONG),
        # Others
        (402, "Insufficient Balance", Kind.QUOTA),
        (400, "base64 encoding is not currently supported", Kind.ENCODING),
        (400, "Invalid value for 'encoding_format' = base64. Supported values: ['float'].", Kind.ENCODING),
        (400, "Model does not exist. Please check it carefully.", Kind.MODEL),
    ],
)  # fmt: skip
def test_words_are_read(status: int, message: str, kind: Kind) -> None:
    assert read_refusal(status, error(message)).kind is kind


@pytest.mark.parametrize(
    ("body", "most"),
    [
        (
            error(
                "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than 10."
            ),
            10,
        ),
        (json.dumps({"error": "batch size 40 > maximum allowed batch size 32", "error_type": "Validation"}), 32),
        (
            json.dumps(
                [{"error": {"message": "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch"}}]
            ),
            100,
        ),
        (json.dumps({"message": "invalid request: total number of texts must be at most 96, received 128"}), 96),
        (error("Invalid 'input': array too long. Expected an array with maximum length 2048, but got 3000.", "x"), 2048),
        (error("unreadable", "array_above_max_length"), None),
        (json.dumps({"message": "Too many inputs in request, split into more batches.", "code": "3210"}), None),
    ],
)
def test_too_many_texts_say_how_many_are_allowed(body: str, most: int | None) -> None:
    assert read_refusal(400, body) == Refusal(MANY, most)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (413, json.dumps({"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 534"}), LONG),
        (413, json.dumps({"error": "Input validation error: `inputs` must have less than 32000 characters. Given: 67337"}), LONG),
        (413, "<html><h1>413 Request Entity Too Large</h1></html>", LARGE),
        (413, "", LARGE),
        (400, error("x", "context_length_exceeded"), LONG),
        (429, error("x", "insufficient_quota"), Kind.QUOTA),
        (400, json.dumps({"detail": "The max allowed tokens per submitted batch is 120000. Your batch has 121138."}), LARGE),
        (400, json.dumps({"detail": "The example at index 0 in your batch has too many tokens and does not fit into the model's "
                                    "context window of 32000 tokens. Please lower the number of tokens in the batch."}), LONG),
        (422, json.dumps({"detail": [{"loc": ["body", "encoding_format"], "msg": "Input should be 'float'"}]}), Kind.ENCODING),
        (401, "", Kind.KEY),
        (403, "<html>blocked</html>", Kind.KEY),
        (502, "<html>Bad Gateway</html>", Kind.FAILURE),
        (400, "[" * 100_000, Kind.TEXT),
    ],
)  # fmt: skip
def test_bodies_of_every_form_are_read(status: int, body: str, kind: Kind) -> None:
    assert read_refusal(status, body).kind is kind


def test_the_input_that_an_error_quotes_is_not_read() -> None:
    quoted = {"detail": [{"loc": ["body", "input"], "msg": "Input should be valid", "input": "maximum context length base64"}]}
    assert read_refusal(422, json.dumps(quoted)).kind is Kind.TEXT


@pytest.mark.parametrize(("body", "is_page"), [("<html>login", True), (" <!DOCTYPE html>", True), ('{"data": []}', False)])
def test_a_web_page_is_told_from_an_answer(body: str, is_page: bool) -> None:
    assert is_web_page(body) is is_page
