"""The Celery tasks as users meet them: called directly, in eager mode, and in a real worker."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.result import AsyncResult

import worker.tasks
from tests.conftest import wait_until
from tests.support.documents import put_and_tell, row_of, status_of
from tests.support.provider import Provider
from worker import producer
from worker.celery_app import app
from worker.contract import FILL_TASK, QUEUES, TASK_NAMES, Stage, WakeUp
from worker.domain.document import TERMINAL, Status
from worker.domain.errors import NoText
from worker.services import asking
from worker.settings import Settings
from worker.tasks import extract_text_from_document, generate_embeddings, process_document_pipeline
from worker.tasks.base import DocumentNotFound, DocumentTask, IngestTask

TEXT = "Lighthouse keepers wrote the weather down every three hours."


def test_each_task_can_be_called_here_and_now_with_a_document_id(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TEXT)
    assert process_document_pipeline(str(document_id)) == {"status": "processing", "document_id": str(document_id)}
    assert extract_text_from_document(str(document_id)) == {
        "status": "success",
        "document_id": str(document_id),
        "text_length": len(TEXT),
        "chunks_created": 1,
    }
    assert generate_embeddings(str(document_id)) == {
        "status": "success",
        "document_id": str(document_id),
        "embeddings_generated": 1,
    }
    assert status_of(settings, "a.txt").status is Status.INDEXED
    assert extract_text_from_document(str(document_id))["status"] == "skipped"


def test_an_id_that_no_document_has_is_a_typed_error(settings: Settings) -> None:
    for unknown in (str(uuid.uuid4()), "not-an-id"):
        with pytest.raises(DocumentNotFound):
            process_document_pipeline(unknown)


def test_a_document_without_text_raises_its_typed_error(settings: Settings) -> None:
    document_id = put_and_tell(settings, "empty.txt", b"")
    with pytest.raises(NoText):
        extract_text_from_document(str(document_id))
    assert status_of(settings, "empty.txt").status is Status.NO_TEXT


def test_a_retry_is_a_result_and_stands_in_the_row(
    settings: Settings, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_PAUSE", 0.01)
    document_id = put_and_tell(settings, "a.txt", TEXT)
    extract_text_from_document(str(document_id))
    # The last one is the answer to the question whether the provider answers at all.
    provider.failures.extend([(500, "server_error", {})] * (asking.FOR_DOCUMENTS.failures + 1))
    result = generate_embeddings(str(document_id))
    assert result["status"] == "retrying"
    assert result["error_code"] == "provider_unavailable"
    assert 10 <= result["retry_in"] <= 20
    row = row_of(settings, document_id)
    assert (row["status"], row["queued"], row["lease_token"]) == ("EXTRACTED", False, None)


@pytest.fixture
def eager() -> Iterator[None]:
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    yield
    app.conf.update(task_always_eager=False, task_eager_propagates=False)


def test_in_eager_mode_one_call_does_the_whole_pipeline(settings: Settings, eager: None) -> None:
    document_id = put_and_tell(settings, "a.txt", TEXT)
    process_document_pipeline.delay(str(document_id))
    assert status_of(settings, "a.txt").status is Status.INDEXED


def _task_modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(worker.tasks.__path__) if module.name != "base"]


def test_every_task_keeps_to_the_checklist() -> None:
    """README, "Add a task": one file, one task of the file's name, our base class, a contract entry, a documented result."""
    exported = set(worker.tasks.__all__)
    assert exported == set(_task_modules())
    assert {f"worker.tasks.{name}" for name in exported} == {*TASK_NAMES.values(), FILL_TASK}
    for name in exported:
        task = getattr(importlib.import_module(f"worker.tasks.{name}"), name)
        of_document = f"worker.tasks.{name}" in TASK_NAMES.values()
        assert isinstance(task, DocumentTask if of_document else IngestTask), name
        assert task.name == f"worker.tasks.{name}"
        assert task.name in app.tasks
        doc = task.run.__doc__ or ""
        assert all(part in doc for part in ("Args:", "Returns:", "Raises:", "document_id" if of_document else "_id:")), name
        assert task.ignore_result is False
        assert task.acks_late is False


def test_the_limits_are_those_that_the_readme_names() -> None:
    conf = app.conf
    assert app.main == "lex-intel"
    assert (conf.task_serializer, conf.result_serializer, conf.accept_content) == ("json", "json", ["json"])
    assert (conf.task_time_limit, conf.task_soft_time_limit) == (1800, 1500)
    assert (conf.worker_prefetch_multiplier, conf.worker_max_tasks_per_child) == (1, 1000)
    assert conf.task_track_started
    assert conf.enable_utc
    assert conf.broker_transport_options["visibility_timeout"] > conf.task_time_limit
    assert conf.broker_transport_options["socket_timeout"]


def test_link_runs_after_a_task(settings: Settings, eager: None, tmp_path: Path) -> None:
    @app.task(name="tests.note")
    def note(result: dict[str, str], where: str) -> None:
        Path(where).write_text(result["status"])

    document_id = put_and_tell(settings, "a.txt", TEXT)
    try:
        process_document_pipeline.apply_async((str(document_id),), link=note.s(str(tmp_path / "note")))
    finally:
        del app.tasks["tests.note"]
    assert (tmp_path / "note").read_text() == "processing"


def test_a_worker_takes_a_document_from_event_to_index(settings: Settings, worker: subprocess.Popen[bytes]) -> None:
    document_id = put_and_tell(settings, "a.txt", TEXT)
    wait_until(lambda: status_of(settings, "a.txt").status in TERMINAL, 20, "the document is done")
    assert status_of(settings, "a.txt").status is Status.INDEXED
    stages = {stage: AsyncResult(WakeUp(str(document_id), 1, stage).task_id, app=app) for stage in Stage}
    wait_until(lambda: all(result.successful() for result in stages.values()), 5, "the results are stored")
    assert stages[Stage.EXTRACT].result["chunks_created"] == 1
    assert stages[Stage.EMBED].result["embeddings_generated"] == 1
    inspect = app.control.inspect(timeout=2)
    (active,) = (inspect.active_queues() or {}).values()
    assert {queue["name"] for queue in active} == set(QUEUES.values())
    assert set(TASK_NAMES.values()) <= set(next(iter((inspect.registered() or {}).values())))
    assert next(iter((inspect.active() or {}).values())) == []
    assert next(iter((inspect.reserved() or {}).values())) == []


def test_a_permanent_failure_is_a_failure_in_the_result_backend(settings: Settings, worker: subprocess.Popen[bytes]) -> None:
    document_id = put_and_tell(settings, "empty.txt", b"   ")
    result = AsyncResult(WakeUp(str(document_id), 1, Stage.EXTRACT).task_id, app=app)
    wait_until(result.ready, 20, "the task ended")
    assert result.failed()
    assert isinstance(result.result, NoText)
    assert result.result.code == "empty"


def _dispatchers(worker_id: int) -> set[int]:
    children = Path(f"/proc/{worker_id}/task/{worker_id}/children").read_text().split()
    return {int(child) for child in children if b"worker.dispatcher" in Path(f"/proc/{child}/cmdline").read_bytes()}


def test_the_dispatcher_is_started_again_also_after_redis_was_lost(settings: Settings, worker: subprocess.Popen[bytes]) -> None:
    """Losing the broker clears every timer of a Celery worker, so what watches the dispatcher must be set again."""
    import redis

    def answers() -> bool:
        try:
            return bool(app.control.ping(timeout=0.5))
        except redis.RedisError:
            # This process' own connection was among those that were cut.
            return False

    redis.Redis.from_url(settings.redis_url).client_kill_filter(_type="normal")
    wait_until(answers, 20, "the worker consumes again")
    (first,) = _dispatchers(worker.pid)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: bool(_dispatchers(worker.pid) - {first}), 10, "another dispatcher runs")


def test_the_queues_have_a_length(settings: Settings) -> None:
    put_and_tell(settings, "a.txt", TEXT)
    assert producer.queue_lengths(settings)[QUEUES[Stage.PROCESS]] == 1
