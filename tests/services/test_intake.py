"""What a hint does to the row of its key, in one round trip for a batch, on a real PostgreSQL."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from tests.support.documents import received
from worker import producer
from worker.contract import QUEUES, Stage
from worker.domain.changes import ObjectChange
from worker.domain.document import TERMINAL, Status
from worker.services import intake
from worker.settings import Settings

BUCKET = "documents"
QUEUE = QUEUES[Stage.PROCESS]
WORKING = (Status.EXTRACTING, Status.EMBEDDING)


def created(key: str = "k", etag: str | None = "e1", sequencer: str | None = None, bucket: str = BUCKET) -> ObjectChange:
    return ObjectChange(bucket, key, removed=False, etag=etag, sequencer=sequencer)


def removed(key: str = "k", sequencer: str | None = None) -> ObjectChange:
    return ObjectChange(BUCKET, key, removed=True, sequencer=sequencer)


def take_in(settings: Settings, *changes: ObjectChange) -> intake.IntakeResult:
    return intake.record_and_enqueue([message("m", *changes)], settings)


def message(message_id: str, *changes: ObjectChange) -> intake.MessageEvents:
    return message_id, [received(change) for change in changes]


@pytest.fixture(autouse=True)
def fresh_connection() -> Iterator[None]:
    yield
    intake._connections.close()


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def rows(database: psycopg.Connection[dict[str, Any]]) -> list[dict[str, Any]]:
    return database.execute(
        "SELECT *, due_at > now() AS later, due_at <= now() + interval '60 seconds' AS soon FROM documents ORDER BY key"
    ).fetchall()


def the_row(database: psycopg.Connection[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows(database)
    return row


def put_row(database: psycopg.Connection[dict[str, Any]], status: Status, **columns: Any) -> None:
    """A row as the worker leaves it: generation 1 was taken on, and the object ``e1`` was read."""
    values: dict[str, Any] = {
        "bucket": BUCKET,
        "key": "k",
        "status": status.value,
        "generation": 1,
        "desired_generation": 1,
        "hint_etag": "e1",
        "etag": "e1",
        "attempts": 2,
        "lease_losses": 1,
        "error_code": "old",
        "error": "old",
        "lease_token": uuid.uuid4() if status in WORKING else None,
        "due_at": None if status in TERMINAL else "2100-01-01",
        **columns,
    }
    names = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, values))
    marks = psycopg.sql.SQL(", ").join(psycopg.sql.Placeholder() * len(values))
    database.execute(psycopg.sql.SQL("INSERT INTO documents ({}) VALUES ({})").format(names, marks), list(values.values()))


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


def test_an_event_without_a_sequencer_counts_in_a_batch_with_a_late_one(settings: Settings, database: Any) -> None:
    put_row(database, Status.INDEXED, hint_sequencer="05")
    assert len(take_in(settings, created(etag="e2"), created(etag="e0", sequencer="03")).recorded) == 1
    assert the_row(database)["hint_sequencer"] == "05"


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


def test_an_object_that_comes_back_after_a_removal_in_work_clears_the_removal(settings: Settings, database: Any) -> None:
    put_row(database, Status.EMBEDDING, hint_removed=True, desired_generation=2)
    assert len(take_in(settings, created(etag="e1")).recorded) == 1
    assert the_row(database)["hint_removed"] is False


def test_a_removal_of_a_deleted_document_is_looked_into(settings: Settings, database: Any) -> None:
    """Deleting the delete marker of a versioned object brings it back, and S3 calls that ObjectRemoved:Delete."""
    put_row(database, Status.DELETED, hint_removed=True, hint_etag=None)
    assert len(take_in(settings, removed()).recorded) == 1


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


@dataclass
class CountingProxy:
    """Stands between a client and PostgreSQL and counts how often the client spoke after the server had answered."""

    target: tuple[str, int]
    round_trips: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _sockets: list[socket.socket] = field(default_factory=list)
    _server_spoke: bool = True

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in [self._listener, *self._sockets]:
            one.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        server = socket.create_connection(self.target)
        self._sockets += [client, server]
        threading.Thread(target=self._copy, args=(client, server, True), daemon=True).start()
        self._copy(server, client, False)

    def _copy(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        try:
            while data := source.recv(65536):
                if from_client and self._server_spoke:
                    self.round_trips += 1
                self._server_spoke = not from_client
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


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
