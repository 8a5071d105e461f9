"""Leases are renewed as long as a stage works, and not before they need it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tests.conftest import wait_until
from tests.support.documents import TIDE, claim, put_and_tell, row_of
from worker.contract import Stage
from worker.services import heartbeat
from worker.services.heartbeat import Heartbeat
from worker.settings import Settings


def beats() -> int:
    return sum(thread.name == "lease-heartbeat" for thread in threading.enumerate())


def test_a_lease_is_renewed_from_its_first_third_on_and_until_the_stage_ends(settings: Settings) -> None:
    short = replace(settings, lease=6.0)
    document_id = put_and_tell(settings, "a.txt", TIDE)
    lease = claim(settings, document_id, Stage.EXTRACT)
    before, threads = row_of(settings, document_id)["due_at"], beats()
    with Heartbeat(lease, short):
        assert beats() == threads
        wait_until(lambda: row_of(settings, document_id)["due_at"] != before, 10, "the lease is renewed")
        assert beats() == threads + 1
    assert beats() == threads


def test_a_heartbeat_that_can_t_begin_keeps_no_other_from_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(settings, lease=0.9)
    first, second = (claim(settings, put_and_tell(settings, key, TIDE), Stage.EXTRACT) for key in ("a.txt", "b.txt"))
    before = row_of(settings, second.document_id)["due_at"]
    start, refused = threading.Thread.start, []

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name == "lease-heartbeat" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(heartbeat.threading.Thread, "start", refuse_once)
    with Heartbeat(first, short), Heartbeat(second, short):
        wait_until(lambda: row_of(settings, second.document_id)["due_at"] != before, 10, "the second lease is renewed")
    assert len(refused) == 1
