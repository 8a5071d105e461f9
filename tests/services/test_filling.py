"""A further profile is filled in the background: all that is served, each text once, whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import wait_until
from tests.support import embedding_load as load
from tests.support.documents import TIDE, count, execute, put_and_tell, row_of, run_stages, status_of
from tests.support.models import begin, covered, made, remove, served, state_of
from tests.support.provider import Provider
from worker.domain.document import Status
from worker.services import fill_pages
from worker.services.backfilling import progress
from worker.services.embedding import embed_document
from worker.services.fill_reasons import Outcome
from worker.services.filling import Turn, fill
from worker.services.housekeeping import tidy
from worker.settings import Settings
from worker.store import fill_calls
from worker.store.driver import connect
from worker.store.profiles import Profile

ROOT = Path(__file__).parents[2]


@pytest.fixture
def other(settings: Settings) -> Iterator[Profile]:
    yield made(settings)
    remove(settings)


def wanted(settings: Settings) -> list[int]:
    with connect(settings.database_url, "test") as connection:
        return fill_calls.wanted(connection)


def spent(settings: Settings, profile: Profile) -> dict[str, int]:
    """Texts by purpose."""
    with psycopg.connect(settings.database_url) as connection:
        return dict(
            connection.execute(
                "SELECT purpose, sum(inputs)::int FROM spending WHERE profile_id = %s GROUP BY 1", (profile.id,)
            ).fetchall()
        )


def test_all_that_is_served_gets_vectors_and_each_text_is_asked_for_once(
    settings: Settings, provider: Provider, other: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill_pages, "_DOCUMENTS", 7)
    monkeypatch.setattr(fill_pages, "PAGE", 10)
    loaded = served(settings, load.make(30, lambda choose: [40] * choose.choice([1, 2, 35]), shared=0.2))
    provider.reset()
    begin(settings, other)
    assert fill(other.id, settings) == Turn(Outcome.WHOLE, len(loaded.texts), 0)
    assert covered(settings, other).lacking == 0
    assert sorted(text for request in provider.requests for text in request) == sorted(loaded.texts)
    assert spent(settings, other) == {"backfill": len(loaded.texts)}
    assert fill(other.id, settings) == Turn(Outcome.WHOLE, 0, 0)


def test_what_waits_to_be_served_is_not_filled(settings: Settings, other: Profile) -> None:
    load.insert(settings, [["A text that no search finds yet."]])
    begin(settings, other)
    assert fill(other.id, settings) == Turn(Outcome.WHOLE, 0, 0)
    assert count(settings, other.table) == 0


def test_one_that_nobody_wants_filled_is_left_alone(settings: Settings, other: Profile) -> None:
    served(settings, [[TIDE]])
    assert fill(other.id, settings) == Turn(Outcome.UNWANTED, 0, 0)
    assert fill(other.id + 1000, settings) == Turn(Outcome.UNWANTED, 0, 0)
    assert count(settings, other.table) == 0


def test_a_turn_that_is_over_goes_on_in_the_next_one(settings: Settings, provider: Provider, other: Profile) -> None:
    one_by_one = dataclasses.replace(settings, embedding_batch=1, embedding_in_flight=1)
    served(settings, load.make(20, [50]))
    provider.reset()
    provider.delay = 0.05
    begin(settings, other)
    turn = fill(other.id, one_by_one, seconds=0.3)
    assert turn is not None
    assert turn.outcome is Outcome.MORE
    assert 0 < turn.texts == count(settings, other.table) < 20
    assert fill(other.id, one_by_one) == Turn(Outcome.WHOLE, 20 - turn.texts, 0)
    assert sum(map(len, provider.requests)) == 20


_FILL = "from worker.services.filling import fill; from worker.settings import get_settings; fill({}, get_settings())"


def test_a_killed_filler_blocks_nobody_and_what_it_stored_is_not_asked_for_again(
    settings: Settings, provider: Provider, other: Profile
) -> None:
    loaded = served(settings, load.make(60, [50, 60]))
    begin(settings, other)
    provider.reset()
    provider.delay = 0.1
    process = subprocess.Popen(
        [sys.executable, "-c", _FILL.format(other.id)],
        cwd=ROOT,
        env={**os.environ, "LEX_INGEST_EMBEDDING_BATCH": "4", "LEX_INGEST_EMBEDDING_IN_FLIGHT": "2"},
    )
    try:
        wait_until(lambda: count(settings, other.table) >= 20, 20, "some vectors are stored")
        assert fill(other.id, settings) is None
        assert wanted(settings) == []
    finally:
        process.kill()
        process.wait()
    with psycopg.connect(settings.database_url) as connection:
        stored = {
            row[0]
            for row in connection.execute(
                f"SELECT text FROM document_chunks c JOIN {other.table} e USING (text_sha256)".encode()
            ).fetchall()
        }
    assert 20 <= len(stored) < len(loaded.texts)
    wait_until(lambda: wanted(settings) == [other.id], 5, "the lock is free")
    provider.requests.clear()
    provider.delay = 0.0
    turn = fill(other.id, settings)
    assert turn is not None
    assert turn.outcome is Outcome.WHOLE
    assert not stored & {text for request in provider.requests for text in request}
    assert covered(settings, other).lacking == 0


def test_a_filler_that_is_silent_is_ended_by_the_next_look(
    settings: Settings, other: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(settings, [[TIDE]])
    begin(settings, other)
    with connect(settings.database_url, "frozen") as frozen:
        frozen.autocommit = True
        assert fill_calls.hold(frozen, other.id)
        assert wanted(settings) == []
        monkeypatch.setattr(fill_calls, "_SILENT_AFTER", 0.0)
        wait_until(lambda: wanted(settings) == [other.id], 5, "its lock is free")
        with pytest.raises(psycopg.OperationalError):
            fill_calls.alive(frozen)


def test_nobody_is_called_while_nothing_is_new(settings: Settings, other: Profile) -> None:
    served(settings, [[TIDE]])
    assert wanted(settings) == []  # idle
    begin(settings, other)
    assert wanted(settings) == [other.id]
    fill(other.id, settings)
    assert state_of(settings, other).filled_at is not None
    # What is served just now is looked at again for a while: a transaction may still be open.
    assert wanted(settings) == [other.id]
    execute(settings, "UPDATE documents SET indexed_at = indexed_at - interval '1 minute'")
    assert wanted(settings) == []
    served(settings, [["Another text."]], prefix="new/")
    assert wanted(settings) == [other.id]


def test_a_document_whose_transaction_was_open_during_a_turn_is_found_by_the_next(settings: Settings, other: Profile) -> None:
    """It carries the time at which its transaction began, which is before what the turn has seen."""
    begin(settings, other)
    (late,) = load.insert(settings, [["A late text."]], prefix="late/").ids
    with psycopg.connect(settings.database_url) as slow:
        slow.execute("UPDATE documents SET indexed_at = now() WHERE id = %s", (late,))
        served(settings, [[TIDE]])
        time.sleep(0.1)
        fill(other.id, settings)
        began = slow.execute("SELECT now()").fetchone()
        assert began is not None
        until = state_of(settings, other).filled_until
        assert until is not None
        assert until <= began[0]


def test_the_look_reads_the_index_and_no_table(settings: Settings, other: Profile) -> None:
    begin(settings, other)
    with connect(settings.database_url, "test") as connection:
        connection.execute("SET enable_seqscan = off")
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {fill_calls._WANTED}".encode()).fetchall())
    assert "ix_documents_served_since" in plan
    assert "Sort Key: (COALESCE" not in plan


def test_new_documents_get_vectors_of_both_within_seconds(
    settings: Settings, other: Profile, worker: subprocess.Popen[bytes]
) -> None:
    begin(settings, other)
    put_and_tell(settings, "a.txt", TIDE)
    wait_until(lambda: status_of(settings, "a.txt").status is Status.INDEXED, 20, "the document is served")
    wait_until(lambda: covered(settings, other).with_vector == 1, 10, "and has a vector of the other model")
    assert count(settings, "embeddings_1") == 1


def test_a_run_s_budget_parks_the_filling_and_documents_go_on(settings: Settings, provider: Provider, other: Profile) -> None:
    small = dataclasses.replace(settings, embedding_batch=2, embedding_in_flight=3)
    loaded = served(settings, load.make(40, [400]))  # 100 tokens each
    begin(settings, other, "1000t")
    turn = fill(other.id, small)
    assert turn is not None
    assert turn.outcome is Outcome.RESTING
    # Below the budget another request goes out, and it has two texts.
    assert 10 <= turn.texts <= 12
    stands = state_of(settings, other)
    assert stands.code == "budget_run"
    assert "budget of this backfill, 1,000 tokens, is used up" in (stands.reason or "")
    assert wanted(settings) == []
    assert fill(other.id, small) == Turn(Outcome.RESTING, 0, 0)
    assert count(settings, "gates") == 0
    (identity,) = load.insert(settings, [["Another text."]], prefix="new/").ids
    assert embed_document(identity, settings) is not None
    begin(settings, other, "100000t")
    assert fill(other.id, small) == Turn(Outcome.WHOLE, len(loaded.texts) + 1 - turn.texts, 0)


def test_a_refused_text_stops_no_other_and_is_not_asked_for_again(settings: Settings, provider: Provider, other: Profile) -> None:
    served(settings, [["One text."], ["Something poisonous."], ["A third text."]])
    provider.behave(poison="poisonous")
    begin(settings, other)
    assert fill(other.id, settings) == Turn(Outcome.WHOLE, 2, 1)
    stands = covered(settings, other)
    assert (stands.with_vector, stands.refused, stands.lacking) == (2, 1, 0)
    requests = len(provider.requests)
    assert fill(other.id, settings) == Turn(Outcome.WHOLE, 0, 0)
    assert len(provider.requests) == requests
    assert status_of(settings, "load/000001.txt").status is Status.INDEXED
    provider.behave(poison="")
    begin(settings, other)
    assert fill(other.id, settings) == Turn(Outcome.WHOLE, 1, 0)
    assert covered(settings, other).refused == 0


def test_a_text_that_a_provider_fails_with_stops_no_other(settings: Settings, provider: Provider, other: Profile) -> None:
    served(settings, [["Something poisonous."], ["good one"], ["good two"]])
    begin(settings, other)
    provider.behave(habit="poison_nan", poison="poisonous")
    turn = fill(other.id, settings)
    assert turn is not None
    assert (turn.outcome, turn.texts, turn.refused) == (Outcome.WHOLE, 2, 1)


def test_a_blank_text_is_not_sent_and_stops_no_other(settings: Settings, provider: Provider, other: Profile) -> None:
    served(settings, [["good one"]])
    execute(settings, "UPDATE document_chunks SET text = E'\\u200B', text_sha256 = sha256('blank')")
    begin(settings, other)
    provider.requests.clear()
    turn = fill(other.id, settings)
    assert turn is not None
    assert (turn.outcome, turn.texts, provider.requests) == (Outcome.WHOLE, 0, [])


def test_a_refused_text_is_forgotten_with_its_document(settings: Settings, provider: Provider, other: Profile) -> None:
    served(settings, [["Something poisonous."]])
    provider.behave(poison="poisonous")
    begin(settings, other)
    fill(other.id, settings)
    assert count(settings, "refused_texts") == 1
    execute(settings, "DELETE FROM documents")
    with connect(settings.database_url, "test") as connection:
        tidy(connection, dataclasses.replace(settings, erase_after=0.0))
    assert count(settings, "refused_texts") == 0


def test_a_refused_key_makes_the_filling_rest_and_no_document(settings: Settings, provider: Provider, other: Profile) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    begin(settings, other)
    provider.failures.append((401, "invalid_api_key", {}))
    assert fill(other.id, settings) == Turn(Outcome.RESTING, 0, 0)
    stands = state_of(settings, other)
    assert stands.code == "provider_key"
    assert stands.rest_until is not None
    assert wanted(settings) == []
    assert count(settings, "gates") == 0
    assert (row_of(settings, document_id)["status"], row_of(settings, document_id)["attempts"]) == ("INDEXED", 0)
    execute(settings, "UPDATE embedding_fillings SET rest_until = now()")
    assert fill(other.id, settings) == Turn(Outcome.WHOLE, 1, 0)


@pytest.mark.parametrize(
    ("code", "rests"), [("throttled", True), ("budget_day", True), ("provider_model", False), ("provider_dimensions", False)]
)
def test_a_gate_that_is_closed_for_documents_holds_it_up_where_it_concerns_the_account(
    settings: Settings, other: Profile, code: str, rests: bool
) -> None:
    """A model that is gone is a reason to fill another one."""
    served(settings, [[TIDE]])
    begin(settings, other)
    execute(settings, "INSERT INTO gates VALUES ('embedding', now() + interval '1 minute', %s, 'why')", code)
    turn = fill(other.id, settings)
    assert turn is not None
    assert turn.outcome is (Outcome.RESTING if rests else Outcome.WHOLE)
    assert count(settings, other.table) == (0 if rests else 1)


def test_a_backfill_is_whole_though_documents_come_in_all_the_time(settings: Settings, other: Profile) -> None:
    served(settings, load.make(5, [60]))
    begin(settings, other)
    assert not progress(other, settings).whole
    fill(other.id, settings)
    served(settings, [["One that came a moment ago."]], prefix="new/")
    assert covered(settings, other).lacking == 1
    assert progress(other, settings).whole
