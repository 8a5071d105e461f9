"""The body of a request: read whole, decoded from aws-chunked, and compared with its signature and its checksums.

Page "Signature calculations for the Authorization header: transferring a payload in multiple chunks" and its twin for
trailing checksums describe aws-chunked. The checksums CRC32C and CRC64NVME are stored and not compared: Python has neither.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from botocore.auth import STREAMING_UNSIGNED_PAYLOAD_TRAILER, UNSIGNED_PAYLOAD

from infra.local.aws.authentication import Signature, is_equal
from infra.local.aws.errors import ApiError
from infra.local.aws.request import Request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# SQLite keeps rows of up to 10^9 bytes (limits.html), and a version of an object is one row.
LARGEST_OBJECT = 900_000_000
# SQS takes 1 MiB at once (page "Amazon SQS message quotas"), which form encoding can make three times as large.
LARGEST_CALL = 4_000_000
_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_SIGNED_TRAILER = f"{_SIGNED}-TRAILER"
CHUNKED = (_SIGNED, _SIGNED_TRAILER, STREAMING_UNSIGNED_PAYLOAD_TRAILER)
_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda data: binascii.crc32(data).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "x-amz-checksum-sha256": lambda data: hashlib.sha256(data).digest(),
    "content-md5": lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
}
_EMPTY = hashlib.sha256(b"").hexdigest()


def read(environ: WSGIEnvironment, request: Request, limit: int = LARGEST_OBJECT) -> bytes:
    """The body as it was sent.

    Raises:
        ApiError: the body is larger than ``limit``, or the client left before its end.
    """
    stream, length = environ["wsgi.input"], int(request.headers.get("content-length", "0"))
    chunked = "transfer-encoding" in request.headers
    if length > limit:
        raise _too_large(limit)
    try:
        body: bytes = stream.read(limit + 1) if chunked else stream.read(length)
    except OSError:
        raise _incomplete() from None
    if len(body) > limit:
        raise _too_large(limit)
    if not chunked and len(body) < length:
        raise _incomplete()
    return body


def decode(body: bytes, request: Request, signature: Signature) -> tuple[bytes, dict[str, str]]:
    """Return the decoded body, and the checksums of its trailer.

    Raises:
        ApiError: the body does not match its signature or its checksums.
    """
    trailer: dict[str, str] = {}
    if signature.payload in CHUNKED:
        body, trailer = _chunks(body, request, signature)
    elif signature.payload.startswith("STREAMING-"):
        raise ApiError(501, "NotImplemented", f"The payload form {signature.payload} is not supported.")
    elif signature.payload != UNSIGNED_PAYLOAD and not is_equal(hashlib.sha256(body).hexdigest(), signature.payload):
        message = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise ApiError(400, "XAmzContentSHA256Mismatch", message)
    headers = {**request.headers, **signature.headers, **trailer}
    if request.method == "POST" and "uploadId=" in signature.query:  # checksums of the object, not of this list of its parts
        headers = {name: value for name, value in headers.items() if name == "content-md5"}
    check(body, headers)
    return body, trailer


def check(body: bytes, headers: dict[str, str]) -> None:
    """Compare the body with the checksums among its headers.

    Raises:
        ApiError: a checksum is malformed or does not match.
    """
    for name, compute in _CHECKSUMS.items():
        if name not in headers:
            continue
        right = compute(body)
        try:
            given = base64.b64decode(headers[name], validate=True)
        except ValueError:
            given = b""
        if len(given) != len(right):
            raise ApiError(
                400, "InvalidDigest" if name == "content-md5" else "InvalidRequest", f"The value of {name} is not valid."
            )
        if given != right:
            raise ApiError(400, "BadDigest", f"The {name} you specified did not match the calculated checksum.")


def _chunks(body: bytes, request: Request, signature: Signature) -> tuple[bytes, dict[str, str]]:
    """The data of the chunks, and the trailer. Each signature covers the one before it, so that no chunk can be left out."""
    signed = signature.payload != STREAMING_UNSIGNED_PAYLOAD_TRAILER
    previous, data, stream = signature.value, io.BytesIO(), io.BytesIO(body)
    while True:
        size, extension = _chunk_header(stream)
        chunk = stream.read(size)
        if len(chunk) < size:
            raise _incomplete()
        data.write(chunk)
        if signed:
            text = "\n".join((_EMPTY, hashlib.sha256(chunk).hexdigest()))
            previous = _check_link("PAYLOAD", text, previous, extension, signature)
        if size == 0:
            break
        if stream.read(2) != b"\r\n":
            raise _invalid_chunk()
    trailer: dict[str, str] = {}
    if signature.payload != _SIGNED:
        trailer = _trailer(stream)
        given = trailer.pop("x-amz-trailer-signature", "")
        if signed:
            lines = "".join(f"{name}:{value}\n" for name, value in sorted(trailer.items()))
            _check_link("TRAILER", hashlib.sha256(lines.encode()).hexdigest(), previous, given, signature)
        declared = {name.strip().lower() for name in request.headers.get("x-amz-trailer", "").split(",")} - {""}
        if trailer.keys() != declared:
            raise ApiError(400, "MalformedTrailerError", "The trailer does not hold what the header x-amz-trailer names.")
    decoded = data.getvalue()
    if request.headers.get("x-amz-decoded-content-length", "") != str(len(decoded)):
        raise _incomplete()
    return decoded, trailer


def _chunk_header(stream: io.BytesIO) -> tuple[int, str]:
    """A chunk's size and its signature, "" if it has none."""
    line = stream.readline(200)
    size, _, extension = line.removesuffix(b"\r\n").decode("latin-1").partition(";chunk-signature=")
    # int() would take a sign, blanks and underscores too.
    if not line.endswith(b"\r\n") or not 1 <= len(size) <= 8 or size.strip("0123456789abcdefABCDEF"):
        raise _invalid_chunk()
    return int(size, 16), extension


def _check_link(kind: str, text: str, previous: str, given: str, signature: Signature) -> str:
    assert signature.sign is not None
    lines = (f"AWS4-HMAC-SHA256-{kind}", signature.timestamp, signature.scope, previous, text)
    if not is_equal(signature.sign("\n".join(lines)), given):
        raise ApiError(403, "SignatureDoesNotMatch", "The signature of a chunk does not match what was calculated.")
    return given


def _trailer(stream: io.BytesIO) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in stream.read(10_000).decode("latin-1").split("\r\n"):
        if line:
            name, _, value = line.partition(":")
            found[name.strip().lower()] = value.strip()
    return found


def _too_large(limit: int) -> ApiError:
    return ApiError(
        400, "EntityTooLarge", f"The local stack takes up to {limit} bytes in one request.", MaxSizeAllowed=str(limit)
    )


def _incomplete() -> ApiError:
    return ApiError(400, "IncompleteBody", "The request has fewer bytes than its headers say.")


def _invalid_chunk() -> ApiError:
    return ApiError(400, "InvalidChunkSizeError", "The body is not of the form aws-chunked.")
