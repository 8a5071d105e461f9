"""A worker that goes step by step, and may stop for good or for long after each: the store's functions on a model bucket.

The order of the calls is that of ``worker.services.extraction`` and ``worker.services.embedding``; S3, the parser and the
provider are left out, so that ten thousand histories take minutes. What moves rows is the product's own.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from sqlalchemy import Connection

from tests.support.actors import SOON, Actor, Maker, Wake, World
from tests.support.chaos import DAMAGED, ModelBucket, Version
from worker.contract import Stage
from worker.domain.document import Status
from worker.domain.errors import LeaseLost
from worker.store import chunks, leases, vectors
from worker.store.leases import Ended, Lease
from worker.store.profiles import Profile
from worker.store.session import engine

# A run is sent a connection for each of its steps, and gives the stage to wake next.
Run = Generator[None, Connection, Wake | None]

LEASE = SOON
RECIPE = "model"


def extraction(document_id: UUID, buckets: Mapping[str, ModelBucket], choose: random.Random) -> Run:
    """Claim, read the bucket, write down what was found."""
    connection = yield
    with connection.begin():
        lease = leases.claim(connection, document_id, Stage.EXTRACT, LEASE)
    if lease is None:
        return None
    connection = yield
    version = buckets[lease.bucket].get(lease.key)
    connection = yield
    try:
        if choose.random() < 0.07:
            with connection.begin():
                leases.hand_back(connection, lease, after=SOON, spend=False, error_code="s3_unavailable", error="model")
            return None
        ended = _delete(connection, lease) if version is None else _store(connection, lease, version)
    except LeaseLost:
        return _let_go(connection, lease)
    return _next(lease, ended)


def _delete(connection: Connection, lease: Lease) -> Ended:
    with connection.begin():
        leases.fence(connection, lease)
        chunks.withdraw(connection, lease.document_id)
        return leases.finish(connection, lease, Status.DELETED, SOON, hint_etag=None, error_code=None, error=None)


def _store(connection: Connection, lease: Lease, version: Version) -> Ended:
    body = version.body or b""
    digest = hashlib.sha256(body).digest()
    seen: dict[str, Any] = {"etag": version.etag, "version_id": version.id, "size": len(body)}
    served = None
    if lease.active_generation is not None:
        with connection.begin():
            served = chunks.served_digest(connection, lease.document_id, lease.active_generation)
    with connection.begin():
        leases.fence(connection, lease)
        chunks.replace_unserved(connection, lease.document_id, lease.active_generation)
        if served == (digest, RECIPE):
            return leases.finish(connection, lease, Status.INDEXED, SOON, error_code=None, error=None, **seen)
        if body.startswith(DAMAGED):
            return leases.finish(connection, lease, Status.FAILED, SOON, error_code="damaged", error="model", **seen)
        text = body.decode()
        chunks.write_generation(
            connection,
            {
                "document_id": lease.document_id,
                "generation": lease.generation,
                "etag": version.etag,
                "version_id": version.id,
                "sha256": digest,
                "recipe": RECIPE,
                "media_type": "text/plain",
                "extractor": "model",
                "warnings": [],
                "sections": [],
                "text": text,
                "text_length": len(text),
                "chunk_count": 1,
            },
            [(None, None, 0, len(text))],
            "",
        )
        return leases.hand_on(connection, lease, SOON, **seen)


def embedding(document_id: UUID, profile: Profile) -> Run:
    """Claim, store a vector for each chunk, serve."""
    connection = yield
    with connection.begin():
        lease = leases.claim(connection, document_id, Stage.EMBED, LEASE)
    if lease is None:
        return None
    connection = yield
    try:
        with connection.begin():
            leases.fence(connection, lease)
            waiting = vectors.missing(connection, profile, lease.document_id, lease.generation, -1, 1000).texts
            ones = np.ones((len(waiting), profile.dimensions), dtype=np.float32)
            vectors.write(connection, profile, [item.digest for item in waiting], ones)
        connection = yield
        with connection.begin():
            leases.fence(connection, lease, relying=True)
            if not vectors.whole(connection, profile, lease.document_id, lease.generation):
                raise AssertionError("every chunk was given a vector")
            served = {"active_generation": lease.generation, "attempts": 0, "error_code": None, "error": None}
            ended = leases.finish(connection, lease, Status.INDEXED, SOON, indexed=True, **served)
            if lease.active_generation is not None:
                chunks.replace_unserved(connection, lease.document_id, lease.generation)
    except LeaseLost:
        return _let_go(connection, lease)
    return _next(lease, ended)


def _next(lease: Lease, ended: Ended) -> Wake | None:
    if ended.wake_generation is None:
        return None
    return lease.document_id, Stage.EMBED if ended.status is Status.EXTRACTED else Stage.EXTRACT


def _let_go(connection: Connection, lease: Lease) -> None:
    """As ``worker.services.holding`` does: a document whose removal was announced is handed back at once."""
    try:
        with connection.begin():
            leases.hand_back(connection, lease, after=0, spend=False, error_code=None, error=None)
    except LeaseLost:
        return


@dataclass
class ModelActor(Actor):
    """Works on any of the runs that stand still, one step at a time: between two steps anything may happen."""

    connection: Connection
    buckets: Mapping[str, ModelBucket]
    profile: Profile

    def work(self, lost: float = 0.05) -> bool:
        world, choose = self.world, self.choose
        wake = world.pop(world.wakes, choose) if choose.random() < 0.5 or not world.runs else None
        run = self._begin(*wake) if wake else world.pop(world.runs, choose)
        if run is None:
            return bool(world.wakes)
        if choose.random() < lost:
            world.counts["messages lost" if wake else "crashes"] += 1
            return True
        try:
            run.send(self.connection)
            world.runs.append(run)
        except StopIteration as ended:
            world.counts["runs"] += 1
            if ended.value is not None:
                world.wakes.append(ended.value)
        return True

    def _begin(self, document_id: UUID, stage: Stage) -> Run:
        embeds = stage is Stage.EMBED
        run = embedding(document_id, self.profile) if embeds else extraction(document_id, self.buckets, self.choose)
        next(run)
        return run


@contextmanager
def model_actors(database_url: str, buckets: Mapping[str, ModelBucket], profile: Profile) -> Iterator[Maker]:
    """Gives the function that makes the actors; each thread keeps its connection for all of them."""
    kept: dict[psycopg.Connection[Any], Connection] = {}

    def make(world: World, choose: random.Random, rows: psycopg.Connection[Any]) -> ModelActor:
        if rows not in kept:
            kept[rows] = engine(database_url).connect()
            kept[rows].exec_driver_sql("SET synchronous_commit = off")  # nobody pulls the plug here
            kept[rows].commit()
        return ModelActor(world, choose, rows, kept[rows], buckets, profile)

    try:
        yield make
    finally:
        for connection in kept.values():
            connection.exec_driver_sql("RESET synchronous_commit")
            connection.commit()
            connection.close()
