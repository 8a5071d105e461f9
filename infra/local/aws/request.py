"""One HTTP request as it came, and the checks that it must pass before its signature is looked at.

A web page can send requests to this port: directly, or after its own host name was made to resolve to 127.0.0.1 (DNS
rebinding). The ``Host`` header tells the second kind.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from infra.local.aws.errors import ApiError, access_denied, malformed

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS")
_NAMES = ("127.0.0.1", "localhost", "[::1]")
# The WSGI variables in which ``Handler`` keeps the request target and the headers as they came, which WSGI itself changes.
HEADERS, TARGET = "lex.headers", "lex.target"
# Headers of which a request may have only one: of two, one program would read the first and another program the second.
_SINGLE = ("host", "content-length", "transfer-encoding", "authorization", "origin", "x-amz-date", "x-amz-content-sha256")


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` and ``query`` are as they came, percent-encoded. Header names are in lower case, values are decoded as Latin-1.

    The values of a repeated header are joined by commas.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def bucket(self) -> str:
        return self.path.split("/", 2)[1]


def parse(environ: WSGIEnvironment, port: int) -> Request:
    """Parse a request that is addressed to this server and that all programs read alike.

    Raises:
        ApiError: the host is not this server, or the request is not plain HTTP/1.1.
    """
    pairs = [(name.lower(), value.strip(" \t")) for name, value in environ[HEADERS]]
    counts = Counter(name for name, _ in pairs)
    for name in _SINGLE:
        if counts[name] > 1:
            raise malformed(f"The request has {counts[name]} {name} headers: send one.")
    headers: dict[str, str] = {}
    for name, value in pairs:
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    # Host names are case-insensitive.
    if headers.get("host", "").lower() not in {f"{name}{suffix}" for name in _NAMES for suffix in ("", f":{port}")}:
        raise access_denied(f"This server answers requests to 127.0.0.1:{port}; the Host header names {headers.get('host')!r}.")
    target: str = environ[TARGET]
    if not target.startswith("/") or "#" in target:
        raise malformed("The request target must be a path, such as /bucket/key.")
    if environ["REQUEST_METHOD"] not in METHODS:
        raise ApiError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise malformed("The request has both Content-Length and Transfer-Encoding: send one.")
        # wsgi.input_terminated says that werkzeug also reads the body as chunked.
        if headers["transfer-encoding"].lower() != "chunked" or "wsgi.input_terminated" not in environ:
            raise ApiError(501, "NotImplemented", "The only Transfer-Encoding that is understood is chunked.")
    elif not (headers.get("content-length", "0").isdecimal() and len(headers.get("content-length", "0")) <= 20):
        raise malformed("Content-Length must be a number.")
    path, _, query = target.partition("?")
    try:
        unquote_to_bytes(path.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise ApiError(
            400, "InvalidURI", "The path is not UTF-8: a key with other bytes would be stored as another key."
        ) from None
    return Request(environ["REQUEST_METHOD"], path, query, headers)
