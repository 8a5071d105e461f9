"""A comparison removes nothing by mistake, whatever the listing and S3 answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.documents import BREAD, TIDE, delete_object, put_and_tell, put_object, run_stages
from tests.support.reconciling import (
    DENIED,
    NOTHING_LISTED,
    compare,
    fill_documents,
    indexed,
    s3_that_answers,
    waiting_removals,
    work_off,
)
from tests.support.truth import violations
from worker import objects
from worker.domain.errors import PermanentError, Unavailable
from worker.domain.reconciling import Listed
from worker.services import intake
from worker.settings import Settings


def test_an_object_that_is_put_while_the_listing_runs_is_not_gone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(settings, "a.txt")
    indexed(settings, "b.txt")
    delete_object(settings, "a.txt")
    delete_object(settings, "b.txt")
    listing = objects.listing

    def listing_and_then_a_put(*arguments: Any) -> Iterator[Listed]:
        yield from listing(*arguments)
        put_object(settings, "a.txt", TIDE)

    monkeypatch.setattr(objects, "listing", listing_and_then_a_put)
    tally, found = compare(settings)
    assert found == {("b.txt", "gone")}
    assert (tally.gone, tally.hinted) == (1, 1)


def test_a_put_after_the_key_was_confirmed_gone_loses_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(settings, "a.txt")
    delete_object(settings, "a.txt")
    hint = intake.hint

    def put_and_hint(*arguments: Any, **options: Any) -> Any:
        run_stages(settings, put_and_tell(settings, "a.txt", BREAD))
        return hint(*arguments, **options)

    monkeypatch.setattr(intake, "hint", put_and_hint)
    assert compare(settings)[0].hinted == 1
    work_off(settings)
    assert violations(settings.database_url, settings.buckets[0]) == []


@pytest.mark.parametrize(("gone", "stay", "refused"), [(100, 0, False), (101, 908, True), (101, 909, False)])
def test_more_than_100_and_a_tenth_of_the_documents_are_not_taken_for_gone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, gone: int, stay: int, refused: bool
) -> None:
    fill_documents(settings, gone)
    fill_documents(settings, stay, prefix="stay/")
    put_object(settings, "new.txt", TIDE)
    listing = objects.listing

    def with_those_that_stay(*arguments: Any) -> Iterator[Listed]:
        yield from listing(*arguments)
        yield from (Listed(f"stay/{number:06}", "e", 1) for number in range(1, stay + 1))

    monkeypatch.setattr(objects, "listing", with_those_that_stay)
    tally, found = compare(settings)
    assert (tally.refused, tally.gone, waiting_removals(settings)) == (refused, gone, 0 if refused else gone)
    # What is missing is hinted all the same: it removes nothing.
    assert ("new.txt", "missing") in found
    assert tally.hinted == 1 + waiting_removals(settings)


def test_a_wrong_bucket_costs_few_questions_and_no_document(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_documents(settings, 700)
    asked = []
    head = objects.head
    monkeypatch.setattr(objects, "head", lambda bucket, key: (asked.append(key), head(bucket, key))[1])
    tally, _ = compare(settings)
    assert tally.refused
    assert tally.gone == len(asked) <= 200
    assert tally.gone + tally.not_asked == 700
    assert waiting_removals(settings) == 0
    tally, _ = compare(settings, allow_deletes=True)
    assert (tally.refused, tally.gone, waiting_removals(settings)) == (False, 700, 700)


def test_a_listing_without_order_marks_nothing_gone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a.txt", "b.txt", "c.txt"):
        indexed(settings, key)
    delete_object(settings, "a.txt")
    monkeypatch.setattr(objects, "listing", lambda *_: iter([Listed("c.txt", "e", 1), Listed("b.txt", "e", 1)]))
    with pytest.raises(PermanentError) as caught:
        compare(settings, allow_deletes=True)
    assert caught.value.code == "listing_unordered"
    assert waiting_removals(settings) == 0


def test_a_listing_that_breaks_off_marks_nothing_gone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(settings, "a.txt")
    delete_object(settings, "a.txt")

    def broken(*_: Any) -> Iterator[Listed]:
        yield Listed("b.txt", "e", 1)
        raise Unavailable("s3_unavailable", "S3 did not answer: ReadTimeoutError")

    monkeypatch.setattr(objects, "listing", broken)
    with pytest.raises(Unavailable):
        compare(settings, allow_deletes=True)
    assert waiting_removals(settings) == 0


@pytest.mark.parametrize(
    ("get", "code", "advice"),
    [
        ((403, DENIED), "access_denied", "s3:ListBucket"),
        ((200, NOTHING_LISTED), "access_denied", "s3:ListBucket"),
        ((404, b"<Error><Code>NoSuchBucket</Code></Error>"), "bucket_missing", "check BUCKET"),
        ((200, NOTHING_LISTED.replace(b"false", b"true")), "s3_unavailable", "listing"),
    ],
    ids=["listing refused", "key refused", "no bucket", "listing cut off"],
)
def test_an_s3_that_refuses_marks_nothing_gone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, get: tuple[int, bytes], code: str, advice: str
) -> None:
    indexed(settings, "a.txt")
    with s3_that_answers(get, (403, b"")) as address:
        client = boto3.client("s3", endpoint_url=address, config=Config(retries={"total_max_attempts": 1}))
        monkeypatch.setattr(objects, "s3_client", lambda: client)
        try:
            with pytest.raises(Unavailable, match=advice) as caught:
                compare(settings, allow_deletes=True)
        finally:
            client.close()
    assert caught.value.code == code
    assert waiting_removals(settings) == 0
