"""Pure: any event that can bring an S3 change to the handler -> ``ReceivedEvent``s, each with its ``ObjectChange``.

::

    S3 -> Lambda                    {"Records": [{"eventSource": "aws:s3", "s3": ...}]}
    S3 -> SNS -> Lambda             {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "<the above>"}}]}
    EventBridge -> Lambda           {"detail-type": "Object Created", "detail": ...}
    any of them -> SQS -> Lambda    {"Records": [{"eventSource": "aws:sqs", "messageId": ..., "body": "<one of them>"}]}
    S3 -> SNS -> SQS -> Lambda      the body is {"Type": "Notification", "Message": "<an S3 event>"}

S3 notifications encode their keys as forms do; EventBridge sends them raw (Amazon S3 User Guide, "Event message
structure" and "EventBridge event message structure"). The event classes of aws-lambda-powertools are not used: they
decode EventBridge keys and leave those of S3 encoded (DESIGN.md, "Traps that were measured").
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_plus

from worker.contract import MAX_KEY_BYTES
from worker.domain.changes import UNSTORABLE, ObjectChange, ReceivedEvent
from worker.domain.errors import IngestError

_MAX_DEPTH = 3  # an S3 event in an SNS notification in a message: what can occur on purpose
_MAX_RAW = 4096  # characters that are kept of a message that can't be read
_REMOVED = ("ObjectRemoved:", "LifecycleExpiration:")
# A restored archive can be read again: to us it is as if it had just been put.
_CREATED = ("ObjectCreated:", "ObjectRestore:Completed")
# Levels of nested objects and lists. An S3 record has four; PostgreSQL's JSON parser fails at some thousands (stack depth).
_MAX_LEVELS = 100
_DETAIL_TYPES = {"Object Created": False, "Object Restore Completed": False, "Object Deleted": True}


class MalformedEvent(IngestError):
    """A message that can't be read: sending it again won't help, so it belongs in the dead-letter queue."""


@dataclass(frozen=True, slots=True)
class Message:
    """What can fail alone: an SQS message, or a whole direct event, whose ``message_id`` is empty.

    With ``error``, ``events`` holds the one that tells the ledger of it.
    """

    message_id: str
    events: tuple[ReceivedEvent, ...] = ()
    error: MalformedEvent | None = None

    @property
    def changes(self) -> tuple[ObjectChange, ...]:
        """What the events say of objects' bytes."""
        return tuple(event.change for event in self.events if event.change is not None)


@dataclass(frozen=True, slots=True)
class Batch:
    """One invocation. ``from_queue`` tells whether the caller understands an answer message by message."""

    messages: tuple[Message, ...]
    from_queue: bool


def parse(event: Any) -> Batch:
    """Read one Lambda event, of whatever kind.

    Raises:
        MalformedEvent: an SQS record without a ``messageId``, which could not be answered for.
    """
    records = event.get("Records") if isinstance(event, Mapping) else None
    first = records[0] if isinstance(records, list) and records else None
    if isinstance(records, list) and isinstance(first, Mapping) and first.get("eventSource") == "aws:sqs":
        return Batch(tuple(_from_queue(record) for record in records), from_queue=True)
    return Batch((_message("", event),), from_queue=False)


def _from_queue(record: Any) -> Message:
    message_id = record.get("messageId") if isinstance(record, Mapping) else None
    if not isinstance(message_id, str) or not message_id:
        raise MalformedEvent("message_id_missing", "an SQS record has no messageId")
    # The body is JSON in a string: ``_open`` checks it after it is parsed.
    around = {name: value for name, value in record.items() if name != "body"}
    return _message(message_id, record.get("body"), around)


def _message(message_id: str, envelope: Any, around: Mapping[str, Any] | None = None) -> Message:
    try:
        _refuse_unstorable(around)
        return Message(message_id, tuple(_open(envelope, 0)))
    except MalformedEvent as error:
        raw = envelope if isinstance(envelope, str) else json.dumps(envelope, default=str)
        kept = json.dumps(UNSTORABLE.sub("\ufffd", raw[:_MAX_RAW]))
        return Message(message_id, (ReceivedEvent("malformed", kept, None, error.code),), error)


def _refuse_unstorable(envelope: Any) -> None:
    """Refuse a JSON value that PostgreSQL can't store, because of any text, number or field name in it.

    A retry would fail in the same way, so SQS must not deliver such a message again and again.

    Raises:
        MalformedEvent: ``nul``, ``surrogate``, ``not_finite`` or ``nested_too_deep``.
    """
    waiting = [(envelope, 0)]
    while waiting:
        value, level = waiting.pop()
        if level > _MAX_LEVELS:
            raise MalformedEvent(
                "nested_too_deep", f"the message has more than {_MAX_LEVELS} objects and lists inside each other"
            )
        if isinstance(value, Mapping):
            waiting += [(part, level + 1) for item in value.items() for part in item]
        elif isinstance(value, list):
            waiting += [(part, level + 1) for part in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise MalformedEvent("not_finite", "the message holds NaN or an infinite number, which JSON does not have")
        elif isinstance(value, str) and (found := UNSTORABLE.search(value)):
            if found.group() == "\0":
                raise MalformedEvent("nul", "the message holds a NUL, which neither S3 nor PostgreSQL can hold")
            raise MalformedEvent("surrogate", "the message holds half of a surrogate pair, which is not a character")


def _open(envelope: Any, depth: int) -> list[ReceivedEvent]:
    """Return the events inside ``envelope``: a mapping, or its JSON text."""
    if depth > _MAX_DEPTH:
        raise MalformedEvent("nested_too_deep", "envelopes inside envelopes without an S3 event")
    if isinstance(envelope, str):
        try:
            envelope = json.loads(envelope)
        except (ValueError, RecursionError):
            raise MalformedEvent("not_json", "the message is not JSON") from None
    if not isinstance(envelope, Mapping):
        raise MalformedEvent("unknown_envelope", "the message is not a JSON object")
    _refuse_unstorable(envelope)
    if envelope.get("Event") == "s3:TestEvent":  # S3 sends it once, when notifications are set up; it has no Records
        return [_ignored("TestEvent", envelope)]
    if envelope.get("Type") == "Notification" and "Message" in envelope:
        return _open(_text(envelope, "Message"), depth + 1)
    if "detail-type" in envelope:
        return _from_event_bridge(envelope)
    records = envelope.get("Records")
    if not isinstance(records, list):
        raise MalformedEvent("unknown_envelope", "neither an S3 notification, an SNS notification nor an EventBridge event")
    return [event for record in records for event in _from_record(record, depth)]


def _from_record(record: Any, depth: int) -> list[ReceivedEvent]:
    if not isinstance(record, Mapping):
        raise MalformedEvent("unknown_record", "a record is not a JSON object")
    if record.get("EventSource") == "aws:sns":
        return _open(_text(_mapping(record, "Sns"), "Message"), depth + 1)
    if "s3" not in record:
        raise MalformedEvent("unknown_record", "a record has no s3 part")
    name = _text(record, "eventName").removeprefix("s3:")
    removed = name.startswith(_REMOVED)
    if not removed and not name.startswith(_CREATED):
        return [_ignored(name, record)]  # tags, access lists and the like leave the bytes as they were
    part = _mapping(record, "s3")
    try:
        key = unquote_plus(_text(_mapping(part, "object"), "key"), errors="strict")
    except UnicodeDecodeError:
        raise MalformedEvent("key_encoding", "a key does not decode to UTF-8") from None
    change = _change(part, key, "eTag", "versionId", record.get("eventTime"))
    if removed:
        change = _removal(change, marker=name.endswith(":DeleteMarkerCreated"))
    return [ReceivedEvent(name, json.dumps(record), change)]


def _ignored(kind: str, event: Mapping[str, Any]) -> ReceivedEvent:
    return ReceivedEvent(kind, json.dumps(event), None, "ignored")


def _from_event_bridge(event: Mapping[str, Any]) -> list[ReceivedEvent]:
    if event.get("source") != "aws.s3":
        raise MalformedEvent("unknown_source", "an EventBridge event that does not come from aws.s3")
    kind = _text(event, "detail-type")
    if kind not in _DETAIL_TYPES:
        return [_ignored(kind, event)]
    detail = _mapping(event, "detail")
    key = _text(_mapping(detail, "object"), "key")
    change = _change(detail, key, "etag", "version-id", event.get("time"))
    if _DETAIL_TYPES[kind]:
        change = _removal(change, marker=detail.get("deletion-type") == "Delete Marker Created")
    return [ReceivedEvent(kind, json.dumps(event), change)]


def _removal(change: ObjectChange, marker: bool) -> ObjectChange:
    """What a removal says. The end of one version for good may leave the current one as it is, or bring an older one back: it
    only says that there is something to look at."""
    return replace(change, removed=marker or change.version_id is None, etag=None, size=None)


def _change(part: Mapping[str, Any], key: str, etag_name: str, version_name: str, event_time: Any) -> ObjectChange:
    bucket, item = _text(_mapping(part, "bucket"), "name"), _mapping(part, "object")
    for what, value in (("key", key), ("bucket", bucket)):
        length = len(value.encode())
        if not 0 < length <= MAX_KEY_BYTES:
            raise MalformedEvent(f"{what}_length", f"a {what} of {length} bytes")
        if "\0" in value:  # as %00 in an encoded key
            raise MalformedEvent("nul", f"a {what} with a NUL, which neither S3 nor PostgreSQL can hold")
    size, sequencer = item.get("size"), item.get("sequencer")
    return ObjectChange(
        bucket=bucket,
        key=key,
        removed=False,
        etag=_optional(item.get(etag_name), '"'),
        size=size if isinstance(size, int) else None,
        version_id=_optional(item.get(version_name)),
        sequencer=sequencer.upper() if isinstance(sequencer, str) and _is_hexadecimal(sequencer) else None,
        event_time=_optional(event_time),
    )


def _is_hexadecimal(value: str) -> bool:
    return bool(value) and set(value) <= set(string.hexdigits)


def _optional(value: Any, quotes: str | None = None) -> str | None:
    return value.strip(quotes) or None if isinstance(value, str) else None


def _mapping(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    if not isinstance(value, Mapping):
        raise MalformedEvent("field_missing", f"{name} is not a JSON object")
    return value


def _text(parent: Mapping[str, Any], name: str) -> str:
    value = parent.get(name)
    if not isinstance(value, str):
        raise MalformedEvent("field_missing", f"{name} is not text")
    return value
