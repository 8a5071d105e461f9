"""SIGTERM: a worker finishes what it can in its time, and hands back the rest at no cost to the document.

The fault row "scale-in" (tests/faults) shows the usual case: a pool of processes, documents that take longer than the time.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from uuid import UUID

import pytest
import redis

from tests.conftest import wait_until
from tests.support.documents import TIDE, put_and_tell, row_of
from tests.support.provider import Provider
from tests.support.workers import pool_of, start_worker, wait_for_worker
from worker import shutdown
from worker.settings import Settings

GRACE = {"LEX_INGEST_SHUTDOWN_GRACE": "1"}


def embedding(settings: Settings, identity: UUID) -> bool:
    return bool(row_of(settings, identity)["status"] == "EMBEDDING")


def test_what_is_finished_in_time_is_finished(settings: Settings, provider: Provider, tmp_path: Path) -> None:
    worker = start_worker(tmp_path / "worker.log", LEX_INGEST_SHUTDOWN_GRACE="10")
    wait_for_worker()
    provider.delay = 2
    identity = put_and_tell(settings, "k.txt", TIDE)
    wait_until(lambda: embedding(settings, identity), 15, "the provider is asked")
    worker.terminate()
    assert worker.wait(10) == 0
    assert row_of(settings, identity)["status"] == "INDEXED"
    assert row_of(settings, identity)["generation"] == 1


def test_a_worker_has_gone_soon_after_its_time_and_leaves_no_message_in_hand(
    settings: Settings, provider: Provider, tmp_path: Path
) -> None:
    worker = start_worker(tmp_path / "worker.log", concurrency=1, **GRACE)
    wait_for_worker()
    provider.delay = 15
    identities = [put_and_tell(settings, f"{number}.txt", f"{number} {TIDE}") for number in range(3)]
    wait_until(lambda: any(embedding(settings, identity) for identity in identities), 15, "the provider is asked")
    worker.terminate()
    assert worker.wait(6) == 0
    assert all(row_of(settings, identity)["lease_token"] is None for identity in identities)
    assert redis.Redis.from_url(settings.redis_url).hlen("unacked") == 0


@pytest.mark.parametrize("to_all", [True, False], ids=["SIGTERM to a pool process", "SIGQUIT to the worker"])
def test_whoever_ends_a_pool_process_its_document_is_handed_back(
    settings: Settings, provider: Provider, tmp_path: Path, to_all: bool
) -> None:
    worker = start_worker(tmp_path / "worker.log")
    try:
        wait_for_worker()
        provider.delay = 15
        identity = put_and_tell(settings, "k.txt", TIDE)
        wait_until(lambda: embedding(settings, identity), 15, "the provider is asked")
        token = row_of(settings, identity)["lease_token"]
        provider.delay = 0
        if to_all:
            for pid in pool_of(worker):
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda: row_of(settings, identity)["status"] == "INDEXED", 10, "taken on by the next pool process")
        else:
            worker.send_signal(signal.SIGQUIT)
            wait_until(lambda: row_of(settings, identity)["lease_token"] != token, 5, "handed back")
        assert (row_of(settings, identity)["attempts"], row_of(settings, identity)["lease_losses"]) == (0, 0)
    finally:
        worker.kill()
        worker.wait()


def test_documents_of_a_pool_of_threads_are_handed_back_too(settings: Settings, provider: Provider, tmp_path: Path) -> None:
    worker = start_worker(tmp_path / "worker.log", extra=("--pool", "threads"), **GRACE)
    wait_for_worker()
    provider.delay = 15
    identities = [put_and_tell(settings, f"{number}.txt", f"{number} {TIDE}") for number in range(2)]
    wait_until(lambda: all(embedding(settings, identity) for identity in identities), 15, "the provider is asked")
    worker.terminate()
    assert worker.wait(10) == 0
    for identity in identities:
        row = row_of(settings, identity)
        assert (row["status"], row["attempts"], row["lease_losses"]) == ("EXTRACTED", 0, 0)


def test_a_pool_process_whose_stage_has_just_ended_sends_its_wake_up_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next stage waits for the dispatcher: up to thirteen seconds."""
    gone = threading.Event()
    monkeypatch.setattr(shutdown.os, "_exit", lambda _code: gone.set())
    monkeypatch.setattr(shutdown.holding, "hand_back_all", lambda: (1, 0))
    shutdown._between_tasks.clear()
    ending = threading.Thread(target=shutdown._hand_back_and_exit)
    ending.start()
    try:
        assert not gone.wait(0.5)
    finally:
        shutdown._between_tasks.set()
    assert gone.wait(1.0)
    ending.join()


def test_a_pool_process_that_has_handed_back_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    monkeypatch.setattr(shutdown.os, "_exit", lambda _code: gone.set())
    monkeypatch.setattr(shutdown.holding, "hand_back_all", lambda: (1, 1))
    shutdown._between_tasks.clear()
    try:
        shutdown._hand_back_and_exit()
        assert gone.is_set()
    finally:
        shutdown._between_tasks.set()
