"""What a parser that was taken over can reach: nothing but its document and the code. Each line of defence by itself, too."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.extract.confinement import landlock_version
from worker.extract.reading import Order
from worker.extract.sandbox import Sandbox

SECRET = "SECRET_OF_A_SIBLING"
PARSER = """
import ctypes, json, os, signal, socket, threading
from worker.domain.text import Block, Extraction
from worker.extract import confinement
from worker.extract.registry import Format

FORMATS = (Format("curious", "application/x-curious", __name__, magic=(b"CURIOUS ",)),)
LIBC = ctypes.CDLL(None, use_errno=True)

def attempt(deed, argument):
    match deed:
        case "read": return open(argument, "rb").read().decode("utf-8", "replace")
        case "list": return os.listdir(argument)
        case "write": return open(argument, "w").write("x")
        case "connect":
            with socket.socket(socket.AF_UNIX) as end: return end.connect(argument)
        case "internet":
            with socket.socket() as end: return end.connect(("127.0.0.1", int(argument)))
        case "signal": return os.kill(int(argument), signal.SIGUSR1)
        case "fork":
            child = os.fork()
            if child == 0: os._exit(0)
            return os.waitpid(child, 0)
        case "exec": return os.execv("/bin/true", ["true"])
        case "trace":
            if LIBC.ptrace(16, int(argument), 0, 0) != 0: raise PermissionError("ptrace")
            return LIBC.ptrace(17, int(argument), 0, 0)
        case "thread":
            thread = threading.Thread(target=lambda: None); thread.start(); thread.join(); return "joined"
        case "abort": os.abort()
        case "import":
            import email.mime.audio; return "imported"
        case "document": return os.listdir("/proc/self/fd") and "listed"

def extract(path, limits):
    _, deed, argument = path.read_text().split(" ", 2)
    try:
        answer = {"did": attempt(deed, argument)}
    except OSError as error:
        answer = {"refused": type(error).__name__}
    return Extraction((Block(json.dumps(answer)),), "application/x-curious", "curious")
"""
# One defence alone: the files' without the filter of system calls, and the filter without the files'.
FILES_ALONE = PARSER + "confinement.syscall_filter.refuse_system_calls = lambda: True\n"
FILTER_ALONE = PARSER + "confinement.Confinement._restrict_files = lambda *_: None\n"
needs_landlock = pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no Landlock: what holds without is tested")


@pytest.fixture
def sibling() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user with a secret in its environment, which does not hide it."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={"TOKEN": SECRET})
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def hiding_sibling() -> Iterator[subprocess.Popen[bytes]]:
    """One that hides its memory, as the worker's processes do."""
    code = "import time; from worker.process import hide_memory; hide_memory(); print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], env={"TOKEN": SECRET}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def ask(folder: Path, monkeypatch: pytest.MonkeyPatch, parser: str, *questions: str) -> list[dict[str, object]]:
    """What a parser answers, each question asked of a child of its own."""
    (folder / "curious_parser.py").write_text(parser)
    monkeypatch.syspath_prepend(str(folder))
    document = folder / "document"
    answers = []
    with Sandbox(formats=("curious_parser",)) as sandbox:
        for question in questions:
            document.write_text(f"CURIOUS {question}")
            answers.append(json.loads(sandbox.read(document, Order("x", 20, 500_000_000, 100_000, 4000, 400)).text))
    return answers


@needs_landlock
def test_a_parser_reaches_no_file_no_process_and_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sibling: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "other").write_text("another document")
    with socket.socket(socket.AF_UNIX) as server, socket.socket() as listening:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        questions = [
            f"read {tmp_path}/other", f"read /proc/{sibling.pid}/environ", f"read /proc/{sibling.pid}/mem", "read /etc/passwd",
            "list /", f"list {tmp_path}", f"write {tmp_path}/new", f"connect {tmp_path}/socket",
            f"internet {listening.getsockname()[1]}", f"signal {sibling.pid}", f"signal {os.getpid()}", "fork -", "exec -",
            f"trace {sibling.pid}",
        ]  # fmt: skip
        answers = ask(tmp_path, monkeypatch, PARSER, *questions)
    assert {question: answer for question, answer in zip(questions, answers, strict=True) if "refused" not in answer} == {}
    assert sibling.poll() is None


def test_a_parser_can_do_what_parsers_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ask(tmp_path, monkeypatch, PARSER, "thread -", "import -", "document -", "read /dev/null")
    assert [answer.get("did") for answer in answers] == ["joined", "imported", "listed", ""]


@needs_landlock
def test_files_and_processes_are_closed_by_landlock_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sibling: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "other").write_text("another document")
    answers = ask(tmp_path, monkeypatch, FILES_ALONE, f"read {tmp_path}/other", f"read /proc/{sibling.pid}/environ", "fork -")
    assert answers[:2] == [{"refused": "PermissionError"}] * 2
    assert "did" in answers[2], "the filter is away"


def test_what_hides_its_memory_is_closed_even_to_root_without_landlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hiding_sibling: subprocess.Popen[bytes]
) -> None:
    other = tmp_path / "other"
    other.write_text("another document")
    pid = hiding_sibling.pid
    questions = (f"read /proc/{pid}/environ", f"trace {pid}", f"signal {pid}", "fork -", "exec -", f"read {other}")
    *refused, read = ask(tmp_path, monkeypatch, FILTER_ALONE, *questions)
    assert all("refused" in answer for answer in refused), refused
    assert read == {"did": "another document"}, "the files' defence is away"
