"""Providers that are slow, refuse, or speak another dialect: how documents end, through the real stage and real HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import psycopg
import pytest

from tests.support import embedding_load as load
from tests.support.documents import count, execute, row_of
from tests.support.provider import Provider
from worker.domain.retrying import MAX_ATTEMPTS
from worker.services import asking
from worker.services.embedding import embed_document
from worker.services.settling import StageFailed
from worker.settings import Settings
from worker.store import gates
from worker.store.session import transaction

POISON = "\u2620poison"
# More characters than a model of 512 tokens takes here (tests/support/provider_habits.py).
LENGTH, CHUNKS = 1800, 40


@pytest.fixture
def fresh() -> Iterator[Provider]:
    """A provider of its own address: what a process learns of one, it keeps."""
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture
def talking(settings: Settings, fresh: Provider, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with that provider."""
    monkeypatch.setattr(asking, "_PAUSE", 0.01)
    return replace(settings, openai_base_url=fresh.base_url)


def documents(chunks: int = CHUNKS, length: int = LENGTH) -> list[list[str]]:
    """A document of so many chunks, and a note of one."""
    return [*load.make(1, [length] * chunks), *load.make(1, [60], seed=2)]


def run(settings: Settings, ids: list[UUID], attempts: int = MAX_ATTEMPTS) -> list[tuple[str, str | None]]:
    """Embed the documents at the same time, again while they wait for another attempt. Returns each one's (status, code)."""

    def attempt(identity: UUID) -> None:
        for _ in range(attempts):
            try:
                if embed_document(identity, settings) is not None:
                    return
            except StageFailed as failure:
                if failure.retry_in is None:
                    return
            execute(settings, "UPDATE documents SET due_at = now() WHERE id = %s", identity)

    with ThreadPoolExecutor(len(ids)) as pool:
        list(pool.map(attempt, ids))
    return [state(settings, identity) for identity in ids]


def state(settings: Settings, identity: UUID) -> tuple[str, str | None]:
    row = row_of(settings, identity)
    return row["status"], row["error_code"]


INDEXED = [("INDEXED", None), ("INDEXED", None)]


@pytest.mark.parametrize(
    "habit",
    [
        *("nobase64", "nobase64_422", "nobase64_silent", "noindex", "floats", "nousage", "tiny"),
        *("ctx_openai", "ctx_vllm", "ctx_ollama", "ctx_ollama500", "ctx_llamacpp", "ctx_tei"),
        *("batch10", "tei32", "tei422", "mistral", "tokens_per_request", "voyage_tokens", "nginx413"),
    ],
)
def test_a_dialect_that_can_be_spoken_ends_indexed(talking: Settings, fresh: Provider, habit: str) -> None:
    fresh.behave(habit=habit)
    loaded = load.insert(talking, documents())
    assert run(talking, loaded.ids) == INDEXED
    assert [row_of(talking, identity)["attempts"] for identity in loaded.ids] == [0, 0]
    assert load.outcome(talking).incomplete == 0
    if not habit.startswith("ctx"):
        # Nothing is paid for twice, and each text has its own vector.
        assert fresh.stats()["billed"]["inputs"] == len(loaded.texts)
        assert load.strangers(talking) == []


@pytest.mark.parametrize("habit", ["nobase64", "batch10", "tokens_per_request", "ctx_vllm", "ctx_llamacpp"])
def test_what_a_provider_takes_is_found_out_once(talking: Settings, fresh: Provider, habit: str) -> None:
    fresh.behave(habit=habit)
    run(talking, load.insert(talking, documents(chunks=120), prefix="first/").ids)
    before = fresh.stats()["statuses"]
    more = load.insert(talking, load.make(2, [LENGTH] * 30, seed=3), prefix="second/")
    assert run(talking, more.ids) == INDEXED
    after = fresh.stats()["statuses"]
    refused = {status: after[status] - before.get(status, 0) for status in after if status != "200"}
    assert sum(refused.values()) == 0, refused


@pytest.mark.parametrize("habit", ["fewer", "null", "nan", "zero", "huge", "index0"])
def test_vectors_that_cannot_be_used_end_with_a_reason_after_few_requests(talking: Settings, fresh: Provider, habit: str) -> None:
    fresh.behave(habit=habit)
    loaded = load.insert(talking, documents())
    long, note = run(talking, loaded.ids)
    assert long == ("FAILED", "embedding_unusable")
    # The index of the only vector of an answer is 0; and of a request's vectors, only the first one is null.
    assert note == ("FAILED", "embedding_unusable") or habit in ("index0", "null")
    reason = row_of(talking, loaded.ids[0])["error"]
    words = {"huge": "65504", "zero": "zero", "nan": "NaN", "null": "null", "fewer": "vectors for", "index0": "indexes"}
    assert words[habit] in reason
    billed = fresh.stats()["billed"]
    assert billed["requests"] <= 2 * 8 * MAX_ATTEMPTS
    assert max(fresh.core.counts.texts.values()) <= 10 * MAX_ATTEMPTS
    with psycopg.connect(talking.database_url) as rows:
        (unusable,) = rows.execute(
            f"SELECT count(*) FROM {load._table(talking)} WHERE NOT embedding <=> embedding < 0.01".encode()
        ).fetchone() or (None,)
    assert unusable == 0


@pytest.mark.parametrize(
    ("habit", "code", "words"),
    [
        ("dims", "provider_dimensions", ("385", "384")),
        ("html200", "provider_answer", ("web page", "OPENAI_BASE_URL")),
        ("text200", "provider_answer", ("OPENAI_BASE_URL",)),
        ("401", "provider_key", ("OPENAI_API_KEY",)),
        ("gemini_key", "provider_key", ("OPENAI_API_KEY",)),
        ("403html", "provider_key", ("web page", "403")),
        ("azure404", "provider_model", ("LEX_INGEST_EMBEDDING_MODEL",)),
        ("402", "provider_quota", ("402", "billing")),
    ],
)
def test_what_a_person_must_mend_closes_the_gate_and_opens_it_afterwards(
    talking: Settings, fresh: Provider, habit: str, code: str, words: tuple[str, ...]
) -> None:
    fresh.behave(habit=habit)
    loaded = load.insert(talking, documents())
    assert run(talking, loaded.ids, attempts=1) == [("EXTRACTED", code)] * 2
    with transaction(talking.database_url) as connection:
        (gate,) = gates.closed(connection)
    assert gate.code == code
    assert all(word in gate.reason for word in words), gate.reason
    assert [row_of(talking, identity)["attempts"] for identity in loaded.ids] == [0, 0]
    fresh.behave(habit=None)
    # As if the gate's time were over.
    execute(talking, "DELETE FROM gates")
    execute(talking, "UPDATE documents SET due_at = now()")
    assert run(talking, loaded.ids) == INDEXED


def test_no_usage_leaves_an_estimate_on_the_ledger(talking: Settings, fresh: Provider) -> None:
    fresh.behave(habit="nousage")
    loaded = load.insert(talking, documents())
    assert run(talking, loaded.ids) == INDEXED
    assert count(talking, "embedding_requests") == fresh.stats()["billed"]["requests"]


@pytest.mark.parametrize(
    ("habit", "code"),
    [
        ("poison_500", "embedding_failed"),
        ("poison_drop", "embedding_unusable"),
        ("poison_nan", "embedding_unusable"),
        ("poison_hang", "embedding_timeout"),
    ],
)
def test_what_one_text_causes_fails_its_own_document_only(talking: Settings, fresh: Provider, habit: str, code: str) -> None:
    fresh.behave(habit=habit)
    patient = replace(talking, embedding_timeout=1.0) if habit == "poison_hang" else talking
    texts = load.make(8, [300, 300])
    texts.insert(3, [f"{POISON} and what follows it"])
    loaded = load.insert(patient, texts)
    ends = run(patient, loaded.ids)
    assert ends[3] == ("FAILED", code)
    assert [end for number, end in enumerate(ends) if number != 3] == [("INDEXED", None)] * 8
    assert [row_of(patient, identity)["attempts"] for identity in loaded.ids] == [0, 0, 0, MAX_ATTEMPTS, 0, 0, 0, 0, 0]


def test_a_text_that_fails_while_nothing_else_is_embedded_ends_too(talking: Settings, fresh: Provider) -> None:
    fresh.behave(habit="poison_500")
    loaded = load.insert(talking, [[f"{POISON} alone"]])
    assert run(talking, loaded.ids) == [("FAILED", "embedding_failed")]
    assert fresh.stats()["paths"]["POST /v1/embeddings"] <= 10 * MAX_ATTEMPTS


def test_an_outage_costs_no_attempt_however_many_texts_meet_it(talking: Settings, fresh: Provider) -> None:
    fresh.behave(chances={"error": 1})
    loaded = load.insert(talking, documents())
    assert run(talking, loaded.ids, attempts=5) == [("EXTRACTED", "provider_unavailable")] * 2
    assert [row_of(talking, identity)["attempts"] for identity in loaded.ids] == [0, 0]
    fresh.behave(chances={})
    assert run(talking, loaded.ids) == INDEXED


def test_a_provider_that_never_answers_costs_no_attempt(talking: Settings, fresh: Provider) -> None:
    fresh.behave(latency=3600)
    hurried = replace(talking, embedding_timeout=0.3)
    loaded = load.insert(hurried, documents(chunks=3))
    assert run(hurried, loaded.ids, attempts=2) == [("EXTRACTED", "provider_unavailable")] * 2
    assert [row_of(hurried, identity)["attempts"] for identity in loaded.ids] == [0, 0]
    fresh.behave(latency=0)
    assert run(replace(hurried, embedding_timeout=30.0), loaded.ids) == INDEXED


def test_a_slow_provider_embeds_all_and_a_late_note_is_not_starved(talking: Settings, fresh: Provider) -> None:
    # A tenth of the time that a processor with 0.5 s per text takes, and of the time-out beside it.
    slow = replace(talking, embedding_timeout=2.0)
    fresh.behave(serial_latency=0.1)
    long = load.insert(slow, load.make(1, [LENGTH] * 60), prefix="long/")
    with ThreadPoolExecutor(2) as pool:
        begun = time.monotonic()
        first = pool.submit(run, slow, long.ids, 10)
        while count(slow, load._table(slow)) < 10:
            time.sleep(0.05)
        late = load.insert(slow, load.make(1, [60], seed=2), prefix="late/")
        assert pool.submit(run, slow, late.ids, 10).result() == [("INDEXED", None)]
        with psycopg.connect(slow.database_url) as rows:
            (vectors,) = rows.execute(f"SELECT count(*) FROM {load._table(slow)}".encode()).fetchone() or (0,)
        assert vectors < 61, "the note came before the document's end"
        assert first.result() == [("INDEXED", None)]
    assert row_of(slow, long.ids[0])["attempts"] == 0
    assert time.monotonic() - begun < 120


def test_a_request_that_timed_out_comes_back_smaller(talking: Settings, fresh: Provider) -> None:
    # The first request would take 16 s alone; a text takes the half of what is allowed.
    slow = replace(talking, embedding_timeout=1.0, embedding_in_flight=1)
    fresh.behave(latency_per_input=0.5)
    loaded = load.insert(slow, load.make(1, [60] * 6))
    assert run(slow, loaded.ids, attempts=6) == [("INDEXED", None)]
    sizes = [len(texts) for texts in fresh.requests]
    assert sizes[0] == 6
    assert sizes[-1] == 1
    assert row_of(slow, loaded.ids[0])["attempts"] == 0
