"""Documents that are put before the embedding stage in bulk are like those that extraction leaves there."""

from __future__ import annotations

import random

import psycopg
import pytest

from tests.support import embedding_load as load
from tests.support.documents import find, put_and_tell, row_of
from tests.support.provider import Provider
from worker.services.embedding import embed_document
from worker.services.extraction import extract_document
from worker.services.settling import StageFailed
from worker.settings import Settings


def test_a_load_is_embedded_by_the_stage_as_it_is(settings: Settings, provider: Provider) -> None:
    loaded = load.insert(settings, load.make(12, [300, 80, 80], shared=0.3))
    before = load.outcome(settings)
    assert (before.statuses, before.chunks, before.vectors, before.finished) == ({"EXTRACTED": 12}, 36, 0, False)
    for identity in loaded.ids:
        assert embed_document(identity, settings) is not None
    after = load.outcome(settings)
    assert (after.statuses, after.served, after.vectors, after.incomplete) == ({"INDEXED": 12}, 12, 36, 0)
    assert (after.attempts, after.lease_losses, after.errors, after.finished) == (0, 0, {}, True)
    assert load.strangers(settings) == []
    assert load.repeated(settings, provider.core.counts.texts_as_json()) == {}
    stats = provider.stats()
    assert stats["billed"]["inputs"] == len(loaded.texts) < loaded.chunks
    assert stats["billed"]["tokens"] == loaded.tokens
    assert find(settings, loaded.documents[3][0])[0].key == "load/000003.txt"


def test_it_looks_like_what_extraction_leaves(settings: Settings) -> None:
    extracted = put_and_tell(settings, "a.txt", "A text.")
    extract_document(extracted, settings)
    (loaded,) = load.insert(settings, [["A text."]]).ids
    real, made = row_of(settings, extracted), row_of(settings, loaded)
    same = ("status", "generation", "desired_generation", "active_generation", "lease_token", "attempts", "size",
            "error_code", "force", "hint_removed")  # fmt: skip
    assert {name: made[name] for name in same} == {name: real[name] for name in same}
    with psycopg.connect(settings.database_url) as rows:
        texts = rows.execute("SELECT text, text_sha256, ordinal, char_start, char_end FROM document_chunks").fetchall()
    assert texts[0] == texts[1]


def test_failures_are_told_apart(settings: Settings, provider: Provider) -> None:
    loaded = load.insert(settings, load.make(3, [50]))
    provider.behave(poison=loaded.documents[0][0])
    with pytest.raises(StageFailed):
        embed_document(loaded.ids[0], settings)
    assert embed_document(loaded.ids[1], settings) is not None
    result = load.outcome(settings)
    assert result.statuses == {"FAILED": 1, "INDEXED": 1, "EXTRACTED": 1}
    assert result.errors == {"embedding_rejected": 1}


def test_a_vector_of_another_text_is_found(settings: Settings) -> None:
    loaded = load.insert(settings, load.make(1, [40, 41]))
    embed_document(loaded.ids[0], settings)
    with psycopg.connect(settings.database_url) as rows:
        table = load._table(settings)
        rows.execute(f"UPDATE {table} SET embedding = (SELECT embedding FROM {table} ORDER BY text_sha256 LIMIT 1)".encode())
    assert len(load.strangers(settings)) == 1


def test_a_load_that_somebody_queues_is_left_alone_by_the_dispatcher(settings: Settings) -> None:
    (identity,) = load.insert(settings, load.make(1, [40]), queued=True).ids
    row = row_of(settings, identity)
    assert row["queued"]
    assert (row["due_at"] - row["updated_at"]).total_seconds() > 3000
    assert embed_document(identity, settings) is not None


def test_many_documents_are_put_there_at_once(settings: Settings) -> None:
    documents = load.make(450, lambda choose: [choose.randint(100, 800) for _ in range(choose.randint(1, 4))], shared=0.1)
    loaded = load.insert(settings, documents)
    assert load.outcome(settings).chunks == loaded.chunks


def test_made_texts_have_their_length_and_depend_on_the_seed_alone() -> None:
    assert load.make(3, [100, 5], seed=4, shared=0.5) == load.make(3, [100, 5], seed=4, shared=0.5)
    assert load.make(3, [100]) != load.make(3, [100], seed=2)
    for length in (1, 2, 17, 4000):
        text = load.seeded_text(random.Random(length), length)
        assert len(text) == length
        assert text == text.strip()
