"""The pure core: states, decisions about errors, scopes, snippets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.document import HAND_BACK, TERMINAL, TRANSITIONS, InvalidTransition, Status, check_transition
from worker.domain.errors import (
    IngestError,
    LeaseLost,
    NoText,
    ProviderUnusable,
    Rejected,
    Throttled,
    TransientError,
    Unavailable,
    Unsupported,
)
from worker.domain.retrying import GiveUp, Park, Retry, backoff, decide
from worker.domain.scope import Scope
from worker.domain.snippet import best_passage
from worker.domain.text import Block, assemble
from worker.settings import Settings, SettingsError


def test_a_finished_document_moves_only_to_pending() -> None:
    assert all(TRANSITIONS[status] == {Status.PENDING} for status in TERMINAL)


def test_a_move_that_the_table_lacks_is_refused() -> None:
    with pytest.raises(InvalidTransition, match="INDEXED cannot become EMBEDDING"):
        check_transition(Status.INDEXED, Status.EMBEDDING)


def test_whoever_holds_a_document_can_hand_it_back() -> None:
    assert all(back in TRANSITIONS[working] for working, back in HAND_BACK.items())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unsupported("a picture"), Status.UNSUPPORTED),
        (NoText("needs_ocr", "pictures only"), Status.NO_TEXT),
        (Rejected("encrypted", "a password"), Status.FAILED),
    ],
)
def test_a_verdict_about_the_document_ends_it_at_once(error: IngestError, status: Status) -> None:
    assert decide(error, 0, 0.5) == GiveUp(status, error.code, error.message)


def test_trouble_around_the_document_costs_it_nothing() -> None:
    assert isinstance(decide(Throttled("wait", 7.0), 2, 0.0), Park)
    assert isinstance(decide(ProviderUnusable("provider_key", "refused"), 2, 0.0), Park)
    down = decide(Unavailable("s3_unavailable", "no answer"), 2, 0.0)
    assert isinstance(down, Retry)
    assert not down.spend


def test_the_provider_s_own_wait_is_kept_and_spread() -> None:
    decisions = [decide(Throttled("wait", 8.0), 0, jitter) for jitter in (0.0, 1.0)]
    assert [decision.after for decision in decisions if isinstance(decision, Park)] == [8.0, 10.0]


def test_the_third_attempt_is_the_last() -> None:
    error = TransientError("access_denied", "403")
    assert [type(decide(error, attempts, 0.5)) for attempts in (0, 1, 2)] == [Retry, Retry, GiveUp]


def test_an_unexpected_exception_tells_its_type_and_never_its_text() -> None:
    decision = decide(ValueError("a line of the document"), 0, 0.5)
    assert isinstance(decision, Retry)
    assert decision.code == "internal_error"
    assert "ValueError" in decision.reason
    assert "a line" not in decision.reason


@given(st.integers(1, 50), st.floats(0, 1))
def test_backoff_grows_within_bounds(attempt: int, jitter: float) -> None:
    assert 5 <= backoff(attempt, jitter) <= 600
    assert backoff(attempt, 0.0) <= backoff(attempt, jitter) <= backoff(attempt, 1.0)


@pytest.mark.parametrize(
    "error",
    [Unsupported("x"), NoText("empty", "x"), Rejected("damaged", "x"), Throttled("x", 3.0), LeaseLost(), Unavailable("a", "b")],
)
def test_an_error_is_rebuilt_from_its_arguments(error: IngestError) -> None:
    """Celery's JSON results keep an exception as its class and its arguments."""
    again = type(error)(*error.args)
    assert (again.code, str(again)) == (error.code, str(error))


def test_a_scope_can_only_be_narrowed() -> None:
    scope = Scope(("b",), ("team/a/", "team/b/"))
    assert scope.within("team/a/x").prefixes == ("team/a/x",)
    assert scope.within("team/").prefixes == ("team/a/", "team/b/")
    assert scope.within("other/").prefixes == ()


def test_the_passage_with_the_query_s_words_is_shown() -> None:
    text = "The harbour is calm to the eye. Nobody goes by it. A trawl net wound around the hub. The end of the day."
    passage = best_passage(text, "what did the trawl net do to it?", 30)
    assert passage.text.startswith("A trawl net wound")
    assert text[passage.start : passage.start + len(passage.text)] == passage.text


@given(st.text(max_size=300), st.text(max_size=30), st.integers(1, 80))
def test_a_passage_is_always_a_part_of_its_chunk(chunk: str, query: str, length: int) -> None:
    passage = best_passage(chunk, query, length)
    assert chunk[passage.start : passage.start + len(passage.text)] == passage.text
    assert len(passage.text) <= length


def test_neighbouring_blocks_of_a_page_are_one_section() -> None:
    document = assemble((Block("a", page=1), Block("b", page=1), Block("c", page=2, heading_path=("H",))))
    assert document.text == "a\n\nb\n\nc"
    assert [(section.page, section.heading) for section in document.sections] == [(1, None), (2, "H")]
    assert [document.text[section.char_start : section.char_end] for section in document.sections] == ["a\n\nb", "c"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LEX_INGEST_LEASE", "soon"),
        ("LEX_INGEST_LEASE", "0"),
        ("LEX_INGEST_CHUNK_OVERLAP", "3000"),
        ("LEX_INGEST_EMBEDDING_DIMENSIONS", "4001"),
        ("LEX_INGEST_VECTOR_TYPE", "bit"),
    ],
)
def test_a_setting_that_can_t_be_used_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        Settings.from_environment({variable: value})


def test_an_empty_variable_counts_as_not_set_and_a_missing_one_is_named() -> None:
    settings = Settings.from_environment({"REDIS_URL": " "})
    with pytest.raises(SettingsError, match="REDIS_URL"):
        settings.require("redis_url")


def test_secrets_are_not_shown_with_the_settings() -> None:
    settings = Settings.from_environment({"OPENAI_API_KEY": "sk-secret", "DATABASE_URL": "postgresql://u:pw@h/d"})
    assert "secret" not in repr(settings)
    assert "pw" not in repr(settings)
