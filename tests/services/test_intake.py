"""What a hint does to the row of its key, on a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hints import QUEUE, created, put_row, removed, rows, take_in, the_row
from worker import producer
from worker.domain.changes import ObjectChange
from worker.domain.document import TERMINAL, Status
from worker.settings import Settings

pytestmark = pytest.mark.usefixtures("fresh_connection")


def test_a_created_object_becomes_a_pending_document_and_a_wake_up(settings: Settings, database: Any) -> None:
    result = take_in(settings, created(sequencer="0A"))
    row = the_row(database)
    (hint,) = result.recorded
    assert (hint.document_id, hint.generation, hint.wake) == (str(row["id"]), 1, True)
    assert (row["status"], row["desired_generation"], row["generation"], row["queued"]) == ("PENDING", 1, 0, True)
    assert (row["hint_etag"], row["hint_sequencer"], row["hint_removed"]) == ("e1", "0A", False)
    assert (row["later"], row["soon"]) == (True, True), "the dispatcher sends again after requeue_after"
    assert producer.queue_lengths(settings)[QUEUE] == 1


def test_a_removed_object_that_nobody_knows_leaves_nothing(settings: Settings, database: Any) -> None:
    assert take_in(settings, removed()).recorded == ()
    assert rows(database) == []


@pytest.mark.parametrize("key", ["a b+c%25.pdf", "é/日本", "line\nbreak", "a'b\"c\\d{,}NULL", "𐀀", "x" * 1024])
def test_a_key_arrives_in_the_row_exactly(settings: Settings, database: Any, key: str) -> None:
    take_in(settings, created(key))
    assert the_row(database)["key"] == key


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("change", [created(etag="e2"), removed()], ids=["created", "removed"])
def test_news_makes_a_terminal_document_due_again(
    settings: Settings, database: Any, status: Status, change: ObjectChange
) -> None:
    put_row(database, status)
    (hint,) = take_in(settings, change).recorded
    row = the_row(database)
    assert (row["status"], row["desired_generation"], row["generation"]) == ("PENDING", 2, 1)
    assert (row["attempts"], row["lease_losses"], row["error_code"], row["error"]) == (0, 0, None, None)
    assert row["queued"]
    assert row["later"]
    assert row["soon"]
    assert row["hint_removed"] is change.removed
    assert hint.wake
    assert hint.generation == 2
    assert producer.queue_lengths(settings)[QUEUE] == 1


def test_hints_coalesce_on_a_document_that_nobody_has_taken_on(settings: Settings, database: Any) -> None:
    for number in range(5):
        take_in(settings, created(etag=f"e{number}"))
    row = the_row(database)
    assert (row["desired_generation"], row["hint_etag"]) == (1, "e4")


def test_news_wakes_a_document_that_waits_for_a_retry(settings: Settings, database: Any) -> None:
    put_row(database, Status.PENDING)
    (hint,) = take_in(settings, created(etag="e2")).recorded
    row = the_row(database)
    assert hint.wake
    assert row["queued"]
    assert row["soon"]
    assert row["attempts"] == 0
    assert row["desired_generation"] == 2


@pytest.mark.parametrize("status", [Status.EXTRACTING, Status.EXTRACTED, Status.EMBEDDING])
def test_news_for_a_document_in_work_is_noted_and_wakes_nobody(settings: Settings, database: Any, status: Status) -> None:
    put_row(database, status)
    before = the_row(database)
    for etag in ("e2", "e3"):
        (hint,) = take_in(settings, created(etag=etag)).recorded
        assert not hint.wake
        assert hint.generation == 2
    after = the_row(database)
    # Two events without an order: neither is known to be the last.
    assert (after["desired_generation"], after["hint_etag"]) == (2, None)
    for column in ("status", "lease_token", "due_at", "queued", "attempts", "generation"):
        assert after[column] == before[column]
    assert producer.queue_lengths(settings)[QUEUE] == 0


def test_a_removal_is_noted_for_the_holder(settings: Settings, database: Any) -> None:
    put_row(database, Status.EXTRACTING)
    take_in(settings, removed())
    row = the_row(database)
    assert row["hint_removed"]
    assert row["desired_generation"] == 2
    assert row["hint_etag"] is None


def test_an_object_that_comes_back_after_a_removal_in_work_clears_the_removal(settings: Settings, database: Any) -> None:
    put_row(database, Status.EMBEDDING, hint_removed=True, desired_generation=2)
    assert len(take_in(settings, created(etag="e1")).recorded) == 1
    assert the_row(database)["hint_removed"] is False


def test_a_removal_of_a_deleted_document_is_looked_into(settings: Settings, database: Any) -> None:
    """Deleting the delete marker of a versioned object brings it back, and S3 calls that ObjectRemoved:Delete."""
    put_row(database, Status.DELETED, hint_removed=True, hint_etag=None)
    assert len(take_in(settings, removed()).recorded) == 1
