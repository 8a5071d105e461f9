"""Downloads from a server that does not keep its word."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from worker import objects


class Unending(BaseHTTPRequestHandler):
    """Says ten bytes, and sends a mebibyte after the other for as long as somebody reads."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in {"ETag": '"e"', "Content-Length": "10", "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b"100000\r\n" + bytes(0x100000) + b"\r\n")
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Not in the log of the tests."""


@pytest.fixture
def unending(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), Unending) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        objects.s3_client.cache_clear()
        yield
        objects.s3_client.cache_clear()
        server.shutdown()


def test_more_than_was_announced_is_not_read_to_its_end(unending: None) -> None:
    file = io.BytesIO()
    with pytest.raises(objects.TooLarge):
        objects.download("bucket", "key", file, 3_000_000)
    assert len(file.getvalue()) <= 3_000_000
