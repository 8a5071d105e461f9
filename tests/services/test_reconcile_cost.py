"""What a comparison costs: messages, transactions, memory; a dry run costs nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.documents import TIDE, count, delete_object, put_and_tell, put_object
from tests.support.reconciling import (
    compare,
    fill_documents,
    indexed,
    waiting_removals,
    work_off,
)
from worker import objects, producer
from worker.domain.reconciling import Listed
from worker.services.reconcile import reconcile
from worker.settings import Settings


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
