"""Downloads: from a server that does not keep its word, and of objects with a Content-Encoding."""

from __future__ import annotations

import gzip
import hashlib
import io
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from worker import objects
from worker.settings import Settings

TEXT = b"A lighthouse keeper notes the tide. " * 100


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


def put(settings: Settings, body: bytes, encoding: str) -> objects.Download:
    bucket = settings.buckets[0]
    objects.s3_client().put_object(Bucket=bucket, Key="note.txt", Body=body, ContentEncoding=encoding)
    file = io.BytesIO()
    download = objects.download(bucket, "note.txt", file, 3_000_000)
    assert file.getvalue() == TEXT
    return download


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT)), ("gzip", TEXT), ("utf-8", TEXT), ("identity", TEXT)],
)
def test_an_object_with_a_content_encoding_is_read_as_what_it_holds(settings: Settings, encoding: str, body: bytes) -> None:
    download = put(settings, body, encoding)
    assert (download.size, download.sha256) == (len(TEXT), hashlib.sha256(TEXT).digest())
    # What S3 says of the object stays what S3 says.
    assert (download.facts.size, download.facts.etag) == (len(body), hashlib.md5(body).hexdigest())  # noqa: S324 - S3's own ETag


def test_an_object_that_unpacks_to_too_much_is_not_unpacked_to_its_end(settings: Settings) -> None:
    bucket, file = settings.buckets[0], io.BytesIO()
    bomb = gzip.compress(bytes(100_000_000))
    objects.s3_client().put_object(Bucket=bucket, Key="bomb.txt", Body=bomb, ContentEncoding="gzip")
    with pytest.raises(objects.TooLarge, match="unpacks to more bytes") as caught:
        objects.download(bucket, "bomb.txt", file, 3_000_000)
    assert caught.value.facts.size == len(bomb)
    assert len(file.getvalue()) <= 3_000_000


@pytest.mark.parametrize(
    ("encoding", "body", "code"),
    [("gzip", gzip.compress(TEXT)[:-9], "damaged"), ("br", b"\x1b\x03", "unsupported_type")],
)
def test_an_encoding_that_cannot_be_undone_has_a_typed_reason_that_names_it(
    settings: Settings, encoding: str, body: bytes, code: str
) -> None:
    bucket = settings.buckets[0]
    objects.s3_client().put_object(Bucket=bucket, Key="note.txt", Body=body, ContentEncoding=encoding)
    with pytest.raises((objects.RejectedUnread, objects.UnsupportedUnread), match=encoding) as caught:
        objects.download(bucket, "note.txt", io.BytesIO(), 3_000_000)
    assert (caught.value.code, caught.value.facts.size) == (code, len(body))
