"""The documents of a bucket in the order of their keys' bytes, which is the order in which S3 lists a bucket."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from worker.domain.document import Status
from worker.domain.reconciling import Known
from worker.domain.scope import Scope
from worker.store.models import Document
from worker.store.scoping import visible


def count(connection: Connection, bucket: str, prefix: str) -> int:
    """How many documents there are that are not DELETED."""
    return connection.execute(
        select(func.count()).select_from(Document).where(visible(Scope((bucket,), (prefix,))), Document.status != Status.DELETED)
    ).scalar_one()


def page(connection: Connection, bucket: str, prefix: str, after: str | None, limit: int) -> list[Known]:
    """The next ``limit`` documents behind the key ``after``, the first ones where that is None."""
    rows = connection.execute(
        select(
            Document.key,
            Document.status,
            Document.etag,
            Document.hint_etag,
            Document.error_code,
            (Document.desired_generation > Document.generation).label("newer_wanted"),
        )
        .where(visible(Scope((bucket,), (prefix,))), *([] if after is None else [Document.key > after]))
        .order_by(Document.key)
        .limit(limit)
    )
    return [Known(row.key, Status(row.status), row.etag, row.hint_etag, row.error_code, row.newer_wanted) for row in rows]
