"""The bucket's listing against the documents: which keys differ, so that the loss of a notification is found.

A difference is a hint like any event: the worker reads the bucket and sees what is there (DESIGN.md, "Events are hints").
So one that is told in vain costs a look at the bucket, and one that is not told is found by the next comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from worker.domain.document import Status
from worker.domain.errors import PermanentError

# So many documents may leave the index at once, and a tenth of them, without somebody saying that this is meant.
_FEW = 100
_SHARE = 10


class Kind(StrEnum):
    """How a key differs: no document of its object, a document of another version, a document without an object."""

    MISSING = "missing"
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Difference:
    """A key on which bucket and documents do not agree."""

    bucket: str
    key: str
    difference: Kind


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as the bucket's listing names it. ``etag`` is unquoted."""

    key: str
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class Known:
    """A document. ``newer_wanted`` says that a generation is asked for that nobody has taken on."""

    key: str
    status: Status
    etag: str | None
    hint_etag: str | None
    error_code: str | None
    newer_wanted: bool


def merge(listing: Iterable[Listed], documents: Iterable[Known]) -> Iterator[tuple[Listed | None, Known | None]]:
    """Pair objects and documents by key; one that has no partner stands alone. Both come in the order of the keys' bytes.

    Python compares text by code points, which is the order of its UTF-8 bytes.

    Raises:
        PermanentError: ``listing_unordered``: the listing is not in that order, so nothing follows from a key's absence.
    """
    objects, rows = _in_order(listing), iter(documents)
    listed, known = next(objects, None), next(rows, None)
    while listed is not None or known is not None:
        if known is None or (listed is not None and listed.key < known.key):
            yield listed, None
            listed = next(objects, None)
        elif listed is None or known.key < listed.key:
            yield None, known
            known = next(rows, None)
        else:
            yield listed, known
            listed, known = next(objects, None), next(rows, None)


def _in_order(listing: Iterable[Listed]) -> Iterator[Listed]:
    last: str | None = None
    for listed in listing:
        if last is not None and listed.key <= last:
            raise PermanentError(
                "listing_unordered",
                "the bucket lists its keys in no order (as S3 directory buckets do), so it can't be compared with the documents",
            )
        last = listed.key
        yield listed


def difference(listed: Listed | None, known: Known | None) -> Kind | None:
    """How one key differs, or None. ``GONE`` is a suspicion only: the key itself has to be asked for."""
    if known is None or known.status is Status.DELETED:
        return None if listed is None else Kind.MISSING
    if known.status is Status.PENDING or known.newer_wanted:
        # Whoever takes it on looks at the bucket.
        return None
    if listed is None:
        return Kind.GONE
    if known.status is Status.EXTRACTING or listed.etag == _tried(known):
        # What a holder is reading is written down once it is read.
        return None
    return Kind.CHANGED


def _tried(known: Known) -> str | None:
    """The ETag of the object that led to the document's status.

    A document that ends its workers, or fails before it is read, leaves no ETag of that try: then it is the one that was
    told of. So a poison is not tried again by each comparison.
    """
    unread = known.status is Status.FAILED and (known.error_code == "worker_lost" or known.etag is None)
    return known.hint_etag if unread else known.etag


def too_many_gone(gone: int, documents: int) -> bool:
    """Whether a wrong role, prefix or bucket is likelier than so many lost removals: over 100, and over 10% of the documents."""
    return gone > _FEW and gone * _SHARE > documents
