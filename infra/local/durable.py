"""Keeps what moto's S3 and SQS hold in memory in one SQLite file, request by request.

A request is answered after what it changed is committed, in one transaction: an object together with the message that
tells of it. So a kill at any moment leaves the old state or the new one, and no event is lost. One row is one version of
one object or one message, so a write costs what it writes, not what the bucket holds. WAL with ``synchronous=NORMAL``:
the file survives the process being killed at any point; a power failure may take back the last moments, never more.

Not kept: uploads in parts that were not completed, how often a message was received, SNS and EventBridge.
"""

from __future__ import annotations

import copy
import json
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import moto.s3.models as s3
import moto.sqs.models as sqs
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.utils import _VersionedKeyStore

REGION = "us-east-1"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    id INTEGER PRIMARY KEY, bucket TEXT NOT NULL, key BLOB NOT NULL, version TEXT NOT NULL, body BLOB NOT NULL,
    UNIQUE (bucket, key, version));
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, queue TEXT NOT NULL, message TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (queue, message));
"""
# What SetQueueAttributes takes; moto reports more.
_QUEUE_ATTRIBUTES = (
    "DelaySeconds", "MaximumMessageSize", "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "VisibilityTimeout",
    "FifoQueue", "ContentBasedDeduplication", "Policy", "RedrivePolicy",
)  # fmt: skip


class KeyStore(_VersionedKeyStore):
    """A bucket's keys, remembering which were written since the last ``save``."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: set[str] = set()

    def __setitem__(self, key: str, value: Any) -> None:
        self.changed.add(key)
        super().__setitem__(key, value)

    def setlist(self, key: Any, list_: Any) -> None:
        self.changed.add(key)
        super().setlist(key, list_)

    def pop(self, key: str) -> None:  # type: ignore[override]  # moto's own signature
        self.changed.add(key)
        super().pop(key)


def replace(owner: Any, name: str, new: Any) -> None:
    """Replace an attribute of moto, which has no hook for what this package changes."""
    setattr(owner, name, new)


# Every bucket made from here on has such a store.
replace(s3, "_VersionedKeyStore", KeyStore)


def _changed(bucket: s3.FakeBucket) -> set[str]:
    assert isinstance(bucket.keys, KeyStore)
    return bucket.keys.changed


class Store:
    """The file. Not thread-safe: the caller holds the lock that also guards moto."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")
        self._s3 = s3.s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._sqs = sqs.sqs_backends[DEFAULT_ACCOUNT_ID][REGION]
        # What the file holds, so that a save writes differences only.
        self._buckets: dict[str, bytes] = {}
        self._queues: dict[str, str] = {}
        self._messages: dict[str, set[str]] = {}

    def load(self) -> None:
        """Put everything into moto's memory, as it was when the last request was answered."""
        for name, body in self._database.execute("SELECT name, body FROM buckets"):
            bucket, tags = pickle.loads(body)  # noqa: S301 - our own file, which only its owner may write
            self._s3.buckets[name] = bucket
            bucket.keys, bucket.multiparts = KeyStore(), s3.MultipartDict()
            self._s3.tagger.tags.update(tags)
            s3.s3_backends.bucket_accounts[name] = (bucket.partition, bucket.account_id)
            self._buckets[name] = body
        for name, body in self._database.execute("SELECT bucket, body FROM versions ORDER BY id"):
            version, tags = pickle.loads(body)  # noqa: S301 - as above
            keys = self._s3.buckets[name].keys
            if isinstance(version, s3.FakeDeleteMarker):
                version.key = keys.get(version.name, version)
            keys[version.name] = version
            self._s3.tagger.tags.update(tags)
        for bucket in self._s3.buckets.values():
            _changed(bucket).clear()
        self._load_queues()

    def _load_queues(self) -> None:
        redrives = {}
        for name, body in self._database.execute("SELECT name, body FROM queues"):
            attributes = json.loads(body)
            redrives[name] = attributes.pop("RedrivePolicy", None)
            self._sqs.create_queue(name, **attributes)
            self._queues[name], self._messages[name] = body, set()
        for name, policy in redrives.items():  # once the dead-letter queues are there
            if policy:
                self._sqs.set_queue_attributes(name, {"RedrivePolicy": policy})
        for name, identity, body in self._database.execute("SELECT queue, message, body FROM messages ORDER BY id"):
            self._sqs.queues[name].add_message(pickle.loads(body))  # noqa: S301 - as above
            self._messages[name].add(identity)

    def save(self, touched: tuple[str, str, str | None] | None = None) -> None:
        """Commit what changed since the last call.

        ``touched``: bucket, key and version id (None: the latest) that a request named; an object's tags, ACL and locks
        change in place, which the key store can't see.
        """
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._save_buckets()
            if touched and (bucket := self._s3.buckets.get(touched[0])) and touched[1] in bucket.keys:
                _changed(bucket).add(touched[1])
            for name, bucket in self._s3.buckets.items():
                for key in _changed(bucket):
                    self._save_key(name, key, bucket.keys.getlist(key, []), touched[2] if touched else None)
                _changed(bucket).clear()
            self._save_queues()
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _save_buckets(self) -> None:
        for name in self._buckets.keys() - self._s3.buckets.keys():
            self._database.execute("DELETE FROM buckets WHERE name = ?", (name,))
            self._database.execute("DELETE FROM versions WHERE bucket = ?", (name,))
            del self._buckets[name]
        for name, bucket in self._s3.buckets.items():
            bare = copy.copy(bucket)
            bare.keys, bare.multiparts = _VersionedKeyStore(), s3.MultipartDict()
            body = pickle.dumps((bare, self._tags(bucket.arn)))
            if self._buckets.get(name) != body:
                self._database.execute("REPLACE INTO buckets VALUES (?, ?)", (name, body))
                self._buckets[name] = body

    def _save_key(self, bucket: str, key: str, versions: list[Any], named: str | None) -> None:
        # Any name that a client could send, lone surrogates included.
        raw = key.encode("utf-8", "surrogatepass")
        place = (bucket, raw)
        stored = {row[0] for row in self._database.execute("SELECT version FROM versions WHERE bucket = ? AND key = ?", place)}
        current = {str(version.version_id) for version in versions}
        for gone in stored - current:
            self._database.execute("DELETE FROM versions WHERE bucket = ? AND key = ? AND version = ?", (*place, gone))
        for version in versions:
            identity = str(version.version_id)
            if identity in stored and version is not versions[-1] and identity != named:
                continue
            kept, tags = version, {}
            if isinstance(version, s3.FakeDeleteMarker):
                kept = copy.copy(version)
                replace(kept, "key", None)  # the object before it, which has a row of its own
            else:
                tags = self._tags(version.arn)
            self._database.execute(
                "INSERT INTO versions (bucket, key, version, body) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (bucket, key, version) DO UPDATE SET body = excluded.body",
                (*place, identity, pickle.dumps((kept, tags))),
            )

    def _tags(self, arn: str) -> dict[str, Any]:
        return {arn: self._s3.tagger.tags[arn]} if arn in self._s3.tagger.tags else {}

    def _save_queues(self) -> None:
        for name in self._queues.keys() - self._sqs.queues.keys():
            self._database.execute("DELETE FROM queues WHERE name = ?", (name,))
            self._database.execute("DELETE FROM messages WHERE queue = ?", (name,))
            del self._queues[name], self._messages[name]
        for name, queue in self._sqs.queues.items():
            attributes = {key: value for key, value in queue.attributes.items() if key in _QUEUE_ATTRIBUTES and value is not None}
            body = json.dumps(attributes, default=str)
            if self._queues.get(name) != body:
                self._database.execute("REPLACE INTO queues VALUES (?, ?)", (name, body))
                self._queues[name] = body
            stored = self._messages.setdefault(name, set())
            current = {message.id: message for message in queue._messages}  # noqa: SLF001 - moto shows the visible ones only
            for gone in stored - current.keys():
                self._database.execute("DELETE FROM messages WHERE queue = ? AND message = ?", (name, gone))
            for new in [identity for identity in current if identity not in stored]:
                row = (name, new, pickle.dumps(_as_sent(current[new])))
                self._database.execute("INSERT INTO messages (queue, message, body) VALUES (?, ?, ?)", row)
            self._messages[name] = set(current)


def _as_sent(message: Any) -> Any:
    fresh = copy.copy(message)
    fresh.visible_at, fresh.receipt_handle = 0.0, None
    fresh._old_receipt_handles = []  # noqa: SLF001 - handles of an earlier run mean nothing to the next
    return fresh
