"""Run a document through the pipeline in a process of its own, which kills itself at a chosen point.

A point stands before and after each of the pipeline's steps that anything outside the process can see: a commit (some statements
commit by themselves), a published message, a request to the provider, a request to S3. ``Crasher`` starts this file
as a process that has imported everything and is connected to nothing; it forks a child for each run.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
# By the pipeline, some of them when they are first needed.
IMPORTED = ("handlers.s3_events", "worker.celery_app", "worker.tasks", "kombu.transport.redis", "celery.backends.redis")
SCENARIOS = ("fresh", "overwritten", "unchanged", "removed", "damaged")


@dataclass(frozen=True, slots=True)
class Run:
    """How a run went: the points that were passed, the event that was delivered, whether the handler took it, the signal."""

    points: list[str]
    event: dict[str, Any]
    handled: bool
    signal: int


class Crasher:
    """Forks a process for each run. ``environment`` overrides that of this process."""

    def __init__(self, log: Path, **environment: str) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.crash"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, **environment},
            )

    def __enter__(self) -> Crasher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.communicate()

    def run(self, scenario: str, key: str, first: str, second: str, at: int | None = None) -> Run:
        """Bring the key to where the scenario begins, then let its event through the pipeline, and kill at point ``at``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"scenario": scenario, "key": key, "first": first, "second": second, "at": at}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        return Run(**json.loads(self._process.stdout.readline()))


class _Points:
    """Tells of each point as it is passed, and ends the process at point ``at``.

    The steps of the main thread count, and those of the embedding requests' thread, for which it waits meanwhile
    (``LEX_INGEST_EMBEDDING_IN_FLIGHT=1``): a heartbeat's would come at another place in each run.
    """

    def __init__(self, tell: Callable[[str, object], None], at: int | None) -> None:
        self._tell = tell
        self._at = at
        self._passed = 0
        self.armed = False

    def _pass(self, name: str) -> None:
        thread = threading.current_thread()
        if not self.armed or not (thread is threading.main_thread() or thread.name.startswith("embedding-request-")):
            return
        self._tell("point", name)
        if self._passed == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._passed += 1

    def around(self, owner: Any, name: str, step: str, applies: Callable[..., bool] = lambda *_, **__: True) -> None:
        """Put a point before and one after each call of ``owner.name``."""
        call = getattr(owner, name)

        @wraps(call)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if not applies(*arguments, **named):
                return call(*arguments, **named)
            self._pass(f"before {step}")
            answer = call(*arguments, **named)
            self._pass(f"after {step}")
            return answer

        setattr(owner, name, wrapped)


class _InThisProcess:
    """Reads a file without the sandbox: no point lies in there, and its start would take a second of each run."""

    def read(self, path: Path, order: Any) -> Any:
        from worker.extract import reading

        return reading.read(path, order)


def _writes_alone(cursor: Any, statement: str, *_: Any) -> bool:
    return bool(cursor.connection.autocommit) and not statement.lstrip().startswith("SELECT")


def _child(job: dict[str, Any], tell: Callable[[str, object], None]) -> None:
    import psycopg
    from botocore.httpsession import URLLib3Session
    from openai import OpenAI

    from handlers.s3_events import lambda_handler
    from tests.support.events import batch, notification
    from worker import objects, producer, tasks
    from worker.domain.errors import PermanentError
    from worker.services import extraction
    from worker.settings import get_settings
    from worker.store import session, spending

    settings = get_settings()
    extraction._sandbox_of_process = lambda _: _InThisProcess()  # type: ignore[assignment,return-value]  # see the class
    points = _Points(tell, job["at"])
    dialect = session.engine(settings.database_url).dialect
    points.around(dialect, "do_commit", "a commit")
    points.around(spending, "run_and_commit", "a statement and its commit")
    points.around(dialect, "do_execute", "a statement that commits by itself", _writes_alone)
    points.around(psycopg.Connection, "execute", "the handler's commit", lambda connection, *_, **__: connection.autocommit)
    points.around(producer, "_publish", "a message")
    points.around(OpenAI, "post", "a request to the provider")
    points.around(URLLib3Session, "send", "a request to S3")
    client, bucket, key = objects.s3_client(), settings.buckets[0], job["key"]

    def put(body: str) -> str:
        return str(client.put_object(Bucket=bucket, Key=key, Body=body.encode())["ETag"]).strip('"')

    def pipeline(event: dict[str, Any]) -> None:
        answer = lambda_handler(event, None)
        assert answer == {"batchItemFailures": []}, answer
        tell("handled", True)
        with psycopg.connect(settings.database_url) as connection:
            (identity,) = connection.execute("SELECT id::text FROM documents WHERE key = %s", (key,)).fetchone() or ("",)
        tasks.process_document_pipeline(identity)
        with contextlib.suppress(PermanentError):  # how the task of a damaged version ends
            tasks.extract_text_from_document(identity)
        tasks.generate_embeddings(identity)

    if job["scenario"] != "fresh":
        pipeline(batch(notification(bucket, key, put(job["first"]))))
        tell("handled", False)
    match job["scenario"]:
        case "unchanged":
            # Without an ETag nothing but the bytes themselves can tell that they are the same.
            event = batch(notification(bucket, key))
        case "removed":
            client.delete_object(Bucket=bucket, Key=key)
            event = batch(notification(bucket, key, removed=True))
        case "damaged":
            event = batch(notification(bucket, key, put(f"%PDF-1.7\n{key} holds nothing that a PDF does")))
        case _:
            event = batch(notification(bucket, key, put(job["second"])))
    tell("event", event)
    points.armed = True
    pipeline(event)


def _run(job: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            # The handler's metrics go to the log: standard output is for the answers.
            os.dup2(2, 1)
            _child(job, lambda kind, value: os.write(writing, json.dumps([kind, value]).encode() + b"\n") and None)
            code = 0
        except BaseException:  # noqa: BLE001 - this process is a copy, and ends below whatever happened
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(writing)
    answer: dict[str, Any] = {"points": [], "event": {}, "handled": False, "signal": 0}
    with os.fdopen(reading) as lines:
        for line in lines:
            kind, value = json.loads(line)
            if kind == "point":
                answer["points"].append(value)
            else:
                answer[kind] = value
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise RuntimeError(f"a run failed: {job}")
    return {**answer, "signal": -code}


def main() -> None:
    """Import everything and make the clients, which connect when they are first used; then do the jobs, a line of JSON each."""
    for module in IMPORTED:
        importlib.import_module(module)
    from worker import objects
    from worker.embed import openai
    from worker.settings import get_settings

    settings = get_settings()
    objects.s3_client()
    openai._client(settings.openai_api_key, settings.openai_base_url, settings.embedding_timeout)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
