"""The embedding provider of the tests: a real HTTP server that speaks OpenAI's API, with faults on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np


def vector_of(text: str, dimensions: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A unit vector that depends on the words: texts that share words are near each other."""
    total = np.zeros(dimensions, dtype=np.float64)
    for word in text.casefold().split():
        seed = int.from_bytes(hashlib.sha256(word.strip(".,;:!?").encode()).digest()[:8], "big")
        total += np.random.default_rng(seed).standard_normal(dimensions)
    return (total / (np.linalg.norm(total) or 1.0)).astype(np.float32)


@dataclass
class Provider:
    """``failures`` are answers to give before it works again: (HTTP status, error code, headers).

    ``delay`` is in seconds, before each answer.
    """

    dimensions: int = 384
    delay: float = 0.0
    failures: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    requests: list[list[str]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(provider.delay)
                status, answer, headers = provider.answer(body)
                payload = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Type": "application/json"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                """Say nothing: the tests read ``requests``."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if self.failures:
            status, code, headers = self.failures.pop(0)
            return status, {"error": {"message": "injected", "type": "test", "code": code}}, headers
        self.requests.append(texts)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector_of(text, self.dimensions).tobytes()).decode(),
            }
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return 200, {"object": "list", "model": body["model"], "data": data, "usage": usage}, {}

    def reset(self) -> None:
        self.delay = 0.0
        self.failures.clear()
        self.requests.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
