"""Short forms for the tests of intake: changes, messages, and the rows that they make."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

from tests.support.documents import received
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
