"""What an event says about one key of one bucket, and how several such hints become one.

An event is a hint: it says that a key changed. The worker reads the bucket to see what is there (DESIGN.md, "Events are
hints"), so a hint that is forgotten too early is an error and one that is kept too long costs a look at the bucket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

# Characters that PostgreSQL can't store: a NUL, and half of a surrogate pair, which an escape in JSON may give.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """One event. ``key`` is the decoded key, ``size`` counts bytes, ``event_time`` is the sender's text.

    ``sequencer`` is hexadecimal and orders the events of one key (Amazon S3 User Guide, "Event message structure");
    None where the sender has none, as moto does. ``etag`` is None where the sender does not say, and in a fold whose
    order can't be known.
    """

    bucket: str
    key: str
    removed: bool
    etag: str | None = None
    size: int | None = None
    version_id: str | None = None
    sequencer: str | None = None
    event_time: str | None = None


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One event as it came, for the ledger.

    ``kind`` is the sender's name of it ("ObjectCreated:Put", "Object Deleted"), and ``raw`` its JSON text in ASCII. ``change``
    is None where it says nothing about an object's bytes, or can't be read; ``outcome`` then says which.
    """

    kind: str
    raw: str
    change: ObjectChange | None
    outcome: str | None = None
    message_id: str | None = None


def fold(changes: Iterable[ObjectChange]) -> tuple[ObjectChange, ...]:
    """Return one change for each (bucket, key), sorted by the bytes of both, as PostgreSQL's "C" collation sorts.

    The one with the highest sequencer wins. Where the sequencers can't tell (one is missing, or an emulator sends the
    same to all) and the events differ, the result says "created, etag unknown": the one hint that makes the worker look
    at the bucket whatever was recorded before. It has a sequencer only if each of them has: one without may be the newest,
    and must not be dropped with an old one.
    """
    groups: dict[tuple[str, str], list[ObjectChange]] = {}
    for change in changes:
        groups.setdefault((change.bucket, change.key), []).append(change)
    ordered = sorted(groups, key=lambda place: tuple(name.encode("utf-8", "surrogatepass") for name in place))
    return tuple(_newest(groups[place]) for place in ordered)


def _newest(group: list[ObjectChange]) -> ObjectChange:
    sequencers = [change.sequencer for change in group if change.sequencer is not None]
    if len(sequencers) < len(group):
        last = replace(group[-1], sequencer=None)
    else:
        width = max(map(len, sequencers))
        highest = max(sequencer.ljust(width, "0") for sequencer in sequencers)
        group = [change for change in group if (change.sequencer or "").ljust(width, "0") == highest]
        last = group[-1]
    if all((change.removed, change.etag) == (last.removed, last.etag) for change in group):
        return last
    removed = all(change.removed for change in group)
    return replace(last, removed=removed, etag=None, size=None, version_id=None)
