"""Late, repeated and unordered events: which change a row, and which say nothing new."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hints import created, put_row, removed, take_in, the_row
from worker.domain.document import Status
from worker.settings import Settings

pytestmark = pytest.mark.usefixtures("fresh_connection")


def test_an_event_without_a_sequencer_counts_in_a_batch_with_a_late_one(settings: Settings, database: Any) -> None:
    put_row(database, Status.INDEXED, hint_sequencer="05")
    assert len(take_in(settings, created(etag="e2"), created(etag="e0", sequencer="03")).recorded) == 1
    assert the_row(database)["hint_sequencer"] == "05"


@pytest.mark.parametrize("status", sorted(Status))
@pytest.mark.parametrize(("stored", "late"), [("0B", "0A"), ("0B0", "0A9F"), ("0055AED6DCD90281E5", "0055AED6DCD90281E4")])
def test_a_late_event_changes_nothing(settings: Settings, database: Any, status: Status, stored: str, late: str) -> None:
    put_row(database, status, hint_sequencer=stored)
    before = the_row(database)
    assert take_in(settings, created(etag="e0", sequencer=late)).recorded == ()
    assert take_in(settings, removed(sequencer=late)).recorded == ()
    assert the_row(database) == before


def test_sequencers_of_different_length_are_padded_on_the_right(settings: Settings, database: Any) -> None:
    put_row(database, Status.INDEXED, hint_sequencer="0A9")
    assert len(take_in(settings, created(etag="e2", sequencer="0B")).recorded) == 1
    assert the_row(database)["hint_sequencer"] == "0B"


def test_an_event_without_a_sequencer_leaves_the_stored_one(settings: Settings, database: Any) -> None:
    put_row(database, Status.INDEXED, hint_sequencer="0A")
    assert len(take_in(settings, created(etag="e2")).recorded) == 1
    assert the_row(database)["hint_sequencer"] == "0A"


@pytest.mark.parametrize("sequencer", [None, "0A"])
@pytest.mark.parametrize("status", [Status.PENDING, Status.EXTRACTED, Status.EMBEDDING, Status.INDEXED])
def test_an_event_that_says_nothing_new_changes_nothing(
    settings: Settings, database: Any, status: Status, sequencer: str | None
) -> None:
    put_row(database, status, hint_sequencer=sequencer)
    before = the_row(database)
    assert take_in(settings, created(sequencer=sequencer)).recorded == ()
    assert the_row(database) == before


@pytest.mark.parametrize("status", [Status.FAILED, Status.DELETED, Status.UNSUPPORTED, Status.NO_TEXT, Status.EXTRACTING])
def test_where_the_last_read_may_be_older_the_same_event_counts(settings: Settings, database: Any, status: Status) -> None:
    put_row(database, status)
    assert len(take_in(settings, created()).recorded) == 1
    assert the_row(database)["desired_generation"] == 2


def test_an_etag_that_was_announced_but_is_not_what_was_read_counts(settings: Settings, database: Any) -> None:
    """A, then B was read before B's event, then A's event again: the bucket may hold A once more."""
    put_row(database, Status.INDEXED, hint_etag="e1", etag="e2")
    assert len(take_in(settings, created(etag="e1")).recorded) == 1
