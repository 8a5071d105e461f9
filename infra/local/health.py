"""Checks whether the parts of a running stack answer. All parts are asked at the same time, each with a time limit."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from infra.local import child
from infra.local.folder import Folder
from infra.local.parts import WORKERS
from infra.local.stack import Stack

T = TypeVar("T")

RUNNING, NOT_ANSWERING, RESTARTING, UNKNOWN = "RUNNING", "NOT ANSWERING", "RESTARTING", "UNKNOWN"
# Seconds for the answer of one part, and for all of them together. A worker's answer comes through Valkey, after Valkey's own.
ANSWER, ALL = 2.5, 6.0


@dataclass(frozen=True, slots=True)
class PartHealth:
    """One part's state. ``state`` is RUNNING, NOT_ANSWERING, RESTARTING or UNKNOWN; ``reason`` is empty if it is RUNNING."""

    name: str
    state: str
    pid: int | None
    uptime_s: int
    reason: str = ""


class Silent(Exception):
    """A part does not answer, or answers wrongly. The message is a predicate, such as "does not answer within 2.5 s"."""


def in_thread(function: Callable[[], T]) -> Future[T]:
    """Call the function in a daemon thread, so that the process can end even if the function never returns."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - the future raises it for its reader
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def ask(stack: Stack) -> list[PartHealth]:
    """Ask each part of the stack, for ``ALL`` seconds at most."""
    end = time.monotonic() + ALL
    folder = Folder.load(stack.data_dir)
    names = [part.name for part in stack.parts()]
    workers = [name for name in names if name in WORKERS]
    futures = {name: in_thread(partial(_ask, folder, name)) for name in names if name not in workers}
    # One thread pings all workers, after the thread that asks Valkey: if two threads import a package at once, one of them may
    # see it half initialised.
    if workers:
        answering_workers = in_thread(partial(_ask_workers, folder, workers, futures["valkey"]))
        futures |= {name: in_thread(partial(_ask_worker, folder, name, answering_workers)) for name in workers}
    found = []
    for part in stack.parts():
        state, reason = (RUNNING, "") if part.pid else (RESTARTING, "its process has ended")
        try:
            futures[part.name].result(max(0.0, end - time.monotonic()))
        except _Unasked as error:
            state, reason = (UNKNOWN, str(error)) if part.pid else (state, reason)
        except Exception as error:  # noqa: BLE001 - drivers differ in what they raise
            if part.pid:
                state, reason = NOT_ANSWERING, reason_of(error)
        found.append(PartHealth(part.name, state, part.pid, part.uptime_s, reason))
    return found


def reason_of(error: Exception) -> str:
    """Say on one line why the part does not answer, from the error of the question."""
    if isinstance(error, Silent):
        return str(error)
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return f"does not answer within {ANSWER:g} s"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def stopped(folder: Folder, part: str) -> str:
    """Say that the part's process is stopped by a signal (SIGSTOP), and how to continue it; "" if it is not stopped."""
    pid = child.recorded(folder.run, part)
    try:
        # The state follows the command's name, which may hold spaces and brackets.
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] if pid else ""
    except OSError:
        return ""
    return f"does not answer: its process is stopped, and `kill -CONT {pid}` continues it" if state in ("T", "t") else ""


class _Unasked(Exception):
    """A part can't be asked, since another one through which its answer comes is down."""


def _ask(folder: Folder, part: str) -> None:
    """Check that a part other than a worker does its work right now.

    Raises:
        Exception: the part does not work; ``reason_of`` says why.
    """
    if reason := stopped(folder, part):
        raise Silent(reason)
    if part == "postgres":
        import psycopg

        psycopg.connect(folder.environment["DATABASE_URL"], connect_timeout=int(ANSWER)).close()
    elif part == "valkey":
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        with redis.Redis.from_url(
            folder.environment["REDIS_URL"],
            socket_timeout=ANSWER,
            socket_connect_timeout=ANSWER,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            client.set("lex-ingest:health", "", px=1000)  # a full or read-only server still answers PING, so write
    elif part == "events":
        if not (folder.run / "events.ready").exists():
            raise Silent("is starting")
    else:
        answer_of_http(folder.ports[part])


def _ask_workers(folder: Folder, workers: list[str], valkey: Future[None]) -> set[str]:
    """Return the names of the workers that answer Celery's ping in time. ``valkey`` is the answer of Valkey.

    Raises:
        _Unasked: Valkey does not work, and the workers answer through Valkey.
    """
    try:
        valkey.result(ANSWER + 1)
    except Exception:  # noqa: BLE001 - whatever the error, no worker can be asked without Valkey
        raise _Unasked("can be asked through valkey only") from None
    from celery import Celery

    names = {f"{part}@{socket.gethostname()}": part for part in workers}
    with Celery(broker=folder.environment["REDIS_URL"], set_as_current=False) as app:
        app.conf.broker_transport_options = {"socket_timeout": ANSWER, "socket_connect_timeout": ANSWER, "max_retries": 0}
        replies = app.control.ping(timeout=ANSWER, destination=list(names), limit=len(names)) or []
    return {names[name] for reply in replies for name in reply}


def _ask_worker(folder: Folder, part: str, answering_workers: Future[set[str]]) -> None:
    """Check that the worker is not stopped and has answered the ping of ``_ask_workers``.

    Raises:
        Exception: it has not; ``reason_of`` says why.
    """
    if reason := stopped(folder, part):
        raise Silent(reason)
    if part not in answering_workers.result():
        raise Silent(f"does not answer within {ANSWER:g} s")


def answer_of_http(port: int) -> None:
    """Return if an HTTP server on loopback answers. Any status counts, since the server refuses a request without a key."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER)
    try:
        connection.request("GET", "/")
        connection.getresponse().read(1)
    finally:
        connection.close()
