"""Lost notifications are found by comparing the bucket with the documents.

No event of these tests arrives unless one is told: the fixtures' bucket has nobody who reads its queue.
"""

from __future__ import annotations

import psycopg
import pytest

from tests.support.documents import BREAD, TIDE, delete_object, execute, put_and_tell, put_object, tell
from tests.support.reconciling import (
    compare,
    indexed,
    work_off,
)
from tests.support.truth import violations
from worker import objects
from worker.domain.reconciling import Listed
from worker.services.extraction import extract_document
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
