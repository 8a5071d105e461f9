"""What must hold for every key, every JSON value and every order of events."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st

from handlers.envelopes import MAX_KEY_BYTES, MalformedEvent, parse
from worker.domain.changes import ObjectChange, fold

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
