"""Corrects where moto differs from S3 and SQS, by replacing its functions: moto has no hooks for these.

Against the page "Event message structure" of the S3 user guide: a delete in a versioned bucket sends an event; a completed
multipart upload sends one event, not two; an object that a form uploads sends ``ObjectCreated:Post``; events carry
``versionId`` and ``sequencer``; a key may hold a newline. Some of the functions are private, so pyproject.toml pins moto's
version exactly.
"""

from __future__ import annotations

import sys
import time
from contextvars import ContextVar
from typing import Any

import moto.s3.models as s3
import moto.s3.notifications as notifications
import moto.sqs.models as sqs
from moto.moto_server import werkzeug_app
from moto.moto_server.utilities import RegexConverter

from infra.local.aws.lock import RequestLock

Event = notifications.S3NotificationEvent
# Whether the object that is being put was uploaded by a form.
by_form: ContextVar[bool] = ContextVar("by_form", default=False)
# Audit events of calling another host and of starting a program. moto can do both; this process has no reason to.
_FORBIDDEN = frozenset(
    ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec",
     "os.posix_spawn")
)  # fmt: skip


def correct_moto(lock: RequestLock) -> None:
    """Replace the functions of moto. A receive that waits for messages gives up ``lock`` meanwhile."""
    send, build, delete = notifications.send_event, notifications._get_s3_event, s3.S3Backend.delete_object  # noqa: SLF001 - no hook

    def send_event(account_id: str, event_name: Event, bucket: Any, key: Any) -> None:
        if event_name == Event.OBJECT_CREATED_PUT_EVENT:
            # moto completes a multipart upload by a put, and then sends the right event: drop the put's event.
            if key.multipart is not None:
                return
            if by_form.get():
                event_name = Event.OBJECT_CREATED_POST_EVENT
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
        (sqs.Queue, "wait_for_messages", lambda queue, seconds: lock.wait_for_change(seconds)),
        (werkzeug_app, "RegexConverter", lambda url_map, pattern: RegexConverter(url_map, f"(?s:{pattern})")),
        (werkzeug_app, "DISABLE_GLOBAL_CORS", True),  # it allows every origin
    ]
    for owner, name, new in replaced:
        setattr(owner, name, new)


def forbid_outgoing_calls() -> None:
    """Have the interpreter refuse what moto may do when it is asked to notify a web address or to run a function.

    An audit hook can't be removed again (sys.addaudithook), so that this holds until the process ends.
    """

    def refuse(event: str, _: tuple[object, ...]) -> None:
        if event in _FORBIDDEN:
            raise PermissionError(f"The local S3 and SQS server makes no outgoing calls, and its code tried {event}.")

    sys.addaudithook(refuse)
