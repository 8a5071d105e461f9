"""The sandbox with real processes: whatever a parser does, the file ends typed and the next file is read."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xlsxwriter

from tests.support import docx_files
from tests.support.hostile_parsers import MEMORY, PARSERS, UNCONFINED, read
from worker.domain.document import Status
from worker.domain.errors import NoText, Rejected, TransientError, Unavailable, Unsupported
from worker.domain.retrying import GiveUp, Retry, decide
from worker.extract.reading import WALL_FACTOR, Order
from worker.extract.sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    (tmp_path / "hostile_parsers.py").write_text(PARSERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Sandbox(formats=("hostile_parsers",)) as sandbox:
        yield sandbox


@pytest.fixture
def unconfined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """On a kernel that gives a child nothing but limits."""
    (tmp_path / "unconfined_parsers.py").write_text(UNCONFINED + PARSERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Sandbox(formats=("unconfined_parsers",)) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("deed", "code", "timeout"),
    [
        ("loop", "timeout", 1.0),
        ("memory", "memory", 20.0),
        ("signal 11", "crashed", 20.0),
        ("signal 6", "crashed", 20.0),
        ("segfault", "crashed", 20.0),
        ("exit 0", "crashed", 20.0),
        ("exit 3", "crashed", 20.0),
        ("flood", "too_large", 20.0),
        ("raw {", "crashed", 20.0),
        ("raw []", "crashed", 20.0),
        (
            'raw {"paths":[[]],"blocks":[],"media_type":"a","extractor":"b","title":null,"page_count":null,"warnings":[]}',
            "crashed",
            20.0,
        ),
        ('raw {"paths":[[]],"blocks":[["a\\u0000",0,null,0]],"media_type":"a","extractor":"b"}', "crashed", 20.0),
        ('raw {"error":"TransientError","code":"x","message":"y"}', "crashed", 20.0),
        ("unheard of", "damaged", 20.0),
    ],
)
def test_what_a_parser_does_ends_in_a_code_and_the_next_file_is_read(
    sandbox: Sandbox, tmp_path: Path, deed: str, code: str, timeout: float
) -> None:
    started = time.monotonic()
    with pytest.raises(Rejected) as caught:
        read(sandbox, tmp_path, f"HOSTILE {deed}", timeout)
    assert caught.value.code == code
    assert time.monotonic() - started < 15
    assert read(sandbox, tmp_path, "the next document") == "the next document"


@pytest.mark.parametrize("deed", ["signal 9", "parent"])
def test_a_process_that_is_killed_costs_an_attempt_and_is_no_verdict(unconfined: Sandbox, tmp_path: Path, deed: str) -> None:
    """It may have been the kernel short of memory, an operator, or the file: which one, the next attempt tells."""
    with pytest.raises(TransientError) as caught:
        read(unconfined, tmp_path, f"HOSTILE {deed}")
    assert caught.value.code == "crashed"
    assert isinstance(decide(caught.value, 0, 0.5), Retry)
    assert isinstance(decide(caught.value, 2, 0.5), GiveUp)
    assert read(unconfined, tmp_path, "the next document") == "the next document"


def test_a_parser_that_sleeps_is_ended_by_the_limit_of_wall_time_and_that_is_no_verdict(sandbox: Sandbox, tmp_path: Path) -> None:
    """A host that froze, or one with too much to do, gives a good file no time."""
    started = time.monotonic()
    with pytest.raises(TransientError) as caught:
        read(sandbox, tmp_path, "HOSTILE sleep", timeout=0.5)
    assert caught.value.code == "timeout"
    assert time.monotonic() - started >= WALL_FACTOR * 0.5
    assert isinstance(decide(caught.value, 0, 0.5), Retry)
    assert decide(caught.value, 2, 0.5) == GiveUp(Status.FAILED, "timeout", caught.value.message)
    assert read(sandbox, tmp_path, "the next document") == "the next document"


def test_time_that_a_stopped_parser_waits_does_not_count_as_reading(unconfined: Sandbox, tmp_path: Path) -> None:
    """As on a busy machine: twice the CPU limit goes by, and the file is read."""
    assert read(unconfined, tmp_path, "first") == "first"
    assert unconfined._server is not None
    server = unconfined._server.process.pid
    waited = []

    def wake() -> None:
        children = Path(f"/proc/{server}/task/{server}/children")
        while not (child := children.read_text().split()) or state(int(child[0])) != "T":
            time.sleep(0.02)
        time.sleep(2.0)
        waited.append(state(int(child[0])))
        os.kill(int(child[0]), signal.SIGCONT)

    thread = threading.Thread(target=wake)
    thread.start()
    try:
        assert read(unconfined, tmp_path, "HOSTILE stopped", timeout=1.0) == "went on"
    finally:
        thread.join()
    assert waited == ["T"]


def state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_library_that_aborts_for_want_of_memory_is_no_crash(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        read(sandbox, tmp_path, f"HOSTILE abort {MEMORY}")
    assert caught.value.code == "memory"


def test_the_log_names_the_field_of_an_answer_that_is_refused_and_not_its_text(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Rejected) as caught:
        read(sandbox, tmp_path, "HOSTILE title")
    assert caught.value.code == "crashed"
    logged = capsys.readouterr().err
    assert '"field":"title"' in logged.replace(" ", "")
    assert "a secret title" not in logged + caught.value.message


@pytest.mark.parametrize("memory", [4_000_000, 25_000_000, 60_000_000])
@pytest.mark.parametrize("name", ["a.html", "a.eml", "a.json", "a.csv", "a.md", "a.txt", "a.docx", "a.xlsx"])
def test_a_sound_file_that_needs_more_memory_than_allowed_is_not_called_damaged(
    sandbox: Sandbox, tmp_path: Path, name: str, memory: int
) -> None:
    path = tmp_path / "large"
    path.write_bytes(large(name))
    codes = []
    try:
        sandbox.read(path, Order(name, 60, memory, 20_000_000, 4000, 400))
    except Rejected as error:
        codes.append(error.code)
    assert codes in ([], ["memory"])


def large(name: str) -> bytes:
    """A file of 40,000 paragraphs or so."""
    lines = [f"line {number} of a long text" for number in range(40_000)]
    markup = "".join(f"<p>{line}</p>" for line in lines)
    match name.rpartition(".")[2]:
        case "html":
            return markup.encode()
        case "eml":
            return b"From: a@b\nTo: c@d\nMessage-ID: <1@b>\nContent-Type: text/html\n\n" + markup.encode()
        case "json":
            return json.dumps({"a": [{"b": line} for line in lines]}).encode()
        case "docx":
            return docx_files.container("".join(map(docx_files.paragraph, lines)))
        case "xlsx":
            out = io.BytesIO()
            book = xlsxwriter.Workbook(out, {"in_memory": True})
            sheet = book.add_worksheet("S")
            for number, line in enumerate(lines):
                sheet.write_string(number, 0, line)
            book.close()
            return out.getvalue()
        case "csv":
            return "\n".join(f"{line},1" for line in lines).encode()
    return "\n\n".join(lines).encode()


def test_a_signal_to_all_processes_leaves_the_server_to_its_worker(sandbox: Sandbox, tmp_path: Path) -> None:
    assert read(sandbox, tmp_path, "first") == "first"
    assert sandbox._server is not None
    os.killpg(sandbox._server.process.pid, signal.SIGTERM)
    server = sandbox._server
    assert read(sandbox, tmp_path, "second") == "second"
    assert sandbox._server is server


def test_a_child_sees_no_secret_and_no_descriptor_of_the_worker(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-worker")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret-of-the-worker@host/name")
    with (tmp_path / "private").open("w"), socket.socket():
        shown = read(sandbox, tmp_path, "HOSTILE show")
    assert '"environment"' in shown
    assert "secret-of-the-worker" not in shown
    assert "private" not in shown
    assert shown.count("socket:") == 0
    assert '"celery"' not in shown
    assert '"sqlalchemy"' not in shown


def test_a_child_runs_nobodys_hooks_and_is_its_main_thread(sandbox: Sandbox, tmp_path: Path) -> None:
    assert read(sandbox, tmp_path, "HOSTILE fork") == "[[], true]"


def test_a_child_cannot_write_a_file(sandbox: Sandbox, tmp_path: Path) -> None:
    target = tmp_path / "written"
    with pytest.raises(Rejected):
        read(sandbox, tmp_path, f"HOSTILE write {target}")
    assert not target.exists() or target.stat().st_size == 0


def test_what_a_child_leaves_behind_is_ended(unconfined: Sandbox, tmp_path: Path) -> None:
    assert read(unconfined, tmp_path, "HOSTILE group") == "left a child behind"
    assert unconfined._server is not None
    server = unconfined._server.process.pid
    assert Path(f"/proc/{server}/task/{server}/children").read_text() == ""


def test_an_exception_in_the_middle_of_a_file_leaves_no_stale_answer(sandbox: Sandbox, tmp_path: Path) -> None:
    class SoftTimeLimitExceeded(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise SoftTimeLimitExceeded

    def interrupted_after(delay: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, delay)
        read(sandbox, tmp_path, "HOSTILE sleep", timeout=5.0)

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in (0.001, 0.003, 0.01, 0.03, 0.1, 0.4, 0.8):
            with pytest.raises((SoftTimeLimitExceeded, TransientError)):
                interrupted_after(delay)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert read(sandbox, tmp_path, f"after {delay}") == f"after {delay}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_killed_server_is_started_again(sandbox: Sandbox, tmp_path: Path) -> None:
    assert read(sandbox, tmp_path, "first") == "first"
    assert sandbox._server is not None
    sandbox._server.process.kill()
    sandbox._server.process.wait()
    assert read(sandbox, tmp_path, "second") == "second"


def test_the_server_ends_with_the_worker(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    worker = os.fork()
    if worker == 0:
        sandbox = Sandbox()
        read(sandbox, tmp_path, "text")
        assert sandbox._server is not None
        os.write(writing, str(sandbox._server.process.pid).encode())
        os._exit(0)
    os.waitpid(worker, 0)
    server = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    deadline = time.monotonic() + 5
    while alive(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(server)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def test_a_forked_worker_takes_its_own_server(sandbox: Sandbox, tmp_path: Path) -> None:
    assert read(sandbox, tmp_path, "parent") == "parent"
    assert sandbox._server is not None
    server = sandbox._server.process.pid
    worker = os.fork()
    if worker == 0:
        own = tmp_path / "own"
        own.mkdir()
        text = read(sandbox, own, "child")
        done = text == "child" and sandbox._server is not None and sandbox._server.process.pid != server
        sandbox.close()
        os._exit(0 if done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
    assert read(sandbox, tmp_path, "parent again") == "parent again"
    assert sandbox._server is not None
    assert sandbox._server.process.pid == server


def test_a_server_that_cannot_start_costs_no_document_anything(tmp_path: Path) -> None:
    sandbox = Sandbox(formats=("no_such_module",))
    with pytest.raises(Unavailable) as caught:
        read(sandbox, tmp_path, "text")
    assert caught.value.code == "sandbox_unavailable"


def test_refusals_keep_their_type_across_the_border(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(NoText) as empty:
        read(sandbox, tmp_path, "")
    assert empty.value.code == "empty"
    with pytest.raises(Unsupported, match="application/rtf"):
        read(sandbox, tmp_path, "{\\rtf1 text}")


def test_the_text_limit_holds_at_the_border(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("word " * 1000)
    with pytest.raises(Rejected) as caught:
        sandbox.read(path, Order("long.txt", 20, MEMORY, 100, 4000, 400))
    assert caught.value.code == "too_large"


def test_a_small_document_costs_a_few_milliseconds(sandbox: Sandbox, tmp_path: Path) -> None:
    def spent() -> float:
        assert sandbox._server is not None
        fields = Path(f"/proc/{sandbox._server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        own = resource.getrusage(resource.RUSAGE_SELF)
        return own.ru_utime + own.ru_stime + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    read(sandbox, tmp_path, "warm")
    before = spent()
    for number in range(100):
        assert read(sandbox, tmp_path, f"document {number}") == f"document {number}"
    # Measured: 7 ms; the goal is 15 (issue 4); a parser imported per document would be 500.
    assert (spent() - before) / 100 < 0.03
