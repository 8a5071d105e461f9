"""How far the chunks of some documents are, looked at again and again: counts, rate, and what is waited for."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from uuid import UUID

import pytest

from infra.cli import local_model
from infra.cli.local_model import LocalModelLoad
from infra.cli.progress import ChunkProgress
from worker.domain.document import Status
from worker.services.documents import DocumentStatus
from worker.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> ChunkProgress:
    return ChunkProgress(Settings(), clock)


def row(
    number: int, embedded: int | None, total: int | None, status: Status = Status.EMBEDDING, waits_for: str | None = None
) -> DocumentStatus:
    empty: dict[str, None] = dict.fromkeys(field.name for field in dataclasses.fields(DocumentStatus))
    known = {
        "document_id": UUID(int=number), "status": status, "generation": 1, "chunks": 0, "chunks_embedded": embedded,
        "chunks_total": total, "waits_for": waits_for, "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return DocumentStatus(**{**empty, **known})  # type: ignore[arg-type]  # the fields that no test looks at are None


def test_documents_add_up_and_those_that_end_stay(progress: ChunkProgress) -> None:
    progress.look([row(1, 0, 10), row(2, 5, 20)])
    assert (progress.embedded, progress.total, progress.to_go) == (5, 30, 25)
    progress.look([row(1, None, None, Status.INDEXED), row(2, 9, 20)])
    assert (progress.embedded, progress.total, progress.to_go) == (19, 30, 11)
    # One that failed has nothing to go.
    progress.look([row(1, None, None, Status.INDEXED), row(2, None, None, Status.FAILED)])
    assert (progress.embedded, progress.total, progress.to_go) == (19, 19, 0)


def test_a_look_without_counts_leaves_what_was_known(progress: ChunkProgress) -> None:
    progress.look([row(1, 4, 10)])
    progress.look([row(1, None, None)])
    assert (progress.embedded, progress.total) == (4, 10)


def test_the_rate_is_of_what_was_made_while_looking(progress: ChunkProgress, clock: Clock) -> None:
    progress.look([row(1, 100, 200)])
    assert progress.rate is None
    clock.now = 10
    progress.look([row(1, 131, 200)])
    assert progress.rate == pytest.approx(3.1)
    assert progress.sentence() == "3.1 chunks/s, 69 to go"
    # Only the last half minute counts.
    clock.now = 100
    progress.look([row(1, 131, 200)])
    assert progress.rate is None


def test_the_sentence_names_a_closed_gate_first_then_the_busy_model_then_the_wait(
    progress: ChunkProgress, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(local_model, "load", lambda settings: asked.append(settings) or LocalModelLoad(3.14, 7))
    gate = "the provider (throttled): it asks to wait"
    progress.look(
        [row(1, 0, 5, waits_for=gate), row(2, 0, 5, waits_for="a free worker"), row(3, 0, 5, waits_for="a free worker")]
    )
    assert progress.sentence() == f"waiting for {gate}"
    progress.look([row(1, 0, 5, waits_for="a free worker")])
    assert progress.sentence() == "the local model is busy: 3.1 chunks/s, 15 to go"
    clock.now = 4
    progress.sentence()
    assert len(asked) == 1
    progress.look([row(number, None, None, Status.FAILED) for number in (1, 2, 3)])
    assert progress.sentence() is None
    progress.look([row(4, None, None, Status.PENDING, "a free worker")])
    assert progress.sentence() == "waiting for a free worker"
