"""The embedding stage: documents of a process share requests, share no trouble, and pay for what was sent and no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from tests.support import embedding_load as load
from tests.support.documents import TIDE, count, execute, put_and_tell, row_of, run_stages
from tests.support.provider import Provider
from worker.services import embedding, requesting
from worker.services.embedding import embed_document
from worker.services.extraction import extract_document
from worker.services.settling import StageFailed
from worker.settings import Settings


def billed(provider: Provider) -> tuple[int, int]:
    """Requests and tokens."""
    counted = provider.stats()["billed"]
    return counted["requests"], counted["tokens"]


def ledger(settings: Settings) -> tuple[int, int, int]:
    """Requests and tokens that are confirmed, and requests that are not."""
    with psycopg.connect(settings.database_url) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(requests), 0)::int, coalesce(sum(tokens), 0)::int, (SELECT count(*) FROM embedding_requests)"
            " FROM spending_days"
        ).fetchone()
    assert row is not None
    return row


def embed_all(settings: Settings, loaded: load.Load) -> list[object]:
    """Every document of the load at the same time, as in a pool of threads: what each run gave, or raised."""

    def run(identity: object) -> object:
        try:
            return embed_document(identity, settings)  # type: ignore[arg-type]  # a UUID
        except StageFailed as failure:
            return failure.code

    with ThreadPoolExecutor(len(loaded.ids)) as pool:
        return list(pool.map(run, loaded.ids))


def test_documents_that_are_embedded_at_the_same_time_share_requests(settings: Settings, provider: Provider) -> None:
    provider.delay = 0.2
    loaded = load.insert(settings, load.make(20, [60, 60], shared=0.2))
    embed_all(replace(settings, embedding_in_flight=2), loaded)
    outcome = load.outcome(settings)
    assert (outcome.statuses, outcome.incomplete) == ({"INDEXED": 20}, 0)
    assert billed(provider)[0] <= 10
    assert load.repeated(settings, provider.core.counts.texts_as_json()) == {}
    assert ledger(settings) == (*billed(provider), 0)


def test_a_text_that_is_refused_fails_its_own_document_only(settings: Settings, provider: Provider) -> None:
    provider.behave(poison="poison")
    documents = load.make(9, [60, 60])
    documents.insert(4, [documents[0][0], "a poison text of its own"])
    loaded = load.insert(settings, documents)
    embed_all(settings, loaded)
    assert load.outcome(settings).statuses == {"INDEXED": 9, "FAILED": 1}
    assert row_of(settings, loaded.ids[4])["error_code"] == "embedding_rejected"
    # What was refused is not billed; what stood beside it was paid for once.
    assert ledger(settings) == (*billed(provider), 0)
    assert provider.stats()["billed"]["inputs"] == len(loaded.texts) - 1


def test_a_document_whose_turn_is_over_keeps_what_it_has_and_spends_no_attempt(
    settings: Settings, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.delay = 0.3
    monkeypatch.setattr(embedding, "LONGEST_TURN", 0.5)
    small = replace(settings, embedding_batch=4, embedding_in_flight=1)
    loaded = load.insert(small, load.make(1, [40] * 40))
    with pytest.raises(StageFailed) as caught:
        embed_document(loaded.ids[0], small)
    assert caught.value.code == "turn_over"
    row = row_of(settings, loaded.ids[0])
    assert (row["status"], row["attempts"], row["lease_token"]) == ("EXTRACTED", 0, None)
    monkeypatch.undo()
    provider.delay = 0.0
    execute(settings, "UPDATE documents SET due_at = now()")
    assert embed_document(loaded.ids[0], small) is not None
    assert load.repeated(settings, provider.core.counts.texts_as_json()) == {}


def test_what_is_paid_for_waits_for_a_database_that_starts_again(
    settings: Settings, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    write: Callable[..., int] = requesting.vectors.write
    failures = [psycopg.errors.AdminShutdown("terminating connection"), psycopg.errors.CannotConnectNow("starting up")]

    def away_at_first(*arguments: object) -> int:
        if failures:
            raise OperationalError("COPY", {}, failures.pop())
        return write(*arguments)

    monkeypatch.setattr(requesting.vectors, "write", away_at_first)
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    assert (row_of(settings, document_id)["status"], failures) == ("INDEXED", [])
    assert billed(provider)[0] == 1
    assert ledger(settings) == (*billed(provider), 0)


def test_an_answer_that_is_lost_stays_on_the_ledger_as_unconfirmed(settings: Settings, provider: Provider) -> None:
    provider.behave(script=["lost", "none"])
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    assert embed_document(document_id, settings) is not None
    requests, confirmed, unconfirmed = ledger(settings)
    counted = provider.stats()
    assert (requests, confirmed, unconfirmed) == (1, counted["answered"]["tokens"], 1)
    bound = count(settings, "generate_series(1, (SELECT sum(most_tokens) FROM embedding_requests)::int)")
    assert confirmed < counted["billed"]["tokens"] <= confirmed + bound


BLANK = ("\u200b\u200d", " \n\t", "\ufe0f\u2060")


def test_a_chunk_without_a_visible_character_is_not_sent_and_holds_up_nothing(settings: Settings, provider: Provider) -> None:
    texts = load.make(1, [60] * 600)[0]
    loaded = load.insert(settings, [[texts[0], *BLANK, *texts[1:], BLANK[0]]])
    assert embed_document(loaded.ids[0], settings) is not None
    sent = {text for request in provider.requests for text in request}
    assert sent == set(texts)
    assert row_of(settings, loaded.ids[0])["status"] == "INDEXED"
    with psycopg.connect(settings.database_url) as rows:
        assert rows.execute("SELECT chunk_count, (SELECT count(*) FROM document_chunks) FROM generations").fetchone() == (
            600,
            600,
        )


def test_a_document_of_blank_chunks_only_ends_with_a_reason(settings: Settings, provider: Provider) -> None:
    loaded = load.insert(settings, [list(BLANK)])
    with pytest.raises(StageFailed):
        embed_document(loaded.ids[0], settings)
    row = row_of(settings, loaded.ids[0])
    assert (row["status"], row["error_code"], provider.requests) == ("FAILED", "empty", [])


def test_embedding_goes_on_without_redis(settings: Settings, provider: Provider) -> None:
    alone = replace(settings, redis_url="redis://127.0.0.1:1/0", requests_per_minute=6000)
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    begun = time.monotonic()
    assert embed_document(document_id, alone) is not None
    assert time.monotonic() - begun < 10
    assert billed(provider)[0] == 1
