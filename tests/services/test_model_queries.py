"""Queries while the embedding model changes: each is answered, whatever is switched or dropped under it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import embedding_load as load
from tests.support.documents import TIDE
from tests.support.models import filled, made, search_vectors, served, serving, without_provider
from worker.domain.scope import Scope
from worker.domain.vectors import Vectors
from worker.services import models, switching
from worker.services.search import Mode, search
from worker.settings import Settings
from worker.store.profiles import Profile


class Queries:
    """Threads that search all the time. ``failed`` are errors and empty answers."""

    def __init__(self, settings: Settings, query: str) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._settings, self._query = settings, query
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                hits = search_vectors(self._settings, self._query)
            except Exception as error:  # noqa: BLE001 - whatever it is, a query failed
                self.failed.append(repr(error))
            else:
                self.answered += 1
                if not hits:
                    self.failed.append("no hits")

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def test_queries_never_fail_during_switch_rollback_and_drop(settings: Settings, other: Profile) -> None:
    loaded = served(settings, load.make(20, [60, 60]))
    first = serving(settings)
    filled(settings, other)
    queries = Queries(settings, loaded.documents[0][0])
    with queries.running():
        for _ in range(5):
            assert switching.switch(other, settings).serving.name == other.name
            time.sleep(0.05)
            assert switching.rollback(settings).serving.name == first.name
            time.sleep(0.05)
        models.drop(other, settings)
        time.sleep(0.1)
    assert queries.failed == []
    assert queries.answered > 50
    assert serving(settings).id == first.id


def test_queries_never_fail_while_the_model_that_served_is_dropped(settings: Settings, other: Profile) -> None:
    """Again and again another one: each round asks of a profile that may be gone the next moment."""
    loaded = served(settings, load.make(10, [60]))
    first = serving(settings)
    queries = Queries(settings, loaded.documents[0][0])
    with queries.running():
        for _ in range(6):
            another = made(settings, dimensions=128)
            filled(settings, another)
            switching.switch(another, settings)
            time.sleep(0.05)
            switching.switch(first, settings)
            models.drop(another, settings)
    assert queries.failed == []
    assert queries.answered > 30


def test_a_search_whose_profile_is_dropped_under_it_asks_the_one_that_serves_now(settings: Settings, other: Profile) -> None:
    served(settings, [[TIDE]])
    first = serving(settings)
    filled(settings, other)
    switching.switch(other, settings)
    asked: list[int] = []

    def slow(query: str, profile: Profile, settings: Settings) -> Vectors:
        asked.append(profile.id)
        if profile.id == other.id:
            switching.rollback(settings)
            models.drop(other, settings)
        return without_provider(query, profile, settings)

    hits = search(TIDE, Scope.of_buckets(settings.buckets), 3, settings, mode=Mode.HYBRID, embed=slow)
    assert [hit.text for hit in hits] == [TIDE]
    assert asked == [other.id, first.id]
