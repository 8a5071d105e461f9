"""A share of the histories, in a process and a database of its own: two of them use two processors."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from handlers import s3_events
from tests.support import truth
from tests.support.actors import HandlerConnections, World, crew
from tests.support.chaos import DAMAGED, Bucket, History, ModelBucket
from tests.support.model_worker import model_actors
from worker import producer, telemetry
from worker.services import intake
from worker.services.migration import migrate
from worker.settings import Settings
from worker.store import profiles
from worker.store.session import engine, transaction


@dataclass(frozen=True)
class Shard:
    """``first`` numbers its first key."""

    settings: Settings
    seed: float
    first: int
    total: int


@contextmanager
def database(settings: Settings, name: str) -> Iterator[Settings]:
    """A migrated database of its own on the same server."""
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())  # tests/conftest.py lets the role do so
    try:
        made = replace(settings, database_url=urlsplit(settings.database_url)._replace(path=f"/{name}").geturl())
        migrate(made)
        engine(made.database_url).dispose()
        yield made
    finally:
        with psycopg.connect(settings.database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def handler_of(settings: Settings) -> Iterator[pytest.MonkeyPatch]:
    """Lets four threads of this process be four Lambda environments with these settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_events, "get_settings", lambda: settings)
        patch.setattr(s3_events, "_count", lambda *_: None)  # a process has one set of metrics
        patch.setattr(intake, "_connections", HandlerConnections())
        yield patch
    telemetry.configure("INFO")


def worlds(buckets: Mapping[str, Bucket], first: int, total: int, together: int, choose: random.Random) -> Iterator[World]:
    """The histories, a few at a time: so few that events and workers often meet at one key."""
    for start in range(first, first + total, together):
        keys = [f"chaos/{number:05} + 100%/é.txt" for number in range(start, min(start + together, first + total))]
        yield World([History.random(buckets[choose.choice(sorted(buckets))], key, choose, damaged=0.1) for key in keys])


def counted(world: World) -> Counter[str]:
    return world.counts + Counter({"events": world.mail.delivered, "events lost": world.mail.lost})


def violations(settings: Settings, current: Mapping[str, Mapping[str, bytes]]) -> list[str]:
    """All that is wrong in the end with the index of these buckets: name -> key -> bytes."""
    found = []
    for name, bodies in current.items():
        bad = {key for key, body in bodies.items() if body.startswith(DAMAGED)}
        found += [f"bucket {name}: {one}" for one in truth.violations(settings.database_url, name, bad=bad)]
    return found


def play(shard: Shard) -> tuple[Counter[str], list[str]]:
    """Play the histories; gives what was counted, and the violations."""
    choose = random.Random(shard.seed)
    buckets = {name: ModelBucket(name, versioned) for name, versioned in (("plain", False), ("versions", True))}
    with transaction(shard.settings.database_url) as connection:
        profile = profiles.ensure(connection, "chaos", "model", 2, "halfvec")
        profiles.serve(connection, profile)
    # Nobody pulls the plug here: a commit need not wait for the disk.
    fast_url = make_conninfo(shard.settings.database_url, options="-c synchronous_commit=off")
    settings = replace(shard.settings, database_url=fast_url, buckets=tuple(buckets), log_level="CRITICAL")
    counts: Counter[str] = Counter()
    found: list[str] = []
    with (
        handler_of(settings) as patch,
        crew(fast_url, choose) as threads,
        model_actors(shard.settings.database_url, buckets, profile) as make,
    ):
        for world in worlds(buckets, shard.first, shard.total, 50, choose):
            patch.setattr(producer, "send", world.send)
            found += threads.play(world, make)
            counts += counted(world)
        current = {name: bucket.current() for name, bucket in buckets.items()}
        patch.setattr(truth, "bucket_bodies", current.__getitem__)
        found += violations(shard.settings, current)
    engine(shard.settings.database_url).dispose()
    return counts, found
