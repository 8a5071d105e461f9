"""Lost notifications are found by comparing the bucket with the documents, and nothing is removed by mistake.

No event of these tests arrives unless one is told: the fixtures' bucket has nobody who reads its queue.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import boto3
import psycopg
import pytest
from botocore.config import Config

from tests.support.documents import BREAD, TIDE, count, delete_object, execute, put_and_tell, put_object, run_stages, tell
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
from worker import objects, producer
from worker.domain.errors import PermanentError, Unavailable
from worker.domain.reconciling import Listed
from worker.services import intake
from worker.services.extraction import extract_document
from worker.services.reconcile import reconcile
from worker.settings import Settings

ODD_KEYS = [
    "a b.txt",
    "a+b.txt",
    "a%2Bb.txt",
    "a%20b.txt",
    "dir/ü/日本語.txt",
    "emoji \U0001f600.txt",
    "\uffee after every emoji in UTF-16.txt",
    "line\nbreak.txt",
    "quote\"'<&>.txt",
    "trailing /",
    "UPPER.txt",
    "~tilde_%like.txt",
]


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_lost_events_of_every_kind_are_found_whatever_the_keys_and_pages(settings: Settings, page: int) -> None:
    for key in (*ODD_KEYS, "stays.txt"):
        indexed(settings, key, f"{BREAD} {key}")
    expected = set()
    for key, what in zip(ODD_KEYS, ["changed", "gone", "same"] * 4, strict=True):
        if what == "changed":
            put_object(settings, key, f"{TIDE} {key}")
        elif what == "gone":
            delete_object(settings, key)
        put_object(settings, f"new {key}", f"{TIDE} new {key}")
        expected |= {(f"new {key}", "missing")} | ({(key, what)} if what != "same" else set())
    tally, found = compare(settings, page=page)
    assert found == expected
    assert (tally.objects, tally.documents, tally.hinted) == (21, 13, 20)
    assert (tally.missing, tally.changed, tally.gone) == (12, 4, 4)
    work_off(settings)
    assert violations(settings.database_url, settings.buckets[0]) == []
    assert compare(settings, page=page)[1] == set()


def test_a_key_that_was_deleted_and_came_back_unseen_is_indexed_again(settings: Settings) -> None:
    indexed(settings, "a.txt")
    delete_object(settings, "a.txt")
    tell(settings, "a.txt", removed=True)
    work_off(settings)
    assert compare(settings)[1] == set()
    put_object(settings, "a.txt", TIDE)
    assert compare(settings)[1] == {("a.txt", "missing")}
    work_off(settings)
    assert violations(settings.database_url, settings.buckets[0]) == []


def test_a_key_with_a_control_character_comes_and_goes(settings: Settings) -> None:
    key = "bell\x07.txt"
    put_object(settings, key, TIDE)
    try:
        assert compare(settings)[1] == {(key, "missing")}
        work_off(settings)
        assert violations(settings.database_url, settings.buckets[0]) == []
    finally:
        delete_object(settings, key)
    # S3's answer to a GET of it now repeats the key, and so is no XML.
    assert compare(settings)[1] == {(key, "gone")}
    work_off(settings)
    assert violations(settings.database_url, settings.buckets[0]) == []


def test_a_hint_stands_in_the_ledger_under_its_source(settings: Settings) -> None:
    put_object(settings, "new.txt", TIDE)
    indexed(settings, "old.txt")
    delete_object(settings, "old.txt")
    compare(settings)
    with psycopg.connect(settings.database_url) as connection:
        rows = connection.execute("SELECT kind, key FROM events WHERE kind LIKE 'reconcile:%' ORDER BY key").fetchall()
    assert rows == [("reconcile:created", "new.txt"), ("reconcile:removed", "old.txt")]


def test_two_comparisons_in_a_row_hint_once(settings: Settings) -> None:
    put_object(settings, "new.txt", TIDE)
    assert compare(settings)[0].hinted == 1
    assert compare(settings)[0].hinted == 0
    work_off(settings)
    assert violations(settings.database_url, settings.buckets[0]) == []


def test_a_file_that_can_t_be_indexed_is_not_tried_again_by_each_comparison(settings: Settings) -> None:
    bodies = {
        "damaged.pdf": b"%PDF-1.7\nnothing",
        "empty.txt": b"",
        "folder/": b"",
        "program": b"\x7fELF\x02\x01\x01" + bytes(200),
    }
    for key, body in bodies.items():
        put_object(settings, key, body)
    assert compare(settings)[0].hinted == 4
    work_off(settings)
    assert violations(settings.database_url, settings.buckets[0], bad=bodies) == []
    assert compare(settings)[1] == set()


def test_a_poison_without_an_etag_of_its_own_is_tried_once_for_an_unknown_event_and_then_no_more(settings: Settings) -> None:
    put_object(settings, "poison", TIDE)
    tell(settings, "poison")
    lost = (
        "UPDATE documents SET status = 'FAILED', due_at = NULL, queued = false, generation = desired_generation,"
        " error_code = 'worker_lost'"
    )
    execute(settings, lost)
    assert compare(settings)[1] == {("poison", "changed")}
    execute(settings, lost)
    assert compare(settings)[1] == set()


def test_a_document_in_work_is_told_that_another_version_came_and_one_that_waits_is_left_alone(settings: Settings) -> None:
    extract_document(put_and_tell(settings, "extracted.txt", TIDE), settings)
    put_and_tell(settings, "pending.txt", TIDE)
    for key in ("extracted.txt", "pending.txt"):
        put_object(settings, key, BREAD)
    assert compare(settings)[1] == {("extracted.txt", "changed")}
    # The stage that holds the old text ends it, and the document is then done once more.
    work_off(settings)
    work_off(settings)
    assert violations(settings.database_url, settings.buckets[0]) == []


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


def test_a_prefix_bounds_what_is_compared_on_both_sides(settings: Settings) -> None:
    for key in ("p_%/a.txt", "pxy/a.txt", "q.txt"):
        indexed(settings, key)
        delete_object(settings, key)
        put_object(settings, key + ".new", TIDE)
    tally, found = compare(settings, prefix="p_%/", dry_run=True)
    assert found == {("p_%/a.txt", "gone"), ("p_%/a.txt.new", "missing")}
    assert (tally.objects, tally.documents) == (1, 1)
    assert compare(settings, prefix="wrong/")[1] == set()


def test_a_key_that_postgresql_can_t_hold_is_counted_and_stops_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "listing", lambda *_: iter([Listed("a", "e", 1), Listed("a\x00b", "e", 1), Listed("b", "e", 1)]))
    tally, found = compare(settings)
    assert found == {("a", "missing"), ("b", "missing")}
    assert (tally.objects, tally.hinted, tally.unusable) == (3, 2, 1)


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


def test_a_dry_run_tells_and_hints_nothing(settings: Settings) -> None:
    indexed(settings, "a.txt")
    delete_object(settings, "a.txt")
    put_object(settings, "b.txt", TIDE)
    before = count(settings, "events")
    tally, found = compare(settings, dry_run=True)
    assert found == {("a.txt", "gone"), ("b.txt", "missing")}
    assert (tally.hinted, count(settings, "events"), waiting_removals(settings)) == (0, before, 0)


def test_only_as_many_workers_are_woken_as_the_queue_takes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "listing", lambda *_: (Listed(f"{number:05}", "e", 1) for number in range(1300)))
    sent: list[int] = []
    monkeypatch.setattr(producer, "send", lambda wake_ups, _: sent.append(len(wake_ups)) or 0)
    assert compare(settings)[0].hinted == 1300
    assert sum(sent) == settings.low_water == 200


def test_no_transaction_is_open_while_s3_is_asked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ones = []

    def look() -> None:
        with psycopg.connect(settings.database_url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lex-ingest%' AND xact_start IS NOT NULL"
            ).fetchone()
            open_ones.append(row and row[0])

    listing, head = objects.listing, objects.head

    def watched_listing(*arguments: Any) -> Iterator[Listed]:
        for item in listing(*arguments):
            look()
            yield item
        look()

    def watched_head(bucket: str, key: str) -> objects.ObjectFacts:
        look()
        return head(bucket, key)

    monkeypatch.setattr(objects, "listing", watched_listing)
    monkeypatch.setattr(objects, "head", watched_head)
    for number in range(5):
        put_object(settings, f"{number}", TIDE)
        put_and_tell(settings, f"{number}.gone", TIDE)
    work_off(settings)
    for number in range(5):
        delete_object(settings, f"{number}.gone")
    assert compare(settings, page=2)[0].gone == 5
    assert set(open_ones) == {0}
    assert len(open_ones) >= 11


def test_memory_does_not_grow_with_the_bucket(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    both, missing, gone = 15_000, 5_000, 5_000

    def listing(*_: Any) -> Iterator[Listed]:
        yield from (Listed(f"both/{number:06}", "e", 1) for number in range(1, both + 1))
        yield from (Listed(f"missing/{number:06}", "e", 1) for number in range(1, missing + 1))

    def is_missing(*_: Any) -> None:
        raise objects.ObjectMissing

    # What is imported and cached by a first run is not counted.
    put_object(settings, "missing/000001", TIDE)
    compare(settings)
    fill_documents(settings, both, prefix="both/")
    fill_documents(settings, gone, prefix="gone/")
    monkeypatch.setattr(objects, "listing", listing)
    monkeypatch.setattr(objects, "head", is_missing)
    tracemalloc.start()
    try:
        (tally,) = reconcile(settings.buckets, settings, allow_deletes=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tally.objects, tally.missing, tally.gone, tally.hinted) == (20_000, missing - 1, gone, missing - 1 + gone)
    # A page of rows and a batch of hints; the keys alone that differ would be another megabyte.
    assert peak < 1_000_000


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
