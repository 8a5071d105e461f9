"""Each kind of envelope, its keys, and what is refused."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

import pytest

from handlers.envelopes import MalformedEvent, parse
from worker.domain.changes import ObjectChange, fold

KEY = "team a/50% off + é.pdf"


def s3_record(key: str = KEY, name: str = "ObjectCreated:Put", **item: Any) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": "docs", "arn": "arn:aws:s3:::docs"},
            "object": {"key": quote_plus(key), "size": 7, "eTag": "abc", "sequencer": "0055AED6DCD90281E5", **item},
        },
    }


def s3_event(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records) or [s3_record()]}


def sqs_event(*bodies: Any) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "body": body if isinstance(body, str) else json.dumps(body),
                "eventSource": "aws:sqs",
            }
            for number, body in enumerate(bodies)
        ]
    }


def event_bridge(key: str = KEY, kind: str = "Object Created", **item: Any) -> dict[str, Any]:
    return {
        "version": "0",
        "source": "aws.s3",
        "detail-type": kind,
        "time": "2026-01-02T03:04:05Z",
        "detail": {"bucket": {"name": "docs"}, "object": {"key": key, "size": 7, "etag": "abc", **item}},
    }


def sns_notification(message: Any) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": json.dumps(message)}


def only(event: Any) -> ObjectChange:
    (message,) = parse(event).messages
    (change,) = message.changes
    return change


def error_of(event: Any) -> str:
    (message,) = parse(event).messages
    assert message.error is not None
    return message.error.code


@pytest.mark.parametrize(
    "event",
    [
        s3_event(),
        sqs_event(s3_event()),
        sqs_event(sns_notification(s3_event())),
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Type": "Notification", "Message": json.dumps(s3_event())}}]},
        event_bridge(),
        sqs_event(event_bridge()),
        sqs_event(sns_notification(event_bridge())),
    ],
    ids=["s3", "s3-sqs", "s3-sns-sqs", "s3-sns", "eventbridge", "eventbridge-sqs", "eventbridge-sns-sqs"],
)
def test_every_envelope_gives_the_same_bucket_key_and_etag(event: Any) -> None:
    change = only(event)
    assert (change.bucket, change.key, change.removed, change.etag, change.size) == ("docs", KEY, False, "abc", 7)


def test_all_fields_of_an_s3_record_arrive() -> None:
    assert only(s3_event(s3_record(versionId="v1"))) == ObjectChange(
        "docs", KEY, False, "abc", 7, "v1", "0055AED6DCD90281E5", "2026-01-02T03:04:05.678Z"
    )


def test_all_fields_of_an_eventbridge_event_arrive() -> None:
    event = event_bridge(**{"version-id": "v1", "sequencer": "617f08299329d189"})
    assert only(event) == ObjectChange("docs", KEY, False, "abc", 7, "v1", "617F08299329D189", "2026-01-02T03:04:05Z")


@pytest.mark.parametrize("key", ["a+b c", "100%25.pdf", "a%2Bb", "line\nbreak", "naïve/日本.txt", "+", "%"])
def test_a_key_with_plus_and_percent_arrives_exactly(key: str) -> None:
    assert only(s3_event(s3_record(key))).key == key
    assert only(event_bridge(key)).key == key


@pytest.mark.parametrize(
    ("name", "removed"),
    [
        ("ObjectCreated:Put", False),
        ("ObjectCreated:CompleteMultipartUpload", False),
        ("s3:ObjectCreated:Copy", False),
        ("ObjectRemoved:Delete", True),
        ("ObjectRemoved:DeleteMarkerCreated", True),
        ("LifecycleExpiration:Delete", True),
        ("s3:LifecycleExpiration:DeleteMarkerCreated", True),
        ("ObjectRestore:Completed", False),
    ],
)
def test_the_event_name_says_whether_the_object_was_removed(name: str, removed: bool) -> None:
    assert only(s3_event(s3_record(name=name))).removed is removed


def test_eventbridge_says_whether_the_object_was_removed() -> None:
    assert only(event_bridge(kind="Object Deleted")).removed
    assert not only(event_bridge(kind="Object Restore Completed")).removed


@pytest.mark.parametrize("name", ["ObjectRemoved:Delete", "LifecycleExpiration:Delete"])
def test_the_end_of_one_version_for_good_only_says_that_there_is_something_to_look_at(name: str) -> None:
    """Of an old one nothing changes, and of the current one or of a delete marker an older one comes back."""
    change = only(s3_event(s3_record(name=name, versionId="v1")))
    assert (change.removed, change.etag, change.version_id) == (False, None, "v1")
    bridge = event_bridge(kind="Object Deleted", **{"version-id": "v1"})
    assert not only(bridge).removed
    bridge["detail"]["deletion-type"] = "Delete Marker Created"
    assert only(bridge).removed


def test_a_delete_marker_is_a_removal() -> None:
    assert only(s3_event(s3_record(name="ObjectRemoved:DeleteMarkerCreated", versionId="v1"))).removed


@pytest.mark.parametrize(
    "event",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "docs"},
        s3_event(s3_record(name="ObjectTagging:Put")),
        s3_event(s3_record(name="ObjectAcl:Put")),
        s3_event(s3_record(name="ObjectRestore:Post")),
        event_bridge(kind="Object Tags Added"),
        {"Records": []},
    ],
)
def test_what_changes_no_bytes_is_acknowledged(event: Any) -> None:
    for (message,) in (parse(event).messages, parse(sqs_event(event)).messages):
        assert (message.changes, message.error) == ((), None)
        assert [event.outcome for event in message.events] == ["ignored"] * len(message.events)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "not_json"),
        ("", "not_json"),
        ("[" * 100_000, "not_json"),
        (None, "unknown_envelope"),
        (["s3"], "unknown_envelope"),
        ({"hello": "world"}, "unknown_envelope"),
        ({"Type": "Notification", "Message": 7}, "field_missing"),
        ({"Records": ["x"]}, "unknown_record"),
        ({"Records": [{"eventSource": "aws:dynamodb"}]}, "unknown_record"),
        ({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "k"}}}]}, "field_missing"),
        ({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}}}]}, "field_missing"),
        ({**event_bridge(), "source": "aws.ec2"}, "unknown_source"),
        (s3_event(s3_record("x\0y")), "nul"),
        (event_bridge("x\0y"), "nul"),
        (event_bridge("half \ud800"), "surrogate"),
        (s3_event({**s3_record(), "s3": {"bucket": {"name": "b"}, "object": {"key": "%FF%FE"}}}), "key_encoding"),
        (s3_event(s3_record("")), "key_length"),
        (s3_event(s3_record("é" * 513)), "key_length"),
        ({**s3_event(), "x": float("nan")}, "not_finite"),
        (json.dumps({**s3_event(), "x": 0}).replace("0}", "1e999}"), "not_finite"),
        ({**s3_event(), "x": json.loads("[" * 500 + "]" * 500)}, "nested_too_deep"),
        (sns_notification(sns_notification(sns_notification(sns_notification(s3_event())))), "nested_too_deep"),
    ],
)
def test_a_malformed_message_has_a_code(body: Any, code: str) -> None:
    assert error_of(sqs_event(body)) == code


def test_the_longest_key_that_s3_allows_is_accepted() -> None:
    assert only(s3_event(s3_record("é" * 512))).key == "é" * 512


def test_a_malformed_message_leaves_its_neighbours_alone() -> None:
    first, second, third = parse(sqs_event(s3_event(), "{", event_bridge())).messages
    assert (len(first.changes), len(second.changes), len(third.changes)) == (1, 0, 1)
    assert isinstance(second.error, MalformedEvent)
    assert first.error is None
    assert third.error is None


def test_one_bad_record_fails_its_whole_message() -> None:
    """Half of a message can't be acknowledged."""
    (message,) = parse(sqs_event(s3_event(s3_record(), s3_record("x\0y")))).messages
    assert message.error is not None
    assert message.changes == ()


def test_a_message_without_an_id_fails_the_batch() -> None:
    with pytest.raises(MalformedEvent):
        parse({"Records": [{"eventSource": "aws:sqs", "body": "{}"}]})


def change(etag: str | None, sequencer: str | None = None, removed: bool = False, key: str = "k") -> ObjectChange:
    return ObjectChange("b", key, removed, etag=etag, sequencer=sequencer)


def test_the_highest_sequencer_wins_in_any_order() -> None:
    older, newer = change("1", "0A"), change("2", "0B")
    assert fold([older, newer]) == fold([newer, older]) == (newer,)


def test_a_shorter_sequencer_is_padded_with_zeros_on_its_right() -> None:
    short, long = change("1", "0B"), change("2", "0A99")
    assert fold([short, long]) == (short,)
    assert fold([change("1", "0A"), long]) == (long,)


@pytest.mark.parametrize("sequencer", [None, "0055AED6DCD90281E5"])
def test_where_order_is_unknown_the_bucket_must_be_looked_at(sequencer: str | None) -> None:
    created, removed = change("1", sequencer), change(None, sequencer, removed=True)
    for order in ([created, removed], [removed, created]):
        (result,) = fold(order)
        assert (result.removed, result.etag) == (False, None)


@pytest.mark.parametrize("newest", [change("2"), change("1")], ids=["another", "the same"])
def test_an_event_without_a_sequencer_is_not_dropped_with_an_old_one_that_has_one(newest: ObjectChange) -> None:
    (result,) = fold([newest, change("1", "03")])
    assert result.sequencer is None


def test_repeated_events_stay_one() -> None:
    assert fold([change("1"), change("1")]) == (change("1"),)


def test_changes_are_sorted_by_the_bytes_of_their_keys() -> None:
    keys = ["a", "Z", "é", "\ue000", "\U00010000", "a b"]
    assert [item.key for item in fold(change("1", key=key) for key in keys)] == sorted(keys, key=str.encode)
