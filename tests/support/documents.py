"""Short forms for the tests of the pipeline: put an object, tell of it, run the stages here and now."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import boto3
import psycopg
from psycopg.rows import dict_row

from worker.contract import Stage
from worker.domain.changes import ObjectChange, ReceivedEvent
from worker.domain.scope import Scope
from worker.services import documents, intake
from worker.services.documents import DocumentStatus
from worker.services.search import Hit, search
from worker.settings import Settings
from worker.store import leases
from worker.store.session import transaction

TIDE = "The tide turns twice a day and drives the old mill by the harbour."
BREAD = "A sourdough needs flour, water, salt and above all patience."


def put_object(settings: Settings, key: str, body: bytes | str) -> str:
    """Put an object into the bucket and return its ETag."""
    data = body.encode() if isinstance(body, str) else body
    answer = boto3.client("s3").put_object(Bucket=settings.buckets[0], Key=key, Body=data)
    return str(answer["ETag"]).strip('"')


def delete_object(settings: Settings, key: str) -> None:
    boto3.client("s3").delete_object(Bucket=settings.buckets[0], Key=key)


def received(change: ObjectChange) -> ReceivedEvent:
    """The event that a change came by, as far as the ledger is concerned."""
    return ReceivedEvent("ObjectRemoved:Delete" if change.removed else "ObjectCreated:Put", "{}", change)


def tell(settings: Settings, key: str, *, removed: bool = False, etag: str | None = None, sequencer: str | None = None) -> None:
    """Record an event about the key, as the handler does."""
    change = ObjectChange(settings.buckets[0], key, removed, etag, None, None, sequencer, None)
    intake.record_and_enqueue([("message", [received(change)])], settings)


def put_and_tell(settings: Settings, key: str, body: bytes | str) -> UUID:
    """Put an object, record its event, and return the document's id."""
    tell(settings, key, etag=put_object(settings, key, body))
    return status_of(settings, key).document_id


def status_of(settings: Settings, key: str) -> DocumentStatus:
    (row,) = documents.statuses(Scope.of_buckets(settings.buckets), settings, key=key)
    return row


def run_stages(settings: Settings, document_id: UUID) -> None:
    """Extract and embed in this process, by the functions that the tasks call."""
    from worker.services.embedding import embed_document
    from worker.services.extraction import extract_document

    extract_document(document_id, settings)
    embed_document(document_id, settings)


def find(settings: Settings, query: str, limit: int = 3, prefix: str = "") -> list[Hit]:
    return search(query, Scope.of_buckets(settings.buckets).within(prefix), limit, settings)


def row_of(settings: Settings, document_id: UUID) -> dict[str, Any]:
    """The document's row, as it is."""
    with psycopg.connect(settings.database_url, row_factory=dict_row) as connection:
        row = connection.execute("SELECT * FROM documents WHERE id = %s", (document_id,)).fetchone()
        assert row is not None
        return row


def count(settings: Settings, table: str) -> int:
    with psycopg.connect(settings.database_url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row is not None
        return int(row[0])


def execute(settings: Settings, statement: str, *values: Any) -> None:
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute(statement.encode(), values)


def claim(settings: Settings, document_id: UUID, stage: Stage) -> leases.Lease:
    with transaction(settings.database_url) as connection:
        lease = leases.claim(connection, document_id, stage, 30)
    assert lease is not None
    return lease
