"""The ledger: every event that came, and what became of it; and how long it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from handlers.s3_events import lambda_handler
from tests.support.documents import execute, put_and_tell, put_object, run_stages, tell
from worker.services import intake
from worker.services.housekeeping import tidy, tidy_if_due
from worker.settings import Settings
from worker.store import pruning

A, B = "0055AED6DCD90281E5", "0055AED6DCD90281E6"


@pytest.fixture
def connection(settings: Settings) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(settings.database_url, autocommit=True, row_factory=dict_row) as opened:
        yield opened
    intake._connections.close()


def events(connection: psycopg.Connection[dict[str, Any]]) -> list[dict[str, Any]]:
    return connection.execute("SELECT * FROM events ORDER BY id").fetchall()


def outcomes(connection: psycopg.Connection[dict[str, Any]]) -> list[str]:
    return [row["outcome"] for row in events(connection)]


def message(settings: Settings, body: Any, message_id: str = "m") -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    return {"messageId": message_id, "body": text, "eventSource": "aws:sqs"}


def record(settings: Settings, key: str = "k", name: str = "ObjectCreated:Put", **item: Any) -> dict[str, Any]:
    return {"eventName": name, "s3": {"bucket": {"name": settings.buckets[0]}, "object": {"key": key, **item}}}


def test_an_event_is_kept_with_what_became_of_it(settings: Settings, connection: psycopg.Connection[dict[str, Any]]) -> None:
    tell(settings, "k", etag="e1", sequencer=B)
    tell(settings, "k", etag="e1", sequencer=B)
    tell(settings, "k", etag="e0", sequencer=A)
    tell(settings, "never there", removed=True)
    assert outcomes(connection) == ["recorded", "nothing_new", "stale", "unknown_key"]
    first, repeated, _, unknown = events(connection)
    assert (first["key"], first["generation"], first["kind"]) == ("k", 1, "ObjectCreated:Put")
    assert repeated["document_id"] == first["document_id"] is not None
    assert (unknown["document_id"], unknown["generation"]) == (None, None)


def test_the_raw_event_is_kept_whole(settings: Settings, connection: psycopg.Connection[dict[str, Any]]) -> None:
    sent = record(settings, eTag="e", userIdentity={"principalId": 'a tab \t, a \\ and a ", 日本'})
    lambda_handler({"Records": [message(settings, {"Records": [sent]}, "m7")]}, None)
    (row,) = connection.execute("SELECT raw::text, message_id FROM events").fetchall()
    assert (json.loads(row["raw"]), row["message_id"]) == (sent, "m7")


def test_every_event_of_a_batch_has_its_row(settings: Settings, connection: psycopg.Connection[dict[str, Any]]) -> None:
    """Also those that were folded into one hint, that say nothing of bytes, that can't be read, and of foreign buckets."""
    foreign = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "other"}, "object": {"key": "k"}}}
    bodies = [
        {"Records": [record(settings, sequencer=A), record(settings, sequencer=B)]},
        {"Records": [record(settings, name="ObjectTagging:Put")]},
        {"Event": "s3:TestEvent"},
        "{",
        {"Records": [foreign]},
    ]
    answer = lambda_handler({"Records": [message(settings, body, f"m{n}") for n, body in enumerate(bodies)]}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m3"}]}
    assert outcomes(connection) == ["recorded", "recorded", "ignored", "ignored", "not_json", "bucket_not_allowed"]
    assert [row["kind"] for row in events(connection)][-2:] == ["malformed", "ObjectCreated:Put"]


def test_an_event_that_the_database_could_not_hold_is_kept_as_malformed(
    settings: Settings, connection: psycopg.Connection[dict[str, Any]]
) -> None:
    answer = lambda_handler({"Records": [message(settings, {"Records": [record(settings, eTag="nul \0")]})]}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    assert outcomes(connection) == ["nul"]


def test_the_ledger_has_a_partition_a_day_and_drops_old_days(settings: Settings) -> None:
    with psycopg.connect(settings.database_url) as connection:
        today = date(2031, 5, 1)
        assert pruning.keep_partitions(connection, today, 14)[0] == 8
        assert pruning.keep_partitions(connection, today, 14) == (0, 0)
        connection.execute("INSERT INTO events (received_at, kind, outcome) VALUES ('2031-05-02 12:00Z', 'k', 'recorded')")
        assert connection.execute("SELECT tableoid::regclass::text FROM events").fetchall() == [("events_20310502",)]
        made, dropped = pruning.keep_partitions(connection, today + timedelta(days=17), 14)
        assert (made, dropped) == (8, 3)
        assert connection.execute("SELECT count(*) FROM events WHERE received_at < '2031-05-04Z'").fetchall() == [(0,)]
        connection.rollback()


def test_a_day_without_a_partition_is_pruned_all_the_same(settings: Settings) -> None:
    with psycopg.connect(settings.database_url) as connection:
        today = date(2031, 5, 1)
        for day in ("2031-04-01", "2031-04-30", "2031-05-02"):
            connection.execute("INSERT INTO events (received_at, kind, outcome) VALUES (%s, 'k', 'recorded')", (f"{day} 12:00Z",))
        assert pruning.keep_partitions(connection, today, 14)[0] == 7  # not the 2nd of May: the default one has events of it
        rows = connection.execute("SELECT received_at::date, tableoid::regclass::text FROM events ORDER BY 1").fetchall()
        assert rows == [(date(2031, 4, 30), "events_default"), (date(2031, 5, 2), "events_default")]
        connection.rollback()


def test_one_process_in_a_minute_prunes(settings: Settings) -> None:
    with psycopg.connect(settings.database_url) as one, psycopg.connect(settings.database_url) as other:
        assert tidy_if_due(one, settings) is not None
        assert tidy_if_due(other, settings) is None
        execute(settings, "UPDATE chores SET due_at = now() - interval '1 second'")
        assert tidy_if_due(other, settings) is not None


def test_events_after_a_partition_was_made_are_recorded(
    settings: Settings, connection: psycopg.Connection[dict[str, Any]]
) -> None:
    with psycopg.connect(settings.database_url) as other:
        tidy(other, settings)
    put_object(settings, "k", "text")
    run_stages(settings, put_and_tell(settings, "k", "text"))
    (row,) = connection.execute("SELECT tableoid::regclass::text AS place FROM events").fetchall()
    assert row["place"] in ("events_default", f"events_{datetime.now(UTC):%Y%m%d}")
