"""Clients of a stack's S3 and SQS API: with its keys, without them, and byte by byte."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from infra.local.child import recorded
from infra.local.folder import Folder
from infra.local.parts import answers
from infra.local.stack import Stack, down, up

BUCKET = "documents"


@contextlib.contextmanager
def aws_stack(folder: Path) -> Iterator[Stack]:
    """A stack of the API alone, which ends with the block."""
    running = up(folder, parts=("aws",), detach=False)
    try:
        yield running
    finally:
        down(folder)
        assert running.supervisor is not None
        running.supervisor.wait()


@contextlib.contextmanager
def client(stack: Stack, service: str, attempts: int = 10, **options: Any) -> Iterator[Any]:
    """A boto3 client with the stack's keys, or with those in ``options``; the rest of these is for botocore's Config."""
    environment = stack.environment
    session: Any = boto3.session.Session(
        options.pop("key", environment["AWS_ACCESS_KEY_ID"]),
        options.pop("secret", environment["AWS_SECRET_ACCESS_KEY"]),
        region_name=options.pop("region", "us-east-1"),
    )
    config = Config(retries={"total_max_attempts": attempts}, **options)
    with contextlib.closing(session.client(service, endpoint_url=environment["AWS_ENDPOINT_URL"], config=config)) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers`` have names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code in S3's error document."""
        return self.body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()


def send(
    stack: Stack, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"", host: str | None = None
) -> Answer:
    """One HTTP request as a browser, a program or an attacker writes it: nothing is quoted, added or followed.

    Args:
        host: the Host header; None for the right one. There is a Content-Length unless ``headers`` say how the body ends.
    """
    port = urllib.parse.urlsplit(stack.environment["AWS_ENDPOINT_URL"]).port
    given = {"Host": f"127.0.0.1:{port}" if host is None else host, **(headers or {})}
    if not {"content-length", "transfer-encoding"} & {name.lower() for name in given}:
        given["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    with socket.create_connection(("127.0.0.1", port or 0), timeout=60) as connection:
        with contextlib.suppress(ConnectionError):  # it may be refused before its end
            # Latin-1, so that a test can send any byte.
            connection.sendall(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)
        with contextlib.closing(http.client.HTTPResponse(connection, method=method)) as answer:
            answer.begin()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def target_of(url: str) -> str:
    """What an HTTP client asks a server for, of an address."""
    split = urllib.parse.urlsplit(url)
    return f"{split.path}?{split.query}" if split.query else split.path


def stop_hard(stack: Stack) -> None:
    """kill -9 of the API, and wait until its successor runs; a client's own retries do the rest."""
    folder = Folder.load(stack.data_dir)
    before = recorded(folder.run, "aws")
    assert before is not None
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while recorded(folder.run, "aws") in (None, before) or not _answered(folder):
        assert time.monotonic() < deadline, folder.log_tail("aws")
        time.sleep(0.02)


def _answered(folder: Folder) -> bool:
    with contextlib.suppress(OSError):
        return answers(folder, "aws")
    return False
