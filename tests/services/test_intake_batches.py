"""A batch of messages: one round trip, one connection, and what fails of it."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.documents import received
from tests.support.hints import BUCKET, QUEUE, created, message, removed, rows, take_in, the_row
from tests.support.round_trips import CountingProxy
from worker import producer
from worker.services import intake
from worker.settings import Settings

pytestmark = pytest.mark.usefixtures("fresh_connection")


def test_the_same_key_twice_in_a_batch_is_one_row(settings: Settings, database: Any) -> None:
    result = intake.record_and_enqueue([message("1", created(etag="a")), message("2", created(etag="b"), removed())], settings)
    assert len(result.recorded) == 1
    row = the_row(database)
    assert (row["hint_etag"], row["hint_removed"]) == (None, False)
    assert producer.queue_lengths(settings)[QUEUE] == 1


def test_an_event_of_a_foreign_bucket_is_counted_and_left(settings: Settings, database: Any) -> None:
    mine = replace(settings, buckets=(BUCKET, "c"))
    result = take_in(mine, created(), created(bucket="other"), created(bucket="c"))
    assert (len(result.recorded), result.not_allowed, result.failed_message_ids) == (2, 1, ())
    assert {row["bucket"] for row in rows(database)} == {BUCKET, "c"}


def test_one_bad_value_fails_its_message_alone(settings: Settings, database: Any) -> None:
    bad = [created("bad", etag="nul\0"), created("with bad")]
    messages = [
        message("1", created("a")),
        message("2", *bad),
        message("3", created("surrogate", etag="\ud800")),
        message("4", created("z")),
    ]
    result = intake.record_and_enqueue(messages, settings)
    assert result.failed_message_ids == ("2", "3")
    assert [row["key"] for row in rows(database)] == ["a", "z"]
    assert producer.queue_lengths(settings)[QUEUE] == 2


def test_a_refused_database_fails_every_message_that_has_changes(settings: Settings) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = replace(settings, database_url=f"postgresql://u@127.0.0.1:{closed.getsockname()[1]}/none")
        result = intake.record_and_enqueue([message("1", created()), ("2", []), message("3", created("l"))], away)
    assert result.failed_message_ids == ("1", "3")
    assert result.recorded == ()


def test_redis_that_is_away_fails_no_message(settings: Settings, database: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = take_in(replace(settings, redis_url=f"redis://127.0.0.1:{closed.getsockname()[1]}/0"), created(), created("l"))
    assert (result.failed_message_ids, result.enqueue_failures, len(result.recorded)) == ((), 2, 2)
    assert all(row["queued"] and row["soon"] for row in rows(database)), "the dispatcher finds them"


def test_a_connection_that_was_lost_between_two_batches_is_made_again(settings: Settings, database: Any) -> None:
    take_in(settings, created("a"))
    ended = database.execute(
        "SELECT pg_terminate_backend(pid, 5000) AS ended FROM pg_stat_activity WHERE application_name = %s",
        (intake.APPLICATION_NAME,),
    ).fetchall()
    assert ended == [{"ended": True}]
    assert take_in(settings, created("b")).failed_message_ids == ()
    assert [row["key"] for row in rows(database)] == ["a", "b"]


def test_warm_batches_share_one_connection(settings: Settings, database: Any) -> None:
    count = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
    take_in(settings, created("a"))
    first = database.execute(count, (intake.APPLICATION_NAME,)).fetchall()
    take_in(settings, created("b"))
    assert database.execute(count, (intake.APPLICATION_NAME,)).fetchall() == first
    assert len(first) == 1


def test_options_in_the_database_url_are_kept(settings: Settings, database_url: str) -> None:
    """The tables can't be found through a path that has none."""
    url = make_conninfo(database_url, options="-c search_path=nowhere")
    assert take_in(replace(settings, database_url=url), created()).failed_message_ids == ("m",)


def test_a_batch_of_any_size_is_one_round_trip_to_the_database(settings: Settings, database_url: str, database: Any) -> None:
    given = conninfo_to_dict(database_url)
    proxy = CountingProxy((str(given.get("host", "127.0.0.1")), int(given.get("port") or 5432)))
    proxy.start()
    try:
        through = replace(
            settings,
            database_url=make_conninfo(
                database_url, host="127.0.0.1", hostaddr="", port=proxy.port, sslmode="disable", gssencmode="disable"
            ),
        )
        take_in(through, created("first"))
        for batch in range(8):
            before = proxy.round_trips
            messages = [message(str(number), created(f"{batch}/{number}"), created("same")) for number in range(10)]
            result = intake.record_and_enqueue(messages, through)
            assert result.failed_message_ids == ()
            assert proxy.round_trips - before == 1
        assert len(rows(database)) == 1 + 8 * 10 + 1
    finally:
        intake._connections.close()
        proxy.close()


def test_batches_with_the_same_keys_in_another_order_do_not_deadlock(settings: Settings, database_url: str) -> None:
    keys = [f"k{number:03}" for number in range(60)]

    def run(offset: int) -> None:
        turned = keys[offset:] + keys[:offset]
        with psycopg.connect(database_url, autocommit=True) as connection:
            for number in range(25):
                intake.hints.record(connection, [received(created(key, etag=f"{offset}-{number}")) for key in turned], 60.0)

    with ThreadPoolExecutor() as pool:
        list(pool.map(run, (0, 17, 31, 45)))
