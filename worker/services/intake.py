"""Take in a batch of events: record them in one round trip to PostgreSQL, then wake the workers.

The committed row is what counts. Redis may fail, then the dispatcher sends the wake-up later; PostgreSQL may not, then
the messages have to come again. No SQLAlchemy here: the handler's start pays for imports.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from worker import producer, telemetry
from worker.domain.changes import UNSTORABLE, ObjectChange, ReceivedEvent
from worker.settings import Settings
from worker.store import hints
from worker.store.driver import KEEPALIVES
from worker.store.hints import RecordedHint

log = telemetry.get_logger(__name__)

APPLICATION_NAME = "lex-ingest-handler"
_CONNECT_TIMEOUT = 3  # seconds, as are the others
_STATEMENT_TIMEOUT = 10
_ANSWER_TIMEOUT = 12
_NOT_ALLOWED = "bucket_not_allowed"

# One SQS message, or one direct event: its id, and the events in it.
MessageEvents = tuple[str, Sequence[ReceivedEvent]]


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What became of a batch.

    ``recorded`` are the rows that took a hint; a repeated event has none. ``failed_message_ids`` have to come again;
    ``enqueue_failures`` are rows that the dispatcher will wake; ``not_allowed`` counts changes in foreign buckets.
    """

    recorded: tuple[RecordedHint, ...]
    failed_message_ids: tuple[str, ...] = ()
    enqueue_failures: int = 0
    not_allowed: int = 0


def record_and_enqueue(messages: Sequence[MessageEvents], settings: Settings) -> IntakeResult:
    """Record every message's events, then send a wake-up for each document that nobody works on.

    One statement for all. If PostgreSQL refuses a value in it, each message is recorded by itself, so that only the bad
    one fails; if PostgreSQL is away, all fail.
    """
    judged = [(message_id, [_judged(event, message_id, settings) for event in events]) for message_id, events in messages]
    not_allowed = sum(event.outcome == _NOT_ALLOWED for _, events in judged for event in events)
    recorded, failed = _record(judged, settings)
    for hint in recorded:
        with telemetry.document_context(hint.document_id, hint.generation):
            log.info("event recorded", extra={"bucket": hint.bucket, "key": hint.key, "wake": hint.wake})
    return IntakeResult(tuple(recorded), tuple(failed), _wake(recorded, settings), not_allowed)


def hint(changes: Sequence[ObjectChange], settings: Settings, *, source: str, wake: bool) -> tuple[RecordedHint, ...]:
    """Take hints that no event brought; the ledger keeps them as ``{source}:created`` or ``{source}:removed``.

    Without ``wake`` the dispatcher sends the wake-ups, as the queues have room: right for more than a few.

    Raises:
        psycopg.OperationalError: the database is away.
    """
    events = []
    for change in changes:
        kind = f"{source}:{'removed' if change.removed else 'created'}"
        events.append(ReceivedEvent(kind, json.dumps({"etag": change.etag, "size": change.size}), change))
    recorded = _execute(events, settings)
    if wake:
        _wake(recorded, settings)
    return tuple(recorded)


def _wake(recorded: Iterable[RecordedHint], settings: Settings) -> int:
    """Send the wake-ups; returns how many could not be sent."""
    wake_ups = {hint.wake_up.task_id: hint.wake_up for hint in recorded if hint.wake_up is not None}
    return producer.send(list(wake_ups.values()), settings) if wake_ups else 0


def _judged(event: ReceivedEvent, message_id: str, settings: Settings) -> ReceivedEvent:
    # A malformed message may have an id that PostgreSQL can't store. The answer to SQS still has the id as it came.
    message_id = UNSTORABLE.sub("\ufffd", message_id)
    if event.change is not None and settings.buckets and event.change.bucket not in settings.buckets:
        log.warning("event of a foreign bucket", extra={"code": _NOT_ALLOWED, "bucket": event.change.bucket})
        return replace(event, message_id=message_id or None, outcome=_NOT_ALLOWED)
    return replace(event, message_id=message_id or None)


def _record(messages: Sequence[MessageEvents], settings: Settings) -> tuple[list[RecordedHint], list[str]]:
    """Return the recorded hints, and the ids of the messages that could not be recorded."""
    try:
        return _execute([event for _, events in messages for event in events], settings), []
    except psycopg.OperationalError as error:
        log.error("batch not recorded", extra={"code": "database_unavailable", "reason": _reason(error)})
        return [], [message_id for message_id, events in messages if events]
    except (psycopg.Error, UnicodeError) as error:
        if len(messages) == 1:
            log.error(
                "message not recorded",
                extra={"message_id": messages[0][0], "code": "record_failed", "reason": _reason(error)},
            )
            return [], [messages[0][0]]
    recorded: list[RecordedHint] = []
    failed: list[str] = []
    for message in messages:
        hints_of_message, failed_of_message = _record([message], settings)
        recorded += hints_of_message
        failed += failed_of_message
    return recorded, failed


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}" if isinstance(error, psycopg.Error) else type(error).__name__


def _execute(events: Sequence[ReceivedEvent], settings: Settings) -> list[RecordedHint]:
    if not events:
        return []
    connection, reused = _connections.get(settings.database_url)
    try:
        with _bounded(connection):
            return hints.record(connection, events, settings.requeue_after)
    except psycopg.OperationalError:
        if not (reused and connection.closed):
            raise
    # The connection of an earlier invocation was gone: the server restarted, or the network forgot it.
    connection, _ = _connections.get(settings.database_url)
    with _bounded(connection):
        return hints.record(connection, events, settings.requeue_after)


@contextmanager
def _bounded(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Cut the connection where no answer comes: the server keeps its statement_timeout itself, and it may stand still."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        timer = threading.Timer(_ANSWER_TIMEOUT, end.shutdown, (socket.SHUT_RDWR,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


class _Connections:
    """The one connection of this process, kept for the next invocation."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None
        self._database_url = ""

    def get(self, database_url: str) -> tuple[psycopg.Connection[Any], bool]:
        """Return an open connection, and whether it was open before.

        Raises:
            psycopg.OperationalError: none can be made.
        """
        if self._connection is not None and not self._connection.closed and self._database_url == database_url:
            return self._connection, True
        self.close()
        given = conninfo_to_dict(database_url).get("options") or ""
        self._connection = psycopg.connect(
            database_url,
            # A batch is one statement, which is atomic by itself: BEGIN and COMMIT would be two more round trips, and a
            # prepared statement one more on some invocation.
            autocommit=True,
            prepare_threshold=None,
            application_name=APPLICATION_NAME,
            options=f"{given} -c statement_timeout={_STATEMENT_TIMEOUT}s".strip(),
            **{**KEEPALIVES, "connect_timeout": _CONNECT_TIMEOUT},
        )
        self._database_url = database_url
        return self._connection, False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


_connections = _Connections()
