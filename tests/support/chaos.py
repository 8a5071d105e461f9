"""Histories of keys: what happens in a bucket, the events that tell of it, and how badly these are delivered."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, Protocol
from urllib.parse import quote_plus

import boto3

# What may happen to a key, and how often.
CHANGES = {"put": 6, "multipart": 1, "copy": 1, "delete": 3, "expire": 1, "erase old": 2, "erase current": 2}
SEQUENCERS = ("ordered", "of unequal length", "none", "constant", "on some")
ENVELOPES = ("s3", "sns", "eventbridge")
DAMAGED = b"%PDF-1.7\ndamaged"


@dataclass(frozen=True, slots=True)
class Event:
    """What S3 says of one change. ``name`` is the event's name in a notification."""

    bucket: str
    key: str
    name: str
    etag: str | None = None
    version_id: str | None = None
    sequencer: str | None = None

    def body(self, envelope: str) -> dict[str, Any]:
        """The JSON of a message, as S3, SNS or EventBridge sends it."""
        if envelope == "eventbridge":
            item = {"key": self.key, "etag": self.etag, "version-id": self.version_id, "sequencer": self.sequencer}
            kind = "Object Created" if self.name.startswith("ObjectCreated") else "Object Deleted"
            how = {"Delete": "Permanently Deleted", "DeleteMarkerCreated": "Delete Marker Created"}.get(self.name.split(":")[1])
            detail = {"bucket": {"name": self.bucket}, "object": _without_none(item), **({"deletion-type": how} if how else {})}
            return {"version": "0", "source": "aws.s3", "detail-type": kind, "detail": detail}
        item = {"key": quote_plus(self.key), "eTag": self.etag, "versionId": self.version_id, "sequencer": self.sequencer}
        s3 = {"s3SchemaVersion": "1.0", "bucket": {"name": self.bucket}, "object": _without_none(item)}
        records = {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": self.name, "s3": s3}]}
        return {"Type": "Notification", "Message": json.dumps(records)} if envelope == "sns" else records


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; without a body it is a delete marker."""

    id: str
    body: bytes | None
    etag: str


class Bucket(Protocol):
    """``change`` makes one of CHANGES happen to the key, and gives the event; None where nothing happened."""

    name: str

    def change(self, key: str, what: str, body: bytes, choose: random.Random) -> Event | None: ...


class ModelBucket:
    """A bucket in this process. Thread-safe."""

    def __init__(self, name: str, versioned: bool) -> None:
        self.name = name
        self._versioned = versioned
        self._versions: dict[str, list[Version]] = {}
        self._made = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Version | None:
        """The current version, or None for S3's 404."""
        with self._lock:
            versions = self._versions.get(key)
            return versions[-1] if versions and versions[-1].body is not None else None

    def current(self) -> dict[str, bytes]:
        """Key -> bytes."""
        return {key: now.body for key in self._versions if (now := self.get(key)) and now.body is not None}

    def change(self, key: str, what: str, body: bytes, choose: random.Random) -> Event | None:
        with self._lock:
            versions = self._versions.setdefault(key, [])
            if what in ("delete", "expire"):
                return self._remove(key, versions, "LifecycleExpiration" if what == "expire" else "ObjectRemoved")
            if what in ("erase old", "erase current"):
                older = range(len(versions) - 1)
                if not self._versioned or not versions or (what == "erase old" and not older):
                    return None
                erased = versions.pop(choose.choice(older) if what == "erase old" else -1)
                return Event(self.name, key, "ObjectRemoved:Delete", None, erased.id)
            etag = md5(body).hexdigest()  # noqa: S324 - as S3 makes it
            version = self._version(body, f"{etag}-1" if what == "multipart" else etag)
            versions[:] = [*versions, version] if self._versioned else [version]
            name = {"put": "Put", "multipart": "CompleteMultipartUpload", "copy": "Copy"}[what]
            return Event(self.name, key, f"ObjectCreated:{name}", version.etag, version.id if self._versioned else None)

    def _remove(self, key: str, versions: list[Version], cause: str) -> Event | None:
        if self._versioned:
            versions.append(self._version(None, ""))
            return Event(self.name, key, f"{cause}:DeleteMarkerCreated", None, versions[-1].id)
        if not versions:
            return None
        versions.clear()
        return Event(self.name, key, f"{cause}:Delete")

    def _version(self, body: bytes | None, etag: str) -> Version:
        self._made += 1
        return Version(f"version-{self._made}", body, etag)


class S3Bucket:
    """A bucket behind the S3 API, made when it is missing."""

    def __init__(self, name: str, versioned: bool) -> None:
        self.name = name
        self._s3 = boto3.client("s3")
        self._s3.create_bucket(Bucket=name)
        if versioned:
            self._s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        self._versioned = versioned

    def current(self) -> dict[str, bytes]:
        """Key -> bytes."""
        listed = self._s3.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {item["Key"]: self._s3.get_object(Bucket=self.name, Key=item["Key"])["Body"].read() for item in listed}

    def change(self, key: str, what: str, body: bytes, choose: random.Random) -> Event | None:
        if what in ("delete", "expire"):
            answer = self._s3.delete_object(Bucket=self.name, Key=key)
            cause = "LifecycleExpiration" if what == "expire" else "ObjectRemoved"
            return Event(
                self.name, key, f"{cause}:{'DeleteMarkerCreated' if self._versioned else 'Delete'}", None, answer.get("VersionId")
            )
        if what in ("erase old", "erase current"):
            listed = self._s3.list_object_versions(Bucket=self.name, Prefix=key)
            versions = [version for kind in ("Versions", "DeleteMarkers") for version in listed.get(kind, [])]
            chosen = [version["VersionId"] for version in versions if version["IsLatest"] == (what == "erase current")]
            if not self._versioned or not chosen:
                return None
            version_id = choose.choice(chosen)
            self._s3.delete_object(Bucket=self.name, Key=key, VersionId=version_id)
            return Event(self.name, key, "ObjectRemoved:Delete", None, version_id)
        answer = self._s3.put_object(Bucket=self.name, Key=key, Body=body)
        return Event(self.name, key, "ObjectCreated:Put", answer["ETag"].strip('"'), answer.get("VersionId"))


@dataclass
class History:
    """One key's life: changes that are still to come, and how its events are numbered."""

    bucket: Bucket
    key: str
    sequencers: str
    changes: list[tuple[str, bytes]]
    told: int = 0

    @classmethod
    def random(cls, bucket: Bucket, key: str, choose: random.Random, damaged: float) -> History:
        """A few contents only, so that one comes back after another; ``damaged`` is the share of those that can't be read."""
        bodies = [DAMAGED + key.encode() if choose.random() < damaged else f"{key} says {number}".encode() for number in range(3)]
        # Most lives are short, so that there can be many.
        length = choose.randint(0, 3) if choose.random() < 0.85 else choose.randint(4, 10)
        names = choose.choices(list(CHANGES), list(CHANGES.values()), k=length)
        return cls(
            bucket, key, choose.choice(SEQUENCERS), [("put", bodies[0]), *((name, choose.choice(bodies)) for name in names)]
        )

    def step(self, choose: random.Random) -> Event | None:
        """Let the next change happen."""
        what, body = self.changes.pop(0)
        event = self.bucket.change(self.key, what, body, choose)
        if event is None:
            return None
        self.told += 1
        return Event(event.bucket, event.key, event.name, event.etag, event.version_id, self._sequencer(choose))

    def _sequencer(self, choose: random.Random) -> str | None:
        match self.sequencers:
            case "ordered":
                return f"{self.told:016X}"
            case "of unequal length":
                return f"00{self.told:04x}" + "".join(choose.choices("0123456789abcdef", k=choose.randint(0, 8)))
            case "constant":
                return "0055AED6DCD90281E5"
            case "on some" if choose.random() < 0.5:
                return f"{self.told:016X}"
        return None


@dataclass
class Mail:
    """Events on their way: lost, repeated, late and in any order; but the newest of a key is delivered at least once."""

    lost: int = 0
    delivered: int = 0
    _waiting: dict[tuple[str, str], list[Event]] = field(default_factory=dict)
    _old: list[Event] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def post(self, event: Event, choose: random.Random) -> None:
        with self._lock:
            earlier = self._waiting.get((event.bucket, event.key), [])
            kept = [other for other in earlier if choose.random() > 0.3]
            self.lost += len(earlier) - len(kept)
            self._waiting[event.bucket, event.key] = [*kept, event]

    def take(self, count: int, choose: random.Random, *, repeat: float = 0.2) -> list[Event]:
        """Some events for one invocation; with the chance ``repeat`` one comes again later, and an old one comes along."""
        taken: list[Event] = []
        with self._lock:
            while self._waiting and len(taken) < count:
                place = choose.choice(list(self._waiting))
                waiting = self._waiting[place]
                event = choose.choice(waiting)
                taken.append(event)
                if choose.random() >= repeat:
                    waiting.remove(event)
                if not waiting:
                    del self._waiting[place]
                if self._old and choose.random() < repeat:
                    taken.append(choose.choice(self._old))
            self._old += taken
            self.delivered += len(taken)
        return taken

    def take_old(self, count: int) -> list[Event]:
        """Events that were delivered already; none twice."""
        with self._lock:
            taken, self._old = self._old[:count], self._old[count:]
            self.delivered += len(taken)
            return taken


def invocation(events: Sequence[Event], choose: random.Random) -> dict[str, Any]:
    """What Lambda calls the handler with: a message an event, in any of the envelopes."""
    return {
        "Records": [
            {"messageId": str(number), "eventSource": "aws:sqs", "body": json.dumps(event.body(choose.choice(ENVELOPES)))}
            for number, event in enumerate(events)
        ]
    }
