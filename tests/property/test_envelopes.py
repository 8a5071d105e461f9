"""What must hold for every key, every JSON value and every order of events."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st

from handlers.envelopes import MalformedEvent, parse
from worker.contract import MAX_KEY_BYTES
from worker.domain.changes import UNSTORABLE, ObjectChange, fold

keys = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["Records", "s3", "object", "bucket", "key", "name", "eventName", "Sns", "Message", "Type", "body"])
            | st.sampled_from(["EventSource", "eventSource", "messageId", "detail", "detail-type", "source", "Event"]),
            inner | st.sampled_from(["Notification", "aws:sqs", "aws:sns", "aws.s3", "ObjectCreated:Put", "Object Created"]),
            max_size=6,
        )
    ),
    max_leaves=30,
)


def s3_event(encoded: str) -> dict[str, Any]:
    item = {"bucket": {"name": "b"}, "object": {"key": encoded}}
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": item}]}


@given(keys)
def test_a_form_encoded_key_comes_back_exactly_through_sns_and_sqs(key: str) -> None:
    notification = {"Type": "Notification", "Message": json.dumps(s3_event(quote_plus(key)))}
    event = {"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": json.dumps(notification)}]}
    (message,) = parse(event).messages
    assert [change.key for change in message.changes] == [key]


@given(keys)
def test_a_percent_encoded_key_comes_back_exactly(key: str) -> None:
    (message,) = parse(s3_event(quote(key, safe="/"))).messages
    assert [change.key for change in message.changes] == [key]


@given(keys)
def test_an_eventbridge_key_is_taken_as_it_is(key: str) -> None:
    detail = {"bucket": {"name": "b"}, "object": {"key": key}}
    (message,) = parse({"source": "aws.s3", "detail-type": "Object Created", "detail": detail}).messages
    assert [change.key for change in message.changes] == [key]


@given(json_values)
def test_no_event_raises_anything_but_malformed_event(event: Any) -> None:
    try:
        batch = parse(event)
    except MalformedEvent:
        return
    for message in batch.messages:
        for change in message.changes:
            assert 0 < len(change.key.encode()) <= MAX_KEY_BYTES
            assert "\0" not in change.key


def texts(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of each text in a JSON value: of a name of a field with None at its end."""
    if isinstance(value, dict):
        return [place for name in value for place in [(*path, name, None), *texts(value[name], (*path, name))]]
    if isinstance(value, list):
        return [place for number, part in enumerate(value) for place in texts(part, (*path, number))]
    return [path] if isinstance(value, str) else []


def changed(value: Any, path: tuple[Any, ...], change: Callable[[str], str]) -> Any:
    """A copy with another text at that place."""
    if not path:
        return change(value)
    step, *rest = path
    if rest == [None]:
        return {change(name) if name == step else name: part for name, part in value.items()}
    if isinstance(value, list):
        return [changed(part, tuple(rest), change) if number == step else part for number, part in enumerate(value)]
    return {name: changed(part, tuple(rest), change) if name == step else part for name, part in value.items()}


S3_EVENT = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "eu-west-1",
            "eventTime": "2026-01-02T03:04:05.678Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "AWS:X"},
            "responseElements": {"x-amz-request-id": "C3D", "list": ["deep", {"deeper": "text"}]},
            "s3": {
                "bucket": {"name": "docs", "ownerIdentity": {"principalId": "A3N"}, "arn": "arn:aws:s3:::docs"},
                "object": {"key": "a/b.txt", "size": 7, "eTag": "abc", "versionId": "v1", "sequencer": "0055AED6DCD90281E5"},
            },
        }
    ]
}
EVENT_BRIDGE = {
    "version": "0",
    "id": "17793124",
    "source": "aws.s3",
    "detail-type": "Object Created",
    "account": "111122223333",
    "time": "2026-01-02T03:04:05Z",
    "region": "eu-west-1",
    "resources": ["arn:aws:s3:::docs"],
    "detail": {
        "bucket": {"name": "docs"},
        "object": {"key": "a/b.txt", "size": 7, "etag": "abc", "version-id": "v1", "sequencer": "617F"},
        "requester": "1",
    },
}
TEST_EVENT = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "docs", "RequestId": "5582815E1AEA5ADF"}


def notification(inner: Any) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": json.dumps(inner), "MessageId": "n1"}


def through_sns(inner: Any) -> dict[str, Any]:
    return {"Records": [{"EventSource": "aws:sns", "EventSubscriptionArn": "arn", "Sns": notification(inner)}]}


def as_it_is(event: Any) -> Any:
    return event


def through_sqs(body: Any) -> dict[str, Any]:
    record = {
        "messageId": "m1",
        "receiptHandle": "handle",
        "body": json.dumps(body),
        "attributes": {"SenderId": "AIDA", "ApproximateReceiveCount": "1"},
        "messageAttributes": {"trace": {"stringValue": "x", "stringListValues": [], "dataType": "String"}},
        "md5OfBody": "7b27",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:1:q",
        "awsRegion": "eu-west-1",
    }
    return {"Records": [record]}


@given(
    st.sampled_from([S3_EVENT, EVENT_BRIDGE, TEST_EVENT]),
    st.sampled_from([as_it_is, notification, through_sns]),
    st.sampled_from([as_it_is, through_sqs]),
    st.sampled_from(["\0", "\ud800", "\udfff"]),
    st.integers(0, 200),
    st.booleans(),
    st.data(),
)
def test_what_postgresql_can_t_store_is_malformed_wherever_it_stands(
    event: Any, inner: Any, outer: Any, unstorable: str, at: int, inside: bool, data: st.DataObject
) -> None:
    """In a key, an ETag, a version, a time, a region, an id, a name of a field, the text of an envelope in another one …"""

    def spoil(text: str) -> str:
        return text[:at] + unstorable + text[at:]

    if inside:
        whole = outer(inner(changed(event, data.draw(st.sampled_from(texts(event))), spoil)))
    else:
        whole = outer(inner(event))
        whole = changed(whole, data.draw(st.sampled_from(texts(whole))), spoil)
    try:
        batch = parse(whole)
    except MalformedEvent:  # the name or the text that says that it is an SQS record is not what it was
        return
    (message,) = batch.messages
    assert message.error is not None
    assert message.changes == ()
    (kept,) = message.events
    assert kept.outcome == message.error.code
    assert UNSTORABLE.search(str(json.loads(kept.raw))) is None
    assert UNSTORABLE.search(kept.kind) is None


changes = st.builds(
    ObjectChange,
    bucket=st.sampled_from(["a", "b"]),
    key=st.sampled_from(["k", "K", "é"]),
    removed=st.booleans(),
    etag=st.sampled_from([None, "1", "2"]),
    sequencer=st.sampled_from([None, "0A", "0A0", "0B", "1"]),
)


@given(st.lists(changes, max_size=4))
def test_the_order_of_arrival_decides_nothing(events: list[ObjectChange]) -> None:
    def seen(order: tuple[ObjectChange, ...]) -> list[tuple[str, str, bool, str | None]]:
        return [(item.bucket, item.key, item.removed, item.etag) for item in fold(order)]

    results = [seen(order) for order in itertools.permutations(events)]
    assert all(result == results[0] for result in results)


@given(st.lists(changes))
def test_a_fold_has_each_place_once_in_byte_order_and_folding_again_changes_nothing(events: list[ObjectChange]) -> None:
    result = fold(events)
    places = [(item.bucket.encode(), item.key.encode()) for item in result]
    assert places == sorted(set(places))
    assert set(places) == {(item.bucket.encode(), item.key.encode()) for item in events}
    assert fold(result) == result


@given(st.lists(changes))
def test_a_created_object_is_only_given_up_for_a_removal_known_to_be_newer(events: list[ObjectChange]) -> None:
    for item in fold(events):
        group = [event for event in events if (event.bucket, event.key) == (item.bucket, item.key)]
        if item.removed and any(not event.removed for event in group):
            assert all(event.sequencer for event in group)
            newest = max((event.sequencer or "").ljust(3, "0") for event in group)
            assert all(event.removed for event in group if (event.sequencer or "").ljust(3, "0") == newest)
