"""Search over real PostgreSQL: what is found, in which order, and what a caller must never see."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from sqlalchemy import text

from tests.support.documents import execute
from tests.support.provider import Provider, vector_of
from tests.support.served import analyze, serve
from worker.domain import bm25, fusion
from worker.domain.filters import NOTHING, Filters
from worker.domain.scope import Scope
from worker.domain.vectors import Vectors
from worker.services import asking
from worker.services.search import QUERY_LENGTH, Hit, Mode, QueryNotEmbedded, SearchError, search
from worker.settings import Settings
from worker.store import full_text, nearest
from worker.store.session import transaction

EVERYTHING = Scope.of_buckets(("documents",))
FISH = "Salmon spawn above the weir since it was opened."
PUMP = "When the display shows ERR-4711 the pump has lost its prime."
FUSE = "The display shows ERR-4712 after a blown fuse; the pump then starts."


@pytest.fixture(autouse=True)
def small(settings: Settings) -> None:
    """How many chunks there are is measured by the size of their table, which an earlier test may have left large."""
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) document_chunks")


def keys(
    settings: Settings,
    query: str,
    mode: Mode = Mode.HYBRID,
    filters: Filters = NOTHING,
    scope: Scope = EVERYTHING,
    limit: int = 10,
) -> list[str]:
    return [hit.key for hit in search(query, scope, limit, settings, mode=mode, filters=filters)]


def test_words_are_found_in_other_forms_and_without_their_accents(settings: Settings) -> None:
    serve(settings, "fish", FISH)
    serve(settings, "harbour", "Die Strömung in der Einfahrt ist stark.")
    assert keys(settings, "spawning SALMON", Mode.TEXT) == ["fish"]
    assert keys(settings, "stromung", Mode.TEXT) == ["harbour"]
    assert keys(settings, "Stro\u0308mung", Mode.TEXT) == ["harbour"]


@pytest.mark.parametrize(
    ("body", "query"),
    [
        ("Die Kündigungsfrist beträgt drei Monate.", "Kündigungsfrist"),
        ("La médiathèque ouvre à dix heures.", "mediatheque"),
        ("Библиотека закрыта в понедельник.", "библиотека"),
        ("図書館は月曜日が休みです。", "図書館"),
        ("도서관은 월요일에 쉽니다.", "월요일에"),
        ("read/write heads of the disk", "write"),
        ("the option hnsw.ef_search", "ef_search"),
        ("see https://example.com/a/manual.pdf", "manual"),
    ],
)
def test_a_word_of_any_language_or_notation_is_found_as_it_stands(settings: Settings, body: str, query: str) -> None:
    serve(settings, "it", body)
    serve(settings, "other", FISH)
    assert keys(settings, query, Mode.TEXT) == ["it"]


@pytest.mark.parametrize("query", ["ERR-4711", "what does ERR-4711 mean for the pump that starts?", '"ERR-4711"'])
@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.TEXT])
def test_an_identifier_that_vectors_miss_comes_first(settings: Settings, query: str, mode: Mode) -> None:
    serve(settings, "fuse", FUSE)
    serve(settings, "pump", PUMP, with_vector=False)
    for number in range(20):
        serve(settings, f"near/{number}", f"what does the pump mean that starts {number}?")
    assert keys(settings, query, mode)[0] == "pump"


def test_a_quoted_phrase_comes_before_its_words_apart(settings: Settings) -> None:
    serve(settings, "apart", "Flour of rye: rye bread wants rye flour fine. Lost its? Prime has the pump.")
    serve(settings, "phrase", PUMP)
    assert keys(settings, '"lost its prime"')[0] == "phrase"


def test_rare_words_count_for_more_than_common_ones(settings: Settings) -> None:
    for number in range(10):
        serve(settings, f"common/{number}", "The pump runs, and the pump hums all day long.")
    serve(settings, "rare", "A heron stood there.")
    assert keys(settings, "pump heron", Mode.TEXT)[0] == "rare"


def test_a_text_search_needs_no_embedding_provider(
    settings: Settings, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_PAUSE", 0.01)
    serve(settings, "fish", FISH)
    provider.failures.extend([(500, "down", {})] * asking.FOR_QUERIES.failures)
    assert keys(settings, "salmon", Mode.TEXT) == ["fish"]
    with pytest.raises(QueryNotEmbedded, match="--mode text") as caught:
        keys(settings, "salmon", Mode.HYBRID)
    assert caught.value.code == "provider_unavailable"


@pytest.mark.parametrize("query", ["the of and", "?!", "''", "\\", "a\0b' | !x & (", "\udcff", ":*", "%", "word " * 3000])
@pytest.mark.parametrize("mode", list(Mode))
def test_any_query_has_an_answer(settings: Settings, query: str, mode: Mode) -> None:
    serve(settings, "fish", FISH)
    assert keys(settings, query, mode) in ([], ["fish"])


@pytest.mark.parametrize("query", ["", " \n", "\u200b\u2060", "\ufe0f"])
def test_a_query_without_a_visible_character_is_refused_and_not_sent(settings: Settings, provider: Provider, query: str) -> None:
    with pytest.raises(SearchError) as refused:
        keys(settings, query)
    assert refused.value.code == "empty_query"
    assert provider.requests == []


@pytest.mark.parametrize("query", ["word " * 3000, "x" * 5000, '"' + "long quote " * 1000 + '"', "漢" * 5000])
def test_a_query_is_cut_before_it_reaches_a_provider(settings: Settings, provider: Provider, query: str) -> None:
    serve(settings, "fish", FISH)
    provider.requests.clear()
    keys(settings, query)
    assert [len(text) for texts in provider.requests for text in texts] == [QUERY_LENGTH]


BAD = ("a\0b", "\udcff", "\ud800x")


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("bad", BAD)
def test_what_postgresql_cannot_store_is_cleaned_in_every_input(settings: Settings, bad: str, mode: Mode) -> None:
    serve(settings, "fish", FISH)
    filters = [
        Filters(key=bad), Filters(media_types=(bad,)), Filters(metadata=(("author", bad),)), Filters(metadata=((bad, "x"),)),
    ]  # fmt: skip
    for narrowed in filters:
        assert keys(settings, "salmon", mode, filters=narrowed) == []
    assert keys(settings, "salmon", mode, scope=Scope(settings.buckets, (bad,))) == []
    assert keys(settings, "salmon", mode, scope=Scope((bad,), ("",))) == []
    assert keys(settings, f"salmon {bad}", mode) == ["fish"]


@pytest.mark.parametrize("vector", [np.zeros(384, np.float32), np.full(384, np.nan, np.float32)])
@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID])
def test_a_query_whose_vector_has_no_direction_is_refused(settings: Settings, vector: Vectors, mode: Mode) -> None:
    serve(settings, "fish", FISH)
    with pytest.raises(SearchError) as refused:
        search("salmon", Scope.of_buckets(settings.buckets), 3, settings, mode=mode, embed=lambda *_: vector)
    assert refused.value.code == "query_vector"


@pytest.mark.parametrize(
    ("habit", "code"), [("zero", "embedding_unusable"), ("nan", "embedding_unusable"), ("401", "provider_key")]
)
def test_a_query_that_gets_no_vector_says_what_to_do(settings: Settings, provider: Provider, habit: str, code: str) -> None:
    serve(settings, "fish", FISH)
    provider.behave(habit=habit)
    with pytest.raises(QueryNotEmbedded, match="--mode text") as caught:
        keys(settings, "salmon")
    assert caught.value.code == code


def test_a_vector_of_zeros_that_was_stored_once_gives_no_hit_and_no_nan(settings: Settings) -> None:
    serve(settings, "zeros", "Nothing is near this.")
    execute(settings, "UPDATE embeddings_1 SET embedding = array_fill(0, ARRAY[384])::halfvec")
    serve(settings, "fish", FISH)
    assert keys(settings, "salmon", Mode.VECTOR) == ["fish"]
    scope = Scope.of_buckets(settings.buckets)
    assert all(hit.score == hit.score for hit in search("salmon near", scope, 5, settings))


def test_a_query_has_a_time_of_its_own(settings: Settings, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(settings, "fish", FISH)
    monkeypatch.setattr(asking, "FOR_QUERIES", replace(asking.FOR_QUERIES, timeout=0.5))
    provider.behave(latency=3600)
    begun = time.monotonic()
    with pytest.raises(QueryNotEmbedded, match=r"did not answer within 0\.5 s"):
        keys(settings, "salmon")
    # Once, and not as often as LEX_INGEST_EMBEDDING_TIMEOUT allows.
    assert time.monotonic() - begun < settings.embedding_timeout


def test_a_query_that_is_too_long_for_the_model_is_embedded_in_parts(settings: Settings, provider: Provider) -> None:
    serve(settings, "fish", FISH)
    provider.behave(max_input_tokens=100)
    assert keys(settings, "salmon " * 200) == ["fish"]


@pytest.mark.parametrize("mode", list(Mode))
def test_only_what_is_served_and_in_scope_is_found(settings: Settings, mode: Mode) -> None:
    serve(settings, "mine/a", FISH)
    serve(settings, "theirs/a", FISH)
    serve(settings, "mine/not-yet", FISH, active=False)
    serve(settings, "mine/a", FISH, bucket="another")
    found = search("salmon weir", EVERYTHING.within("mine/"), 10, settings, mode=mode)
    assert [(hit.bucket, hit.key) for hit in found] == [("documents", "mine/a")]
    assert keys(settings, "salmon weir", mode, scope=Scope(("documents",), ())) == []


@pytest.mark.parametrize("mode", list(Mode))
def test_each_filter_leaves_what_it_says(settings: Settings, mode: Mode) -> None:
    march, may = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
    identity = serve(
        settings, "a", FISH, media_type="application/pdf", metadata={"author": "Ada", "language": "en"}, modified=march
    )
    serve(settings, "b", FISH, metadata={"author": "Bo"}, modified=may)
    serve(settings, "c", FISH)
    for filters, expected in {
        Filters(key="b"): ["b"],
        Filters(key="no such key"): [],
        Filters(document_id=identity): ["a"],
        Filters(media_types=("application/pdf", "text/html")): ["a"],
        Filters(metadata=(("author", "Bo"),)): ["b"],
        Filters(metadata=(("author", "Ada"), ("language", "de"))): [],
        Filters(after=may): ["b"],
        Filters(before=may): ["a"],
        Filters(after=march, before=may, media_types=("application/pdf",)): ["a"],
        NOTHING: ["a", "b", "c"],
    }.items():
        assert sorted(keys(settings, "salmon", mode, filters)) == expected, filters


def test_a_hit_says_where_it_stands(settings: Settings) -> None:
    serve(settings, "fish", FISH)
    (hit,) = search("salmon", EVERYTHING, 1, settings)
    assert (hit.char_start, hit.char_end, hit.text) == (0, len(FISH), FISH)
    assert hit.snippet in FISH


def test_a_vector_score_is_the_cosine(settings: Settings) -> None:
    serve(settings, "fish", FISH)
    (hit,) = search("salmon weir", EVERYTHING, 1, settings, mode=Mode.VECTOR)
    assert hit.score == pytest.approx(float(vector_of("salmon weir", 384) @ vector_of(FISH, 384)), abs=1e-5)


def brute_force(settings: Settings, query: str, prefix: str) -> list[tuple[str, float]]:
    """The hybrid search by comparing every chunk in Python: no index, no candidates, no limits."""
    import numpy as np

    with transaction(settings.database_url) as connection:
        rows = connection.execute(
            text(
                "SELECT d.key, c.text, (SELECT jsonb_object_agg(lexeme, cardinality(positions)) FROM unnest(c.words)) AS words"
                " FROM document_chunks c JOIN documents d ON d.id = c.document_id ORDER BY c.id"
            )
        ).all()
        words = list(
            connection.execute(
                text("SELECT lexeme FROM unnest(to_tsvector('english', search_words(:query)))"), {"query": query}
            ).scalars()
        )
    lengths = np.array([len(row.text) for row in rows], dtype=float)
    occurrences = np.array([[float(row.words.get(word, 0)) for word in words] for row in rows])
    weights = [bm25.idf(len(rows), int((column > 0).sum())) for column in occurrences.T]
    scores = bm25.scores(occurrences, lengths, lengths.mean(), weights)
    cosines = np.array([float(vector_of(row.text, 384) @ vector_of(query, 384)) for row in rows])
    inside = [number for number, row in enumerate(rows) if row.key.startswith(prefix)]
    fused = fusion.fused(cosines[inside], scores[inside], np.zeros(len(inside)))
    return sorted(
        ((rows[number].key, float(score)) for number, score in zip(inside, fused, strict=True)), key=lambda hit: -hit[1]
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("small", [False, True], ids=["exact scans", "index scans that end short"])
def test_a_filtered_hybrid_search_finds_what_brute_force_finds(
    settings: Settings, seed: int, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = random.Random(seed)
    vocabulary = [
        f"{first}{second}" for first in ("kel", "mor", "tan", "vis", "dru", "lop") for second in ("bar", "dig", "fen", "gul")
    ]
    for number in range(120):
        length = choice.randint(3, 40)
        body = " ".join(choice.choices(vocabulary, weights=range(1, 25), k=length))
        serve(settings, f"{'rare' if number % 12 == 0 else 'crowd'}/{number}", body)
    analyze(settings)
    if small:
        # As if the collection were too large for exact scans and for scoring every chunk.
        monkeypatch.setattr(nearest, "EXACT", 1)
        monkeypatch.setattr(full_text, "SCORED", 100)
    query = " ".join(choice.sample(vocabulary, 4))
    expected = brute_force(settings, query, "rare/")
    found: list[Hit] = search(query, EVERYTHING.within("rare/"), 10, settings)
    assert [hit.key for hit in found] == [key for key, _ in expected]
    assert [hit.score for hit in found] == pytest.approx([score for _, score in expected], abs=1e-3)


def test_a_query_of_common_words_is_bounded_and_finds_what_holds_them_all(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        serve(settings, f"one/{number}", "The pump hums." if number % 2 else "The motor hums.")
    serve(settings, "both", "The pump and the motor hum all day and all night.")
    analyze(settings)
    monkeypatch.setattr(full_text, "POSTINGS", 20)
    monkeypatch.setattr(full_text, "SCORED", 10)
    assert keys(settings, "pump motor", Mode.TEXT)[0] == "both"
    assert keys(settings, "pump", Mode.TEXT) != []


def test_another_language_makes_every_chunks_words_anew(settings: Settings) -> None:
    from dataclasses import replace

    from worker.services.migration import migrate
    from worker.store.language import UnknownLanguage

    serve(settings, "house", "Die Häuser stehen am Hafen.")
    assert keys(settings, "Haus", Mode.TEXT) == []
    try:
        migrate(replace(settings, text_search="german"))
        assert keys(settings, "Haus", Mode.TEXT) == ["house"]
        with pytest.raises(UnknownLanguage, match="klingon"):
            migrate(replace(settings, text_search="klingon"))
    finally:
        migrate(settings)
    assert keys(settings, "Haus", Mode.TEXT) == []


def test_a_removed_document_leaves_the_text_index_at_once(settings: Settings) -> None:
    serve(settings, "fish", FISH)
    execute(settings, "DELETE FROM documents WHERE key = 'fish'")
    assert keys(settings, "salmon", Mode.TEXT) == []
