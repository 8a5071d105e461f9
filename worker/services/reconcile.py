"""Find lost notifications: compare the listing of each bucket with its documents, and give a hint where they differ.

Nothing is changed here. A hint makes a worker look at the bucket, as an event does, so that two comparisons at once, or one
that is out of date when it ends, do no harm. Listing and rows are read in pages and merged: memory does not grow with them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from worker import objects
from worker.domain.changes import ObjectChange
from worker.domain.reconciling import Difference, Kind, Known, difference, merge, too_many_gone
from worker.services import intake
from worker.settings import Settings
from worker.store import inventory
from worker.store.session import snapshot

_PAGE = 1000
_BATCH = 500
# Keys that are asked for at once, over as many connections as the S3 client keeps.
_ASKED_AT_ONCE = 100
_CONNECTIONS = 4
_PROGRESS_EVERY = 500


@dataclass(slots=True)
class Tally:
    """How far a bucket's comparison has come, and what it has found.

    ``documents`` counts those that are not DELETED, ``gone`` those whose key is confirmed to be missing. ``refused`` says that
    these were too many: then no removal was hinted, and ``not_asked`` more are not in the listing. ``unusable`` counts keys
    that PostgreSQL can't hold.
    """

    bucket: str
    documents: int = 0
    objects: int = 0
    missing: int = 0
    changed: int = 0
    gone: int = 0
    hinted: int = 0
    refused: bool = False
    not_asked: int = 0
    unusable: int = 0


def reconcile(
    buckets: Sequence[str],
    settings: Settings,
    *,
    prefix: str = "",
    allow_deletes: bool = False,
    dry_run: bool = False,
    on_difference: Callable[[Difference], None] = lambda _: None,
    on_progress: Callable[[Tally], None] = lambda _: None,
    page: int = _PAGE,
) -> Iterator[Tally]:
    """Compare one bucket after the other; gives each one's tally when it is through.

    A removal is hinted only when the whole listing was read, and only while ``too_many_gone`` holds its peace or
    ``allow_deletes`` is set. A dry run gives no hint at all.

    Raises:
        PermanentError: ``listing_unordered``.
        Unavailable: ``access_denied``, ``bucket_missing``, ``s3_unavailable``.
        psycopg.OperationalError, sqlalchemy.exc.OperationalError: the database is away.
    """
    hints = _Hints(settings, dry_run)
    for bucket in buckets:
        tally = Tally(bucket)
        with snapshot(settings.database_url) as connection:
            tally.documents = inventory.count(connection, bucket, prefix)
        with _Suspects(tally, allow_deletes, on_difference) as suspects:
            hinted_before = hints.taken
            listing = objects.listing(bucket, prefix, page)
            for number, (listed, known) in enumerate(merge(listing, _documents(bucket, prefix, page, settings)), 1):
                tally.objects += listed is not None
                kind = difference(listed, known)
                if kind is Kind.GONE and known is not None:
                    suspects.add(known.key)
                elif kind is not None and listed is not None:
                    if "\x00" in listed.key:
                        tally.unusable += 1
                        continue
                    tally.missing += kind is Kind.MISSING
                    tally.changed += kind is Kind.CHANGED
                    on_difference(Difference(bucket, listed.key, kind))
                    hints.give(ObjectChange(bucket, listed.key, removed=False, etag=listed.etag, size=listed.size))
                if number % _PROGRESS_EVERY == 0:
                    on_progress(tally)
            suspects.ask()
            if not tally.refused:
                for key in suspects.gone():
                    hints.give(ObjectChange(bucket, key, removed=True))
            hints.flush()
            tally.hinted = hints.taken - hinted_before
        on_progress(tally)
        yield tally


def _documents(bucket: str, prefix: str, page: int, settings: Settings) -> Iterator[Known]:
    """The bucket's documents by key, a transaction a page: none is open while S3 is asked."""
    after: str | None = None
    while True:
        with snapshot(settings.database_url) as connection:
            rows = inventory.page(connection, bucket, prefix, after, page)
        yield from rows
        if len(rows) < page:
            return
        after = rows[-1].key


class _Suspects:
    """Documents that the listing does not name: each key is asked for, and kept until the listing is through.

    The keys wait in a file that is gone with this process. Once they are too many, no more is kept or asked for.
    """

    def __init__(self, tally: Tally, allow_deletes: bool, on_difference: Callable[[Difference], None]) -> None:
        self._tally = tally
        self._allow_deletes = allow_deletes
        self._on_difference = on_difference
        self._not_asked: list[str] = []
        self._pool = ThreadPoolExecutor(_CONNECTIONS)
        self._file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - closed in __exit__, beside the pool

    def __enter__(self) -> _Suspects:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._file.close()

    def add(self, key: str) -> None:
        if self._tally.refused:
            self._tally.not_asked += 1
            return
        self._not_asked.append(key)
        if len(self._not_asked) == _ASKED_AT_ONCE:
            self.ask()

    def ask(self) -> None:
        """Confirm what waits, by a HEAD for each key."""
        keys, self._not_asked = self._not_asked, []
        for key, is_gone in zip(keys, self._pool.map(self._is_gone, keys), strict=True):
            if is_gone:
                self._tally.gone += 1
                self._file.write(json.dumps(key) + "\n")
                self._on_difference(Difference(self._tally.bucket, key, Kind.GONE))
        self._tally.refused = not self._allow_deletes and too_many_gone(self._tally.gone, self._tally.documents)

    def _is_gone(self, key: str) -> bool:
        try:
            objects.head(self._tally.bucket, key)
        except objects.ObjectMissing:
            return True
        return False

    def gone(self) -> Iterator[str]:
        """The confirmed keys, in the order in which they were added."""
        self._file.seek(0)
        return map(json.loads, self._file)


class _Hints:
    """Gives hints in batches. The first ones wake the workers; the dispatcher feeds them the rest as they come along."""

    def __init__(self, settings: Settings, dry_run: bool) -> None:
        self._settings = settings
        self._dry_run = dry_run
        self._waiting: list[ObjectChange] = []
        self._may_wake = settings.low_water
        self.taken = 0

    def give(self, change: ObjectChange) -> None:
        if self._dry_run:
            return
        self._waiting.append(change)
        if len(self._waiting) == _BATCH:
            self.flush()

    def flush(self) -> None:
        waiting = iter(self._waiting)
        first = list(islice(waiting, self._may_wake))
        for changes, wake in ((first, True), (list(waiting), False)):
            if changes:
                self.taken += len(intake.hint(changes, self._settings, source="reconcile", wake=wake))
        self._may_wake -= len(first)
        self._waiting = []
