"""The switch to another embedding model, its rollback and a drop: queries never fail, and nothing that is served is lost."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.conftest import wait_until
from tests.support import embedding_load as load
from tests.support.documents import TIDE, count, execute, put_and_tell, run_stages, status_of
from tests.support.models import covered, filled, search_vectors, served, serving, state_of, without_provider
from tests.support.provider import Provider
from worker.domain.document import Status
from worker.domain.scope import Scope
from worker.services import backfilling, models, switching
from worker.services.embedding import embed_document
from worker.services.filling import fill
from worker.services.models import ModelError
from worker.services.search import search
from worker.services.settling import StageFailed
from worker.settings import Settings
from worker.store import vector_index
from worker.store.driver import VECTORS_LOCK
from worker.store.profiles import Profile
from worker.store.session import transaction


def test_a_document_that_is_embedded_while_the_switch_happens_ends_with_vectors_of_what_serves_then(
    settings: Settings, provider: Provider, other: Profile
) -> None:
    served(settings, [[TIDE]])
    filled(settings, other)
    (identity,) = load.insert(settings, [["A text that comes in meanwhile."]], prefix="new/").ids
    provider.requests.clear()
    provider.delay = 0.5
    thread = threading.Thread(target=embed_document, args=(identity, settings))
    thread.start()
    wait_until(lambda: count(settings, "embedding_requests") == 1, 5, "its text is on the way to the first model")
    switching.switch(other, settings)
    thread.join()
    assert status_of(settings, "new/000000.txt").status is Status.INDEXED
    assert len(provider.requests) == 2
    assert covered(settings, other).lacking == 0
    assert "new/000000.txt" in {hit.key for hit in search_vectors(settings, "A text that comes in meanwhile.")}


def test_a_document_whose_table_is_dropped_under_it_loses_no_attempt(
    settings: Settings, provider: Provider, other: Profile
) -> None:
    served(settings, [[TIDE]])
    filled(settings, other)
    switching.switch(other, settings)
    (identity,) = load.insert(settings, [["A text that comes in meanwhile."]], prefix="new/").ids
    provider.delay = 0.5
    failures: list[StageFailed] = []

    def run() -> None:
        try:
            embed_document(identity, settings)
        except StageFailed as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: count(settings, "embedding_requests") == 1, 5, "its text is on the way")
    switching.rollback(settings)
    models.drop(other, settings)
    thread.join()
    assert [failure.code for failure in failures] == ["profile_dropped"]
    row = status_of(settings, "new/000000.txt")
    assert (row.status, row.attempts) == (Status.EXTRACTED, 0)


def test_the_switch_fills_the_last_few_and_no_more(settings: Settings, other: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    served(settings, load.make(5, [60]))
    monkeypatch.setattr(switching, "FEW", 4)
    with pytest.raises(ModelError, match="5 of 5 chunks have no vector of test/other/128: `lex-ingest model backfill") as raised:
        switching.switch(other, settings)
    assert raised.value.code == "not_filled"
    assert serving(settings).id != other.id
    monkeypatch.setattr(switching, "FEW", 5)
    switching.switch(other, settings)
    assert serving(settings).id == other.id
    assert covered(settings, other).lacking == 0


def test_vectors_that_were_taken_away_are_found_missing(settings: Settings, other: Profile) -> None:
    loaded = served(settings, load.make(3, [60]))
    filled(settings, other)
    execute(settings, "UPDATE embedding_fillings SET filled_until = now()")
    execute(settings, f"DELETE FROM {other.table}")
    switching.switch(other, settings)
    assert count(settings, other.table) == len(loaded.texts)


def test_documents_that_come_in_all_the_time_don_t_keep_the_switch_from_happening(
    settings: Settings, provider: Provider, other: Profile
) -> None:
    served(settings, [[TIDE]])
    filled(settings, other)
    provider.delay = 0.05
    stop = threading.Event()
    ended: list[Any] = []

    def come_in() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (identity,) = load.insert(settings, [[f"Text number {number}."]], prefix=f"new/{number}/").ids
            ended.append(embed_document(identity, settings))

    threads = [threading.Thread(target=come_in)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(ended) > 3, 10, "documents come in")
        switching.switch(other, settings)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(result is not None for result in ended)
    assert covered(settings, other).lacking == 0
    assert covered(settings, other).chunks == len(ended) + 1


def test_the_switch_waits_for_who_relies_on_vectors_and_nobody_waits_for_it(
    settings: Settings, other: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(settings, [[TIDE]])
    filled(settings, other)
    monkeypatch.setattr(switching, "_PATIENCE", 0.5)
    # As the fence of whoever ends a document does.
    relies = select(func.pg_advisory_xact_lock_shared(VECTORS_LOCK))

    def refused() -> None:
        with pytest.raises(ModelError):
            switching.switch(other, settings)

    with transaction(settings.database_url) as relying:
        relying.execute(relies)
        thread = threading.Thread(target=refused)
        thread.start()
        time.sleep(0.1)
        begun = time.monotonic()
        with transaction(settings.database_url) as another:
            another.execute(relies)
        assert time.monotonic() - begun < 0.1
        thread.join()
        assert serving(settings).id != other.id
    switching.switch(other, settings)
    assert serving(settings).id == other.id


def test_a_rollback_needs_no_other_backfill(settings: Settings, provider: Provider, other: Profile) -> None:
    served(settings, [[TIDE]])
    first = serving(settings)
    filled(settings, other)
    switching.switch(other, settings)
    assert (serving(settings).id, state_of(settings, first).wanted) == (other.id, True)
    run_stages(settings, put_and_tell(settings, "new.txt", "A text of after the switch."))
    assert covered(settings, first).lacking == 1
    fill(first.id, settings)
    assert covered(settings, first).lacking == 0
    requests = len(provider.requests)
    assert switching.rollback(settings).before.id == other.id
    assert len(provider.requests) == requests
    assert "new.txt" in {hit.key for hit in search_vectors(settings, "A text of after the switch.")}
    assert switching.rollback(settings).serving.id == other.id  # and forth again


def test_refused_texts_want_to_be_known_of(settings: Settings, provider: Provider, other: Profile) -> None:
    served(settings, [["One text."], ["Something poisonous."]])
    provider.behave(poison="poisonous")
    filled(settings, other)
    with pytest.raises(ModelError, match=r"refuses 1 of the texts: .* `lex-ingest model switch test/other/128 --incomplete`"):
        switching.switch(other, settings)
    assert switching.switch(other, settings, incomplete=True).refused == 1
    hits = search("poisonous", Scope.of_buckets(settings.buckets), 3, settings, embed=without_provider)
    assert "Something poisonous." in {hit.text for hit in hits}


def test_without_the_index_that_its_size_wants_nothing_is_switched(
    settings: Settings, other: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(settings, load.make(10, [60]))
    filled(settings, other)
    monkeypatch.setattr(vector_index, "INDEX_FROM", 10)
    with pytest.raises(ModelError, match="has no index yet") as raised:
        switching.switch(other, settings)
    assert raised.value.code == "no_index"
    assert backfilling.build_index(other, settings)
    switching.switch(other, settings)
    assert serving(settings).id == other.id


def test_the_one_that_serves_is_not_dropped_nor_switched_to(settings: Settings) -> None:
    first = serving(settings)
    served(settings, [[TIDE]])
    with pytest.raises(ModelError, match="serves: `lex-ingest model switch` to another one first"):
        models.drop(first, settings)
    with pytest.raises(ModelError, match="serves already"):
        switching.switch(first, settings)
    assert count(settings, first.table) == 1


def test_a_table_that_somebody_works_with_is_dropped_later(
    settings: Settings, other: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_LOCK_TIMEOUT", "50ms")
    with transaction(settings.database_url) as reading:
        reading.exec_driver_sql(f"SELECT count(*) FROM {other.table}")
        with pytest.raises(ModelError, match="drop it later"):
            models.drop(other, settings)
    models.drop(other, settings)
    with pytest.raises(ModelError, match="there is no profile 'other'; there are: "):
        models.find("other", settings)
