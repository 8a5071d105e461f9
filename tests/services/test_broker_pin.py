"""Why celery and kombu are pinned below 5.7, together.

Measured with 5.7.0 (DESIGN.md): when Redis restarts while an ``acks_late`` task is in flight, the worker ends with
``AttributeError … 'hostname'`` from ``restore_unacked``. Before raising the pin, see this test pass with the new release.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, wait_until
from tests.support.valkey import start_valkey


def test_the_versions_are_those_that_were_tested_together() -> None:
    assert importlib.metadata.version("celery").startswith("5.6.")
    assert importlib.metadata.version("kombu").startswith("5.6.")


def test_a_restart_of_redis_with_a_late_task_in_flight_does_not_end_the_worker(tmp_path: Path) -> None:
    first, port = start_valkey(tmp_path)
    environment = {**os.environ, "LATE_BROKER": f"redis://127.0.0.1:{port}/0"}
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.support.late_app",
        "worker",
        "--concurrency",
        "1",
        "--loglevel",
        "INFO",
    ]
    note = tmp_path / "note"
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

        def send(seconds: float) -> None:
            code = f"from tests.support.late_app import nap; nap.delay({seconds}, {str(note)!r})"
            subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True, timeout=30)

        try:
            wait_until(lambda: b"ready" in (tmp_path / "worker.log").read_bytes(), 30, "the worker is ready")
            send(3)
            wait_until(lambda: b"received" in (tmp_path / "worker.log").read_bytes(), 10, "the task is in flight")
            first.kill()
            first.wait()
            second, _ = start_valkey(tmp_path, port)
            try:
                send(0)
                wait_until(lambda: note.exists() and note.read_text().count("done") >= 2, 40, "both tasks ran")
                assert worker.poll() is None, (tmp_path / "worker.log").read_text()[-2000:]
            finally:
                worker.terminate()
                worker.wait(20)
                second.terminate()
                second.wait(10)
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
            first.kill()
            first.wait()
