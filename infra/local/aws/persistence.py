"""Keeps what moto's S3 and SQS hold in memory in one SQLite file, request by request.

A request is answered after what it changed is committed, in one transaction: an object together with the message that
tells of it. So a kill at any moment leaves the old state or the new one, and no event is lost. One row is one version of
one object or one message, so a write costs what it writes, not what the bucket holds. WAL with ``synchronous=NORMAL``:
the file survives the process being killed at any point; a power failure may take back the last moments, never more.

A row that can't be loaded, since its bucket or queue is missing or its bytes are damaged, is moved to the table ``unreadable``
and named in the log; everything else is served.

Not kept: uploads in parts that were not completed, how often a message was received, the state of other services.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import moto.s3.models as s3
import moto.sqs.models as sqs
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.utils import _VersionedKeyStore

from infra.local.aws.authentication import REGION

# Bytes that stay free on the disk, since SQLite and the other parts of the stack need some to start again.
RESERVE = 8_000_000
# In the order in which they are loaded: what holds others comes before them.
_KINDS = ("bucket", "version", "queue", "redrive", "message")
# What SetQueueAttributes takes; moto reports more.
_QUEUE_ATTRIBUTES = (
    "DelaySeconds", "MaximumMessageSize", "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds", "VisibilityTimeout",
    "FifoQueue", "ContentBasedDeduplication", "Policy",
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


class Store:
    """The file. Not thread-safe: the caller holds the lock that also guards moto."""

    def __init__(self, path: Path) -> None:
        path = path.absolute()
        _check_private(path)
        models: Any = s3
        models._VersionedKeyStore = KeyStore  # noqa: SLF001 - what every new bucket gets; moto has no hook for it
        self._folder = path.parent
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
            "CREATE TABLE IF NOT EXISTS state"
            " (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL UNIQUE, body BLOB NOT NULL);"
            "CREATE TABLE IF NOT EXISTS unreadable"
            " (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, reason TEXT NOT NULL,"
            " set_aside_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        )
        self._s3 = s3.s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._sqs = sqs.sqs_backends[DEFAULT_ACCOUNT_ID][REGION]
        # What the file holds: the versions of each (bucket, key), and under () all else, which is little.
        self._kept: dict[tuple[str, ...], dict[tuple[str, ...], Any]] = {}

    def load(self) -> None:
        """Put everything into moto's memory, as it was when the last request was answered."""
        for kind in _KINDS:
            rows = self._database.execute("SELECT id, name FROM state WHERE kind = ? ORDER BY id", (kind,)).fetchall()
            for row, name in rows:
                try:
                    (body,) = self._database.execute("SELECT body FROM state WHERE id = ?", (row,)).fetchone()
                    # The file is our own, and only its owner may write it.
                    self._load(kind, json.loads(name)[1], pickle.loads(body))  # noqa: S301 - see the comment above
                except Exception as error:  # noqa: BLE001 - a damaged pickle raises anything
                    self._set_aside(row, name, f"{type(error).__name__}: {error}")
        self._kept = self._changed()

    def _set_aside(self, row: int, name: str, reason: str) -> None:
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                "INSERT INTO unreadable (kind, name, body, reason) SELECT kind, name, body, ? FROM state WHERE id = ?",
                (reason, row),
            )
            self._database.execute("DELETE FROM state WHERE id = ?", (row,))
        print(f"set aside {name}, which can't be loaded ({reason}): see the table unreadable", file=sys.stderr, flush=True)

    def has_room(self, size: int) -> bool:
        """Whether the disk takes ``size`` more bytes: they are written to the WAL first, then to the file."""
        return shutil.disk_usage(self._folder).free > RESERVE + 2 * size

    def _load(self, kind: str, owner: str, value: Any) -> None:
        if kind == "bucket":
            bucket, tags = value
            _check_type(bucket, s3.FakeBucket)
            self._s3.buckets[owner] = bucket
            bucket.keys, bucket.multiparts = KeyStore(), s3.MultipartDict()
            self._s3.tagger.tags.update(tags)
            s3.s3_backends.bucket_accounts[owner] = (bucket.partition, bucket.account_id)
        elif kind == "version":
            version, tags = value
            _check_type(version, s3.FakeKey, s3.FakeDeleteMarker)
            keys = self._s3.buckets[owner].keys
            if isinstance(version, s3.FakeDeleteMarker):
                version.key = keys.get(version.name, version)
            keys[version.name] = version
            self._s3.tagger.tags.update(tags)
        elif kind == "queue":
            self._sqs.create_queue(owner, **value)
        elif kind == "redrive":  # once the dead-letter queues are there
            self._sqs.set_queue_attributes(owner, {"RedrivePolicy": value})
        else:
            _check_type(value, sqs.Message)
            self._sqs.queues[owner].add_message(value)

    def save(self, bucket: str, key: str, version: str | None) -> None:
        """Commit what changed since the last call.

        The arguments are what the request named: an object's tags, ACL and locks change in place, which nothing else tells.
        ``version``: None for the latest.
        """
        keys: Any = self._s3.buckets[bucket].keys if bucket in self._s3.buckets else {}
        if key in keys:
            keys.changed.add(key)
            version = version or str(keys[key].version_id)
        named = ("version", bucket, key, version)
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for unit, rows in self._changed().items():
                kept = self._kept.get(unit, {})
                for row in kept.keys() - rows.keys():
                    self._database.execute("DELETE FROM state WHERE name = ?", (json.dumps(row),))
                for row, value in rows.items():
                    if row not in kept or kept[row] != value:
                        statement = "REPLACE INTO state (body, kind, name) VALUES (?, ?, ?)"
                    elif row == named:  # it keeps its id, which says how old a version is
                        statement = "UPDATE state SET body = ? WHERE kind = ? AND name = ?"
                    else:
                        continue
                    self._database.execute(statement, (self._body(value), row[0], json.dumps(row)))
                self._kept[unit] = rows

    def _changed(self) -> dict[tuple[str, ...], dict[tuple[str, ...], Any]]:
        """What there is now of all that may have changed since the last call, in the form of ``_kept``.

        A row is named by its kind, its bucket or queue and its own name; a value that changed is not equal to the kept one.
        """
        others: dict[tuple[str, ...], Any] = {}
        found: dict[tuple[str, ...], dict[tuple[str, ...], Any]] = {(): others}
        for name, bucket in self._s3.buckets.items():
            bare: Any = copy.copy(bucket)
            bare.keys, bare.multiparts = None, None
            others["bucket", name] = pickle.dumps((bare, self._tags(bucket.arn)))
            assert isinstance(bucket.keys, KeyStore)
            for key in bucket.keys.changed:
                versions = bucket.keys.getlist(key, [])
                found[name, key] = {("version", name, key, str(version.version_id)): version for version in versions}
            bucket.keys.changed.clear()
        for name, queue in self._sqs.queues.items():
            attributes = {key: value for key, value in queue.attributes.items() if key in _QUEUE_ATTRIBUTES and value is not None}
            others["queue", name] = attributes
            if queue.redrive_policy:
                others["redrive", name] = json.dumps(queue.redrive_policy)
            # moto shows the visible messages only.
            others |= {("message", name, message.id): message for message in queue._messages}  # noqa: SLF001 - as the comment says
        return found

    def _body(self, value: Any) -> bytes:
        """What is written of a value of ``_state``."""
        if isinstance(value, bytes):
            return value
        if isinstance(value, s3.FakeDeleteMarker):
            marker: Any = copy.copy(value)
            marker.key = None  # the object before it, which has a row of its own
            value = marker, {}
        elif isinstance(value, s3.FakeKey):
            value = value, self._tags(value.arn)
        elif isinstance(value, sqs.Message):
            value = copy.copy(value)
            value.visible_at, value.receipt_handle = 0.0, None
            value._old_receipt_handles = []  # noqa: SLF001 - handles of an earlier run mean nothing to the next
        return pickle.dumps(value)

    def _tags(self, arn: str) -> dict[str, Any]:
        return {arn: self._s3.tagger.tags[arn]} if arn in self._s3.tagger.tags else {}


def _check_type(value: object, *types: type) -> None:
    if not isinstance(value, types):
        raise TypeError(f"it is a {type(value).__name__}")


def _check_private(path: Path) -> None:
    """Create the file if it does not exist. Refuse a file that another user may have written: a pickle in it can run any code.

    Raises:
        SystemExit: another user owns the file or may write it.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    for file in (path, path.with_name(f"{path.name}-wal")):
        if not file.exists():
            continue
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            repair = f"chown $(id -u) {file}; chmod 600 {file}"
            raise SystemExit(f"Another user may have written {file}, so it is not loaded. If it is yours: {repair}")
