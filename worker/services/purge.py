"""Erase everything about one key now, without waiting for the pruning rules."""

from __future__ import annotations

from dataclasses import dataclass

from worker import objects
from worker.domain.errors import PermanentError
from worker.settings import Settings
from worker.store import pruning
from worker.store.driver import connect

_LIMIT = 1000


class StillThere(PermanentError):
    """The bucket still has the object: it would be indexed again."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__("still_there", f"{key!r} is still in the bucket {bucket!r}: remove the object first (`lex-ingest rm`)")
        self.args = (bucket, key)


@dataclass(frozen=True, slots=True)
class Purged:
    """What was erased: whether there was a row, how many events, and whether any of it was there at all."""

    bucket: str
    key: str
    document: bool
    events: int

    @property
    def anything(self) -> bool:
        return self.document or self.events > 0


def purge(bucket: str, key: str, settings: Settings) -> Purged:
    """Erase the document's row, text, chunks and vectors, its key and events in the ledger, and every vector whose text
    stands in no document any more. A worker that holds the document can write nothing more of it.

    Raises:
        StillThere: the object is in the bucket.
        Unavailable: S3 does not say whether it is (``access_denied``, ``bucket_missing``, ``s3_unavailable``).
        psycopg.OperationalError: the database is away.
    """
    try:
        objects.head(bucket, key)
    except objects.ObjectMissing:
        objects.require_bucket(bucket)
    else:
        raise StillThere(bucket, key)
    with connect(settings.database_url, "lex-ingest-purge") as connection:
        with connection.transaction():
            document = pruning.remove_document(connection, bucket, key) is not None
            events = pruning.forget_keys(connection, [(bucket, key)])
        while True:
            with connection.transaction():
                erased = pruning.erase_vectors(connection, 0.0, _LIMIT)
            if erased is not None and erased < _LIMIT:
                return Purged(bucket, key, document, events)
