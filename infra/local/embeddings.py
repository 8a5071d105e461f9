"""An OpenAI-compatible embeddings server on loopback, for a laptop with no key: one code path, the ``openai`` client.

    LEX_LOCAL_KEY=… python -m infra.local.embeddings --port PORT

``POST /v1/embeddings`` (page "Create embeddings" of OpenAI's API reference: a text or up to 2048 of them, ``float`` or
``base64``), ``GET /v1/models``, and ``GET /v1/status``, which says how busy the model is:

    {"texts_per_second": 3.1, "tokens_per_second": 3100.0, "waiting_texts": 181, "requests": 3, "dropped": 0}

The speeds are of about the last 30 seconds, and null where nothing was computed since the start. ``waiting_texts`` are accepted
and not computed yet, ``requests`` are accepted and not answered yet, ``dropped`` counts the requests since the start whose
client left before the answer: the rest of such a request is not computed.

``infra.local.embedding_scheduler`` has the rule by which requests share the model. An error has OpenAI's JSON form, so that
the client raises its own exceptions.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import logging
import os
import select
import socket
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from infra.local.embedding_runner import MAX_REQUESTS, Overloaded, Runner
from infra.local.minilm import DIMENSIONS, MODEL, Model, Tokens
from infra.local.session_priority import SessionPriority
from worker import process

log = logging.getLogger(__name__)

# OpenAI's own limits of one request. The tokens are a minute's work of two cores.
MAX_TEXTS, MAX_TOKENS = 2048, 300_000
# Bytes of a request: 13 per token that is allowed, while Japanese as JSON escapes needs 6.
MAX_BODY = 4_000_000
# Connections at a time, each with a thread. A connection that does not wait for vectors is answered at once.
MAX_CONNECTIONS = 4 * MAX_REQUESTS
# Seconds that a connection may send or take nothing while a request is read or an answer is written.
SOCKET_TIMEOUT = 20.0
# Seconds between two checks whether a waiting client is still connected.
LOOK = 0.1
# Seconds after which a client may try again where too many requests wait.
RETRY_AFTER = 5


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


def _refusal(status: int, message: str, code: str = "invalid_request", kind: str = "invalid_request_error") -> HTTPException:
    error = {"message": message, "type": kind, "param": None, "code": code}
    response = _json({"error": error}, status)
    if status == 429:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return HTTPException(message, response)


def _embeddings_answer(vectors: NDArray[np.float32], tokens: int, *, as_base64: bool) -> Response:
    """One JSON object, written vector by vector: in one call, 2048 vectors would stop all other threads for half a second."""
    items = []
    for index, vector in enumerate(vectors):
        embedding = base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_base64 else vector.tolist()
        items.append(json.dumps({"object": "embedding", "index": index, "embedding": embedding}))
    rest = json.dumps({"object": "list", "model": MODEL, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
    return Response(f'{{"data": [{", ".join(items)}], {rest[1:]}', content_type="application/json")


def _too_many_tokens(texts: int) -> HTTPException:
    """The answer in OpenAI's words, by which clients know whether to send fewer texts or to divide a text."""
    if texts == 1:
        message = f"This model's maximum context length is {MAX_TOKENS} tokens, and the text has more. Send it in parts."
        return _refusal(400, message, "context_length_exceeded")
    message = f"Requested more than {MAX_TOKENS} tokens, max {MAX_TOKENS} tokens per request. Send fewer texts."
    return _refusal(400, message, "max_tokens_per_request", "max_tokens_per_request")


def body_of(request: Request) -> Any:
    """The JSON of a request.

    Raises:
        HTTPException: the body is missing, cut off, too large, or not JSON.
    """
    request.max_content_length = MAX_BODY
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise _refusal(
            413, f"The request has more than {MAX_BODY} bytes, the most that this server reads. Send fewer or shorter texts.",
            "request_too_large",
        ) from None  # fmt: skip
    except HTTPException:
        raise _refusal(400, "The body did not arrive whole, or its chunks are malformed. Send the request again.") from None
    if not body:
        raise _refusal(400, "The request has no body. Send a JSON object and its Content-Length.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _refusal(400, f"The body is not JSON in UTF-8: {type(error).__name__}. Send a JSON object.") from None


def texts_of(body: Any) -> list[str]:
    """The texts of a request.

    Raises:
        HTTPException: there is none, one is empty or can't be text, there are too many, or something asked for is not
            offered here.
    """
    if not isinstance(body, dict):
        raise _refusal(400, "The body is not a JSON object. Send one with 'model' and 'input'.")
    if body.get("model") != MODEL:
        raise _refusal(404, f"This server has the model {MODEL!r} only.", "model_not_found")
    if body.get("dimensions") not in (None, DIMENSIONS):
        raise _refusal(400, f"{MODEL} makes vectors of {DIMENSIONS} dimensions only.")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise _refusal(400, "encoding_format must be 'float' or 'base64'.")
    texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input")
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise _refusal(400, "input must be a text or a list of texts, none of them empty.")
    if not 0 < len(texts) <= MAX_TEXTS:
        raise _refusal(400, f"input must have from 1 to {MAX_TEXTS} texts.")
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _refusal(400, f"Text {index} of input has half a surrogate pair, which is no character. Remove it.") from None
    return texts


def has_left(connection: socket.socket) -> bool:
    """Whether the client closed its connection. Reads nothing and does not wait."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


class Application:
    """The WSGI application. A thread per request reads, tokenises and waits; the runner's threads compute."""

    def __init__(self, key: str, model: Model, priority: SessionPriority) -> None:
        self._key, self._model, self._runner = key, model, Runner(model.embed_window, priority)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        try:
            response: Any = self._answer(Request(environ))
        except HTTPException as refusal:
            response = refusal
        except ConnectionError:
            raise  # the server closes the connection and writes no log
        except Exception:
            log.exception("a request failed")
            response = _refusal(500, "The model server failed; its log says why.", "internal_error", "server_error")
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._key.encode()):
            raise _refusal(401, "Incorrect API key provided.", "invalid_api_key")
        if (request.method, request.path) == ("GET", "/v1/models"):
            return _json({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "local"}]})
        if (request.method, request.path) == ("GET", "/v1/status"):
            return _json(self._runner.load())
        if (request.method, request.path) == ("POST", "/v1/embeddings"):
            return self._embeddings(body_of(request), request.environ["werkzeug.socket"])
        raise _refusal(404, f"Unknown request: {request.method} {request.path}.", "unknown_url")

    def _embeddings(self, body: Any, connection: socket.socket) -> Response:
        texts = texts_of(body)
        try:
            job = self._runner.accept(len(texts))
        except Overloaded:
            message = f"{MAX_REQUESTS} requests wait for the model already. Try again in {RETRY_AFTER} s."
            raise _refusal(429, message, "rate_limit_exceeded", "rate_limit_error") from None
        dropped = False
        try:
            tokens = self._tokenize(texts, connection)
            self._runner.submit(job, tokens)
            while not job.finished.wait(LOOK):
                if has_left(connection):
                    raise ConnectionAbortedError
            vectors = job.result()
        except ConnectionAbortedError:
            dropped = True
            raise
        finally:
            self._runner.close(job, dropped=dropped)
        return _embeddings_answer(vectors, sum(map(len, tokens)), as_base64=body.get("encoding_format") == "base64")

    def _tokenize(self, texts: list[str], connection: socket.socket) -> list[Tokens]:
        """The tokens of each text. One text at a time, to bound the memory and to stop soon after the client left."""
        found: list[Tokens] = []
        total = 0
        for text in texts:
            if has_left(connection):
                raise ConnectionAbortedError
            found.append(self._model.tokenize(text))
            total += len(found[-1])
            if total > MAX_TOKENS:
                raise _too_many_tokens(len(texts))
        return found


class Handler(WSGIRequestHandler):
    """Without a line in the log for each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = SOCKET_TIMEOUT

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class Server(ThreadedWSGIServer):
    """One thread per connection. A connection beyond ``MAX_CONNECTIONS`` is closed at once."""

    def __init__(self, port: int, application: Application) -> None:
        super().__init__("127.0.0.1", port, application, Handler)
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    priority = SessionPriority()  # before hide_memory(), which makes root the owner of the autogroup file
    process.hide_memory()
    Server(port, Application(os.environ["LEX_LOCAL_KEY"], Model(), priority)).serve_forever()


if __name__ == "__main__":
    main()
