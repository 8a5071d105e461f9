"""The S3 and SQS API on loopback: moto's S3 and SQS, which answer only requests that the stack's own keys signed.

    LEX_LOCAL_AWS_KEYS=ID:SECRET python -m infra.local.aws.server --port PORT --store D/aws.sqlite

Every user of the machine and every web page in its browser can reach the port. So a request is refused unless it names this
host and is signed with the stack's keys; if a page of another origin sends it, the bucket's CORS rules must name that origin too.
moto then gets a plain request: without the signature, with an aws-chunked body decoded, a form turned into a PUT, and only the
headers that S3 or SQS reads. Only these two services of moto run; moto's own API does not.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import sys
import traceback
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import moto.s3.models as s3
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY
from moto.moto_server import werkzeug_app
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Response

from infra.local.aws import cors, errors, form_post, payload
from infra.local.aws.authentication import REGION, Keys, Signature, authenticate
from infra.local.aws.corrections import by_form, correct_moto, forbid_outgoing_calls
from infra.local.aws.errors import ApiError, access_denied
from infra.local.aws.lock import HOLD, WAIT, RequestLock
from infra.local.aws.persistence import Store
from infra.local.aws.request import HEADERS, TARGET, Request, parse
from worker import process

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

KEYS = "LEX_LOCAL_AWS_KEYS"
# Headers that S3 or SQS reads, besides x-amz-*. In places moto reads any other header as a query parameter, so none is passed on.
_HEADERS = frozenset(
    ("content-type", "content-md5", "content-encoding", "content-disposition", "content-language", "cache-control", "expires",
     "range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "x-amzn-query-mode")
)  # fmt: skip
_CHUNK_HEADERS = ("x-amz-trailer", "x-amz-decoded-content-length")
# Query parameters, one of which a POST to S3 must have unless it is a form.
_POSTED = frozenset(("delete", "uploads", "uploadId", "restore", "select"))
# The queue of a request stands in its path or its body.
_SQS_PATH = re.compile(r"/|/[0-9]+/[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Call:
    """A verified request as moto gets it. Header names are in lower case, values are decoded as Latin-1."""

    service: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    upload: form_post.Upload | None = None

    @property
    def is_write(self) -> bool:
        # SQS also sends messages by GET.
        return self.service == "sqs" or self.method not in ("GET", "HEAD")


class _RawRequest(werkzeug_app.BackendRequest):
    """A request to S3. Its body is never parsed as a form, although curl and urllib send the content type of a form."""

    @property
    def want_form_data_parsed(self) -> bool:
        return False


class Application:
    """The WSGI application. It handles one request at a time, and saves the changes before it answers."""

    def __init__(self, store: Store, keys: Keys, port: int, lock: RequestLock) -> None:
        self._store, self._keys, self._port, self._lock = store, keys, port, lock
        self._services = {"s3": werkzeug_app.create_backend_app("s3"), "sqs": werkzeug_app.create_backend_app("sqs")}
        self._services["s3"].request_class = _RawRequest

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._answer(environ, start_response)
        except ApiError as found:
            error = found
        except NotImplementedError as found:
            error = ApiError(501, "NotImplemented", str(found) or "The local S3 and SQS do not support this.")
        except Exception:  # noqa: BLE001 - moto raises anything, and the client must not wait for an answer
            traceback.print_exc()
            error = ApiError(500, "InternalError", "The local S3 and SQS failed: see log/aws.log in the data folder.")
        headers = {name.lower(): value for name, value in environ[HEADERS]}
        return errors.response(error, environ[TARGET].partition("?")[0], headers)(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = parse(environ, self._port)
        origin = request.headers.get("origin")
        if request.method == "OPTIONS":
            return self._preflight(request)(environ, start_response)
        call = self._verified(environ, request)
        if call.is_write and not self._store.has_room(len(call.body)):
            raise ApiError(503, "SlowDown", "The disk of the data folder is full: free some space, and try again.")
        with self._lock.held():
            allowed = {} if origin is None else self._allowed(request, origin, call.service)

            def respond(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                kept = [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]
                return start_response(status, [*kept, *allowed.items()], *rest)

            try:
                if call.upload:
                    return self._by_form(call, call.upload, environ)(environ, respond)
                return self._services[call.service](_environ(environ, call), respond)
            finally:
                if call.is_write:
                    self._save(call)
                    self._lock.changed()

    def _verified(self, environ: WSGIEnvironment, request: Request) -> Call:
        now = datetime.now(UTC)
        content_type = request.headers.get("content-type", "")
        is_form = request.method == "POST" and content_type.startswith("multipart/form-data")
        if is_form and not request.query and "authorization" not in request.headers:
            return self._verified_form(environ, request, content_type, now)
        bodies: list[bytes] = []

        def body_digest() -> str:
            bodies.append(payload.read(environ, request, payload.LARGEST_CALL))
            return hashlib.sha256(bodies[0]).hexdigest()

        signature = authenticate(request, self._keys, now, body_digest)
        if signature.service == "sqs" and not _SQS_PATH.fullmatch(request.path):
            raise ApiError(404, "AccessDenied", f"There is nothing at {request.path}.")
        names = urllib.parse.parse_qs(request.query, keep_blank_values=True).keys()
        if signature.service == "s3" and request.method == "POST" and _POSTED.isdisjoint(names):
            raise ApiError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
        limit = payload.LARGEST_OBJECT if signature.service == "s3" else payload.LARGEST_CALL
        body, trailer = payload.decode(bodies[0] if bodies else payload.read(environ, request, limit), request, signature)
        headers = _plain_headers(request, signature) | trailer
        return Call(signature.service, request.method, request.path, signature.query, headers, body)

    def _verified_form(self, environ: WSGIEnvironment, request: Request, content_type: str, now: datetime) -> Call:
        bucket = urllib.parse.unquote(request.path.strip("/"))
        if not bucket or "/" in bucket:
            raise access_denied("A form is posted to the address of its bucket.")
        length = None if "transfer-encoding" in request.headers else int(request.headers.get("content-length", "0"))
        upload = form_post.read(environ["wsgi.input"], length, content_type, bucket, self._keys, now)
        payload.check(upload.body, upload.headers)
        path = f"/{bucket}/{urllib.parse.quote(upload.key, safe='/-_.~')}"
        return Call("s3", "PUT", path, "", upload.headers | {"host": request.headers["host"]}, upload.body, upload)

    def _allowed(self, request: Request, origin: str, service: str) -> dict[str, str]:
        """The CORS headers of the answer to a page of ``origin``.

        Raises:
            ApiError: no rule of the bucket allows the request.
        """
        method = request.headers.get(cors.REQUEST_METHOD, "") if request.method == "OPTIONS" else request.method
        bucket = s3.s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets.get(urllib.parse.unquote(request.bucket))
        rules = bucket.cors if bucket and service == "s3" else []  # a queue has none
        headers = cors.allowed(rules, origin, method, request.headers.get(cors.REQUEST_HEADERS, ""))
        if headers is None:
            raise ApiError(403, "AccessForbidden", f"No CORS rule of the bucket allows {method} from {origin}.")
        return headers

    def _preflight(self, request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin is None or cors.REQUEST_METHOD not in request.headers:
            raise ApiError(400, "BadRequest", "Insufficient information. Origin request header needed.")
        with self._lock.held():
            return Response(status=200, headers=self._allowed(request, origin, "s3"))

    def _by_form(self, call: Call, upload: form_post.Upload, environ: WSGIEnvironment) -> Response:
        """Put the file of a form, and answer as its fields ask."""
        token = by_form.set(True)
        try:
            body, status, headers = run_wsgi_app(self._services[call.service], _environ(environ, call), buffered=True)
        finally:
            by_form.reset(token)
        if not status.startswith("200"):
            return Response(b"".join(body), status, headers)
        bucket, etag = call.path.split("/")[1], headers.get("ETag", "")
        location = f"http://{call.headers['host']}{call.path}"
        answer = Response(status=upload.status, headers={"ETag": etag, "Location": location})
        if "x-amz-version-id" in headers:
            answer.headers["x-amz-version-id"] = headers["x-amz-version-id"]
        if upload.redirect:
            target = urllib.parse.urlsplit(upload.redirect)
            query = "&".join(
                filter(None, (target.query, urllib.parse.urlencode({"bucket": bucket, "key": upload.key, "etag": etag})))
            )
            answer.status_code, answer.headers["Location"] = 303, target._replace(query=query).geturl()
        elif upload.status == 201:
            elements = {"Location": location, "Bucket": bucket, "Key": upload.key, "ETag": etag}
            inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in elements.items())
            answer.data = f'<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>{inside}</PostResponse>'
            answer.content_type = "application/xml"
        return answer

    def _save(self, call: Call) -> None:
        bucket, _, key = urllib.parse.unquote(call.path).lstrip("/").partition("/")
        version = urllib.parse.parse_qs(call.query).get("versionId", [None])[0]
        try:
            self._store.save(bucket, key, version)
        except Exception:  # noqa: BLE001 - after any error, memory has a change that the file lacks
            # Only a restart from the file makes sure that no client reads a write that was not saved.
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)


def _plain_headers(request: Request, signature: Signature) -> dict[str, str]:
    """The headers that describe the object or the message, those from the query included."""
    kept = {name: value for name, value in request.headers.items() if name.startswith("x-amz-") or name in _HEADERS | {"host"}}
    kept |= signature.headers
    if signature.payload in payload.CHUNKED:
        kept = {name: value for name, value in kept.items() if name not in _CHUNK_HEADERS}
        kept["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
        encodings = [name.strip() for name in kept.pop("content-encoding", "").split(",")]
        if others := ",".join(name for name in encodings if name and name.lower() != "aws-chunked"):
            kept["content-encoding"] = others
    return kept


def _environ(environ: WSGIEnvironment, call: Call) -> WSGIEnvironment:
    """The WSGI environment of the call. Its Authorization header tells moto the service and the region."""
    made = {name: value for name, value in environ.items() if not name.startswith("HTTP_") and name != "wsgi.input_terminated"}
    target = f"{call.path}?{call.query}" if call.query else call.path
    made |= {
        "REQUEST_METHOD": call.method,
        "PATH_INFO": urllib.parse.unquote_to_bytes(call.path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": call.query,
        "RAW_URI": target,
        "REQUEST_URI": target,
        "wsgi.input": io.BytesIO(call.body),
        "CONTENT_LENGTH": str(len(call.body)),
        "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential=LOCAL/20000101/{REGION}/{call.service}/aws4_request",
    }
    made.pop("CONTENT_TYPE", None)
    names: dict[str, str] = {}
    for name, value in call.headers.items():
        variable = name.upper().replace("-", "_")
        if variable != "CONTENT_TYPE":
            variable = f"HTTP_{variable}"
        if "_" in name:
            names[variable] = name
        made[variable] = value
    made[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = names
    return made


class Handler(werkzeug_app.MotoRequestHandler):
    """Keeps the target and the headers as they came, and logs no line per request."""

    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement
    timeout = 60  # seconds without a byte, after which the client is taken to be gone

    def make_environ(self) -> WSGIEnvironment:
        environ: WSGIEnvironment = super().make_environ()
        return environ | {HEADERS: self.headers.items(), TARGET: self.path}

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if str(code).startswith("5"):
            super().log_request(code, size)


def main() -> None:
    process.hide_memory()
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--wait", type=float, default=WAIT, help="seconds that a request waits for others")
    parser.add_argument("--hold", type=float, default=HOLD, help="seconds after which a request is taken to hang")
    arguments = parser.parse_args()
    keys = Keys(*os.environ.pop(KEYS).split(":", 1))
    lock = RequestLock(arguments.wait, arguments.hold)
    correct_moto(lock)
    store = Store(arguments.store)
    store.load()
    application = Application(store, keys, arguments.port, lock)
    server = make_server("127.0.0.1", arguments.port, application, threaded=True, request_handler=Handler)
    forbid_outgoing_calls()
    server.serve_forever()


if __name__ == "__main__":
    main()
