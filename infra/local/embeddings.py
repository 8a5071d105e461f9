"""An OpenAI-compatible embeddings server on loopback, for a laptop with no key: one code path, the ``openai`` client.

    LEX_LOCAL_KEY=… python -m infra.local.embeddings --port PORT

``POST /v1/embeddings`` (page "Create embeddings" of OpenAI's API reference: a text or up to 2048 of them, ``float`` or
``base64``) and ``GET /v1/models``. A refusal has OpenAI's JSON form, so that the client raises its own exceptions.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import os
import threading
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from infra.local.minilm import DIMENSIONS, MODEL, Model

MAX_TEXTS = 2048


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


def _refusal(status: int, message: str, code: str = "invalid_request") -> HTTPException:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return HTTPException(message, _json({"error": error}, status))


def texts_of(body: Any) -> list[str]:
    """The texts of a request.

    Raises:
        HTTPException: there is none, one is empty, there are too many, or something asked for is not offered here.
    """
    if body.get("model") != MODEL:
        raise _refusal(404, f"This server has the model {MODEL!r} only.", "model_not_found")
    if body.get("dimensions", DIMENSIONS) != DIMENSIONS:
        raise _refusal(400, f"{MODEL} makes vectors of {DIMENSIONS} dimensions only.")
    texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input")
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise _refusal(400, "input must be a text or a list of texts, none of them empty.")
    if not 0 < len(texts) <= MAX_TEXTS:
        raise _refusal(400, f"input must have from 1 to {MAX_TEXTS} texts.")
    return texts


class Application:
    """WSGI. One lock round the model: two requests at once would only share the cores."""

    def __init__(self, key: str, model: Model) -> None:
        self._key, self._model, self._lock = key, model, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        try:
            response: Any = self._answer(Request(environ))
        except HTTPException as refusal:
            response = refusal
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._key.encode()):
            raise _refusal(401, "Incorrect API key provided.", "invalid_api_key")
        if (request.method, request.path) == ("GET", "/v1/models"):
            return _json({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "local"}]})
        if (request.method, request.path) == ("POST", "/v1/embeddings"):
            return _json(self._embeddings(request.get_json()))
        raise _refusal(404, f"Unknown request: {request.method} {request.path}.", "unknown_url")

    def _embeddings(self, body: Any) -> Any:
        texts = texts_of(body)
        with self._lock:
            vectors, tokens = self._model.embed(texts)
        if body.get("encoding_format") == "base64":
            encoded: list[Any] = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        else:
            encoded = vectors.tolist()
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(encoded)]
        return {"object": "list", "data": data, "model": MODEL, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


class Handler(WSGIRequestHandler):
    """Without a line in the log for each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    application = Application(os.environ["LEX_LOCAL_KEY"], Model())
    make_server("127.0.0.1", parser.parse_args().port, application, threaded=True, request_handler=Handler).serve_forever()


if __name__ == "__main__":
    main()
