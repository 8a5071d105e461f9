"""An OpenAI-compatible embeddings server on loopback, for a laptop with no key: one code path, the ``openai`` client.

    LEX_LOCAL_KEY=… python -m infra.local.embeddings --port PORT

``POST /v1/embeddings`` (page "Create embeddings" of OpenAI's API reference: a text or up to 2048 of them, ``float`` or
``base64``) and ``GET /v1/models``. Errors have OpenAI's JSON form, so that the client raises its own exceptions.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import os
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from infra.local.minilm import DIMENSIONS, MODEL, Model

MAX_TEXTS = 2048
MAX_BODY = 64 * 1024 * 1024


class Refused(Exception):
    """The request can't be answered; becomes OpenAI's error object."""

    def __init__(self, status: HTTPStatus, message: str, code: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code

    def response(self) -> Response:
        kind = "invalid_request_error" if self.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        return _json({"error": {"message": self.message, "type": kind, "param": None, "code": self.code}}, self.status)


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


def _bad(message: str, code: str = "invalid_request") -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, message, code)


def texts_of(body: Any) -> list[str]:
    """The texts of a request.

    Raises:
        Refused: there is none, one is empty, there are too many, or something asked for is not offered here.
    """
    if not isinstance(body, dict):
        raise _bad("The body must be a JSON object.")
    if body.get("model") != MODEL:
        raise Refused(HTTPStatus.NOT_FOUND, f"This server has the model {MODEL!r} only.", "model_not_found")
    if body.get("dimensions", DIMENSIONS) != DIMENSIONS:
        raise _bad(f"{MODEL} makes vectors of {DIMENSIONS} dimensions only.")
    if body.get("encoding_format", "float") not in ("float", "base64"):
        raise _bad("encoding_format must be 'float' or 'base64'.")
    texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input")
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise _bad("input must be a text or a list of texts, none of them empty.")
    if not 0 < len(texts) <= MAX_TEXTS:
        raise _bad(f"input must have from 1 to {MAX_TEXTS} texts.")
    return texts


class Application:
    """WSGI. One lock round the model: two requests at once would only share the cores."""

    def __init__(self, key: str, model: Model) -> None:
        self._key, self._model, self._lock = key, model, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        request.max_content_length = MAX_BODY
        try:
            response = self._answer(request)
        except Refused as refusal:
            response = refusal.response()
        except HTTPException as error:
            response = Refused(HTTPStatus(error.code or 400), error.description or error.name, "invalid_request").response()
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        routes: dict[tuple[str, str], Callable[[Request], Any]] = {
            ("POST", "/v1/embeddings"): self._embeddings,
            ("GET", "/v1/models"): self._models,
        }
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._key.encode()):
            raise Refused(HTTPStatus.UNAUTHORIZED, "Incorrect API key provided.", "invalid_api_key")
        route = routes.get((request.method, request.path))
        if route is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"Unknown request: {request.method} {request.path}.", "unknown_url")
        return _json(route(request))

    def _models(self, _: Request) -> Any:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "local"}]}

    def _embeddings(self, request: Request) -> Any:
        try:
            body = json.loads(request.get_data())
        except ValueError:
            raise _bad("The body is not JSON.") from None
        texts = texts_of(body)
        with self._lock:
            embedded = self._model.embed(texts)
        plain = body.get("encoding_format", "float") == "float"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": vector.tolist() if plain else base64.b64encode(vector.astype("<f4").tobytes()).decode(),
            }
            for index, vector in enumerate(embedded.vectors)
        ]
        usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
        return {"object": "list", "data": data, "model": MODEL, "usage": usage}


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
