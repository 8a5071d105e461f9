"""The S3 and SQS (and SNS, EventBridge) API on loopback: moto's server, made durable and corrected where it would mislead.

    python -m infra.local.aws --port PORT --store D/aws.sqlite

moto is not thread-safe (a message sent while another is deleted can be lost), so one lock stands round every request; a
long poll gives it up while it waits. A request's body is read before the lock is taken, so that a slow client stops nobody.
What is corrected, against the page "Event message structure" of the S3 user guide: a delete in a versioned bucket sends an
event; a completed multipart upload sends one event, not two; events carry ``versionId`` and ``sequencer``; a key may
hold a newline.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
import time
import traceback
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moto.s3.models as s3
import moto.s3.notifications as notifications
import moto.sqs.models as sqs
from moto.moto_server import werkzeug_app
from moto.moto_server.utilities import RegexConverter
from werkzeug.serving import make_server

from infra.local.durable import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOCK = threading.Condition(threading.RLock())
Event = notifications.S3NotificationEvent


def correct_moto() -> None:
    """Replace the functions of moto that would show a user a wrong result; it has no hooks for them."""
    send, build, delete = notifications.send_event, notifications._get_s3_event, s3.S3Backend.delete_object  # noqa: SLF001 - as above

    def send_event(account_id: str, event_name: Event, bucket: Any, key: Any) -> None:
        # A completed upload makes an object as a put does, and then sends an event of its own.
        if event_name != Event.OBJECT_CREATED_PUT_EVENT or key.multipart is None:
            send(account_id, event_name, bucket, key)

    def s3_event(event_name: str, bucket: Any, key: Any, notification_id: str) -> dict[str, Any]:
        event = build(event_name, bucket, key, notification_id)
        described = event["Records"][0]["s3"]["object"]
        described["sequencer"] = f"{time.time_ns():016X}"
        if key.version_id != "null":
            described["versionId"] = key.version_id
        return event

    def delete_object(
        backend: Any, bucket_name: str, key_name: str, version_id: str | None = None, bypass: bool = False
    ) -> tuple[bool, dict[str, Any]]:
        bucket = backend.get_bucket(bucket_name)
        before = list(bucket.keys.getlist(key_name, []))
        answer: tuple[bool, dict[str, Any]] = delete(backend, bucket_name, key_name, version_id, bypass)
        after = bucket.keys.getlist(key_name, [])
        if len(after) > len(before):
            notifications.send_event(backend.account_id, Event.OBJECT_REMOVED_DELETE_MARKER_CREATED_EVENT, bucket, after[-1])
        elif 0 < len(after) < len(before):  # moto tells of the last version only
            gone = next(version for version in before if version not in after)
            notifications.send_event(backend.account_id, Event.OBJECT_REMOVED_DELETE_EVENT, bucket, gone)
        return answer

    replaced: list[tuple[Any, str, Any]] = [
        (notifications, "send_event", send_event),
        (notifications, "_get_s3_event", s3_event),
        (s3.S3Backend, "delete_object", delete_object),
        (s3.FakeDeleteMarker, "etag", '""'),  # what an event asks of the object that it tells of
        (s3.FakeDeleteMarker, "size", 0),
        (sqs.Queue, "wait_for_messages", lambda queue, seconds: LOCK.wait(seconds)),
        (werkzeug_app, "RegexConverter", lambda url_map, pattern: RegexConverter(url_map, f"(?s:{pattern})")),
    ]
    for owner, name, new in replaced:
        setattr(owner, name, new)


class Durable:
    """WSGI middleware: one request at a time, and its effects on disk before its answer."""

    def __init__(self, application: WSGIApplication, store: Store) -> None:
        self._application, self._store = application, store

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH")
        if environ.get("wsgi.input_terminated") or length:
            body = environ["wsgi.input"].read(int(length)) if length else environ["wsgi.input"].read()
            environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        with LOCK:
            answer = self._application(environ, start_response)
            if environ["REQUEST_METHOD"] not in ("GET", "HEAD", "OPTIONS"):
                self._save(environ)
                LOCK.notify_all()
        return answer

    def _save(self, environ: WSGIEnvironment) -> None:
        bucket, _, key = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace").lstrip("/").partition("/")
        version = urllib.parse.parse_qs(environ["QUERY_STRING"]).get("versionId", [None])[0]
        try:
            self._store.save(bucket, key, version)
        except Exception:  # noqa: BLE001 - whatever it was, memory is now ahead of the file
            # Starting again from the file is the one way to show nobody a write that was not kept.
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)


class Handler(werkzeug_app.MotoRequestHandler):
    """Without a line in the log for each request."""

    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if str(code).startswith("5"):
            super().log_request(code, size)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--store", type=Path, required=True)
    arguments = parser.parse_args()
    correct_moto()
    store = Store(arguments.store)
    store.load()
    application = Durable(werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app), store)
    make_server("127.0.0.1", arguments.port, application, threaded=True, request_handler=Handler).serve_forever()


if __name__ == "__main__":
    main()
