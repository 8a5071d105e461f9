"""The dispatcher's own work: leases that ran out, frozen sessions, pruning, and what a person is told of who waits."""

from __future__ import annotations

import dataclasses
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis

import handlers.dispatch
from tests.conftest import wait_until
from tests.support.doctor import found
from tests.support.documents import (
    BREAD,
    TIDE,
    claim,
    count,
    execute,
    find,
    put_and_tell,
    row_of,
    run_stages,
    status_of,
    tell,
)
from worker.contract import Stage
from worker.domain.document import Status
from worker.domain.retrying import MAX_LEASE_LOSSES
from worker.services.extraction import extract_document
from worker.settings import Settings
from worker.store import due
from worker.store.driver import WORKER_APPLICATION, connect


def lose_lease(settings: Settings, document_id: UUID, stage: Stage) -> None:
    """A worker takes the document on and vanishes; the dispatcher finds that and calls another one."""
    claim(settings, document_id, stage)
    execute(settings, "UPDATE documents SET due_at = now() - interval '1 second'")
    with connect(settings.database_url, "test") as dispatcher:
        assert due.end_lost_leases(dispatcher, 10) == 1
        due.take_due(dispatcher, stage, 10, 8)


def test_a_document_whose_workers_vanish_ten_times_is_given_up(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    for _ in range(MAX_LEASE_LOSSES):
        lose_lease(settings, document_id, Stage.EXTRACT)
    row = status_of(settings, "a.txt")
    assert (row.status, row.error_code, row.due_at, row.attempts) == (Status.FAILED, "worker_lost", None, 0)


def test_newer_content_is_read_where_the_older_one_ends_its_workers(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    for _ in range(MAX_LEASE_LOSSES - 1):
        lose_lease(settings, document_id, Stage.EMBED)
    claim(settings, document_id, Stage.EMBED)
    put_and_tell(settings, "a.txt", BREAD)
    execute(settings, "UPDATE documents SET due_at = now() - interval '1 second'")
    with connect(settings.database_url, "test") as dispatcher:
        assert due.end_lost_leases(dispatcher, 10) == 1
    run_stages(settings, document_id)
    row = row_of(settings, document_id)
    assert (row["status"], row["lease_losses"]) == ("INDEXED", 0)
    assert find(settings, BREAD)[0].text == BREAD


def test_pruning_goes_on_while_redis_is_away(settings: Settings) -> None:
    tell(settings, "never/there.txt", removed=True)
    away = dataclasses.replace(settings, redis_url="redis://127.0.0.1:1/0", erase_after=1e-6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handlers.dispatch, "get_settings", lambda: away)
        with pytest.raises(redis.RedisError):
            handlers.dispatch.lambda_handler({}, None)
    assert count(settings, "events WHERE key IS NOT NULL") == 0


def test_doctor_tells_a_stuck_document_from_a_backlog(settings: Settings) -> None:
    """A document that is called for again and again waits all the same; where others go on, it waits for its turn."""
    waits, goes_on = (put_and_tell(settings, key, TIDE) for key in ("waits.txt", "goes-on.txt"))
    execute(settings, "UPDATE documents SET updated_at = now() - interval '1 hour', due_at = now() - interval '1 second'")
    with connect(settings.database_url, "test") as dispatcher:
        due.take_due(dispatcher, Stage.EXTRACT, 10, 8)
    assert found("documents", settings).found.endswith("2 stuck")
    claim(settings, goes_on, Stage.EXTRACT)
    assert found("documents", settings).ok, "a wake-up waits in the queue, and a worker is at work"
    redis.Redis.from_url(settings.redis_url).flushall()
    assert found("documents", settings).found.endswith("1 stuck"), f"nobody is called for {waits}"


def test_a_worker_that_froze_in_the_middle_of_a_copy_loses_its_row(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time limit of PostgreSQL ends a session that waits for the rest of a COPY."""
    monkeypatch.setattr(due, "_FROZEN_AFTER", 0.2)
    document_id = put_and_tell(settings, "a.txt", TIDE)
    claim(settings, document_id, Stage.EXTRACT)
    execute(settings, "UPDATE documents SET due_at = now()")
    frozen = psycopg.connect(settings.database_url, application_name=WORKER_APPLICATION)
    frozen.execute("SELECT FROM documents WHERE id = %s FOR UPDATE", (document_id,))
    copying = frozen.cursor().copy("COPY gates FROM STDIN")
    copying.__enter__()
    with connect(settings.database_url, "test") as dispatcher:
        assert due.end_lost_leases(dispatcher, 10) == 0
        dispatcher.commit()
        wait_until(lambda: _ended(dispatcher), 10, "its session is ended")
        wait_until(lambda: due.end_lost_leases(dispatcher, 10) == 1, 10, "its lease is ended")
    frozen.close()


def _ended(dispatcher: psycopg.Connection[Any]) -> bool:
    """Whether a frozen session was found; in a transaction of its own, for else the view of the sessions stands still."""
    with dispatcher.transaction():
        return due.end_frozen_sessions(dispatcher) == 1
