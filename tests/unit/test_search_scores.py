"""The pure parts of search: BM25, the fusion, what a query wants to the letter, the options of the command, the labelled set."""

from __future__ import annotations

import math

import numpy as np
import pytest
import typer

from infra.cli.search import parse_filters
from tests.benchmarks import search_quality
from worker.domain import bm25, fusion
from worker.domain.exact import exact_parts


def test_occurrences_are_read_back_from_ts_rank() -> None:
    numbers = np.array([0, 1, 2, 3, 10, 100, 200])
    ranks = np.array([sum(1 / place**2 for place in range(1, number + 1)) for number in numbers]) * 6 / math.pi**2
    assert bm25.counts(ranks.astype(np.float32).astype(float)).tolist() == pytest.approx(numbers.tolist(), rel=0.03)
    assert bm25.counts(ranks[:5]).tolist() == numbers[:5].tolist()


def test_every_word_once_in_an_average_chunk_scores_one() -> None:
    occurrences = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    scores = bm25.scores(occurrences, np.full(3, 100.0), 100.0, [5.0, 1.0])
    assert scores.tolist() == pytest.approx([1.0, 5 / 6, 0.0])


def test_a_word_that_stands_nowhere_lowers_every_score() -> None:
    known, unknown = bm25.idf(1000, 10), bm25.idf(1000, 0)
    alone = bm25.scores(np.array([[1.0]]), np.array([100.0]), 100.0, [known])
    beside = bm25.scores(np.array([[1.0, 0.0]]), np.array([100.0]), 100.0, [known, unknown])
    assert beside[0] < alone[0] / 2


def test_a_weight_is_never_negative() -> None:
    assert 0 < bm25.idf(100, 100) < bm25.idf(100, 1)
    assert bm25.idf(100, 120) > 0


def test_where_little_of_the_query_is_found_meaning_decides() -> None:
    similarities, words = np.array([0.9, 0.5, 0.1]), np.array([0.0, 0.3, 0.1])
    assert fusion.fused(similarities, words, np.zeros(3)).argmax() == 0


def test_models_with_narrow_similarities_are_fused_like_others() -> None:
    wide, words = np.array([0.9, 0.5, 0.1]), np.array([0.0, 1.0, 0.2])
    narrow = 0.8 + wide / 10
    assert fusion.fused(narrow, words, np.zeros(3)).tolist() == pytest.approx(fusion.fused(wide, words, np.zeros(3)).tolist())


def test_what_is_held_to_the_letter_beats_everything_else() -> None:
    assert fusion.fused(np.array([1.0, np.nan]), np.array([0.5, 0.9]), np.array([0.0, 0.9])).argmax() == 1


def test_the_fusion_of_nothing_is_nothing() -> None:
    assert fusion.fused(np.zeros(0), np.zeros(0), np.zeros(0)).tolist() == []


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("ERR-4711", ["ERR-4711"]),
        ("what does ERR-4711 mean?", ["ERR-4711"]),
        ("changes in 2.4.1, please", ["2.4.1"]),
        ("set hnsw.ef_search (twice)", ["hnsw.ef_search"]),
        ('the "lost its prime" message', ["lost its prime"]),
        ("valve V2 of config.yaml", ["config.yaml"]),
        ("図書館 休み", ["図書館", "休み"]),
        ("high-speed read/write in 1995, e.g. today", []),
        ('an unclosed "quote', []),
        ("", []),
    ],
)
def test_identifiers_and_quotes_are_wanted_to_the_letter(query: str, parts: list[str]) -> None:
    assert exact_parts(query) == parts


def test_options_become_filters() -> None:
    filters = parse_filters("k", ["pdf", "text/x"], "2026-03-01", "2026-03-01T12:00+02:00", ["author=A=B"])
    assert filters.media_types == ("application/pdf", "text/x")
    assert filters.metadata == (("author", "A=B"),)
    assert filters.after is not None
    assert filters.after.isoformat() == "2026-03-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((None, ["exe"], None, None, None), "--type"),
        ((None, None, "yesterday", None, None), "--after"),
        ((None, None, None, "2026-13-01", None), "--before"),
        ((None, None, "2026-02-01", "2026-01-01", None), "--after"),
        ((None, None, None, None, ["author"]), "--where"),
        ((None, None, None, None, ["colour=red"]), "--where"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(options: tuple[None, ...], name: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        parse_filters(*options)
    assert refused.value.param_hint == name


def test_the_labelled_set_is_whole() -> None:
    documents, questions = search_quality.read(search_quality.OWN)
    assert len(documents) >= 40
    assert len(questions) >= 60
    assert {question.kind for question in questions} == {"keyword", "identifier", "paraphrase", "other-language", "typo"}
    assert all(question.relevant for question in questions)


def test_ndcg_is_one_for_the_ideal_order_and_less_for_others() -> None:
    assert search_quality.ndcg(["a", "b", "c"], {"a": 2, "b": 1}) == 1
    assert search_quality.ndcg(["b", "a"], {"a": 2, "b": 1}) == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))
    assert search_quality.ndcg(["x"], {"a": 1}) == 0
