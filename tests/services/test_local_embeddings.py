"""The local embedding server, asked through the real ``openai`` client, and by sockets where that client can't be as rude."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import openai
import pytest

from infra.local import child
from infra.local.embeddings import MAX_CONNECTIONS, MAX_REQUESTS
from infra.local.folder import Folder
from infra.local.parts import answers
from infra.local.session_priority import AUTOGROUP, LOW
from infra.local.stack import Stack, down, up

MODEL = "all-minilm-l6-v2-int8"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("OPENAI_API_KEY", raising=False)
        folder = tmp_path_factory.mktemp("embeddings")
        running = up(folder, parts=("embeddings",), detach=False)
        yield running
        down(folder)
        assert running.supervisor is not None
        running.supervisor.wait()


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key=stack.environment["OPENAI_API_KEY"], base_url=stack.environment["OPENAI_BASE_URL"], max_retries=0
    ) as made:
        yield made


def vectors(client: openai.OpenAI, *texts: str) -> np.ndarray:
    answer = client.embeddings.create(model=MODEL, input=list(texts))
    assert [item.index for item in answer.data] == list(range(len(texts)))
    return np.array([item.embedding for item in answer.data])


def test_vectors_are_of_length_1_and_near_for_texts_that_mean_the_same(client: openai.OpenAI) -> None:
    cat, kitten, rates = vectors(
        client, "The cat sat on the mat.", "A kitten is resting on a rug.", "The central bank raised interest rates in March."
    )
    assert cat.shape == (384,)
    assert np.linalg.norm(cat) == pytest.approx(1.0, abs=1e-5)
    assert cat @ kitten > 0.4 > 0.2 > cat @ rates


def test_the_last_sentence_of_a_long_text_counts(client: openai.OpenAI) -> None:
    start = " ".join(f"Sentence {number} tells of the river and its banks in spring." for number in range(80))
    volcano, law, question = vectors(
        client, f"{start} At last the volcano erupted.", f"{start} At last the tax law passed.", "an erupting volcano"
    )
    assert volcano @ law < 0.9995
    assert question @ volcano > question @ law


def test_a_text_has_the_same_vector_alone_and_in_a_batch_of_other_lengths(client: openai.OpenAI) -> None:
    texts = ["short", "a middling sentence about the weather in the north", "word " * 700, "é ü 漢字 😀"]
    together = vectors(client, *texts)
    for text, vector in zip(texts, together, strict=True):
        assert vectors(client, text)[0].tolist() == vector.tolist()


def test_both_encodings_carry_the_same_numbers_and_usage_counts_tokens(client: openai.OpenAI) -> None:
    # Not asked for an encoding, the client takes base64 and decodes it.
    encoded = client.embeddings.create(model=MODEL, input="two words")
    plain = client.embeddings.create(model=MODEL, input="two words", encoding_format="float")
    assert encoded.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (2, 2)
    assert [model.id for model in client.models.list()] == [MODEL]


def test_what_can_not_be_answered_raises_the_clients_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model"):
        client.embeddings.create(model="text-embedding-3-small", input="x")
    with pytest.raises(openai.BadRequestError, match="384"):
        client.embeddings.create(model=MODEL, input="x", dimensions=256)
    with pytest.raises(openai.BadRequestError, match="empty"):
        client.embeddings.create(model=MODEL, input=["x", ""])
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="wrong").embeddings.create(model=MODEL, input="x")
    assert caught.value.code == "invalid_api_key"


def test_the_server_writes_nothing_into_the_home_folder(stack: Stack, client: openai.OpenAI) -> None:
    vectors(client, "anything")
    home = stack.data_dir.parent / "home0"
    assert json.loads((stack.data_dir / "run" / "processes.json").read_text())["embeddings"]["environment"]["HOME"] == str(home)
    assert list(home.rglob("*")) == []


def test_the_model_server_has_a_session_of_its_own(stack: Stack) -> None:
    pid = child.recorded(stack.data_dir / "run", "embeddings")
    assert pid is not None
    assert os.getsid(pid) == pid


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not divide the processors between sessions (sched(7))")
def test_the_model_server_has_a_low_priority_while_it_reads_a_document(stack: Stack, client: openai.OpenAI) -> None:
    pid = child.recorded(stack.data_dir / "run", "embeddings")
    reading = threading.Thread(target=vectors, args=(client, "word " * 20_000))
    reading.start()
    seen = set()
    # Look during the work: on a busy machine, a starved step gives the session its usual priority again.
    while reading.is_alive():
        seen.add(Path(f"/proc/{pid}/autogroup").read_text().rpartition(" ")[2].strip())
        time.sleep(0.01)
    assert str(LOW) in seen


def test_another_program_on_its_port_is_not_taken_for_the_model_server(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        folder = Folder(tmp_path, ports={"embeddings": other.server_port})
        assert not answers(folder, "embeddings")
        other.shutdown()


# What the server does with requests that are large, hostile, or whose client leaves.

# Minutes of work for the machine, so that a test never sees its end by chance; below the bound of a request.
LONG = ["the keeper of the lighthouse rowed to the harbour in the storm " * 100] * 180
SOON = 60.0  # seconds, of which an idle machine needs one


def status(stack: Stack) -> dict[str, Any]:
    answer = httpx2.get(
        f"{stack.environment['OPENAI_BASE_URL']}/status",
        headers={"Authorization": f"Bearer {stack.environment['OPENAI_API_KEY']}"},
        timeout=SOON,
    )
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def until(stack: Stack, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + SOON
    while not holds(found := status(stack)):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def long_request(stack: Stack) -> Iterator[socket.socket]:
    """A request that the server works on; its client leaves at the end."""
    waiting = status(stack)["waiting_texts"]
    body = json.dumps({"model": MODEL, "input": LONG}).encode()
    with connection(stack) as client:
        client.sendall(head(stack, f"Content-Length: {len(body)}") + body)
        until(stack, lambda found: bool(found["waiting_texts"] > waiting))
        yield client


def connection(stack: Stack) -> socket.socket:
    base = urlsplit(stack.environment["OPENAI_BASE_URL"])
    return socket.create_connection((base.hostname, base.port), timeout=SOON)


def head(stack: Stack, *fields: str) -> bytes:
    lines = ["POST /v1/embeddings HTTP/1.1", "Host: localhost", f"Authorization: Bearer {stack.environment['OPENAI_API_KEY']}"]
    return "\r\n".join([*lines, *fields, "", ""]).encode()


def answer_of(client: socket.socket) -> tuple[int, Any]:
    received = b""
    while piece := client.recv(65536):
        received += piece
    first, _, body = received.partition(b"\r\n\r\n")
    return int(first.split()[1]), json.loads(body)


def test_a_query_and_a_note_are_answered_while_a_long_request_is_at_work(stack: Stack, client: openai.OpenAI) -> None:
    with long_request(stack):
        vectors(client, "who keeps the lighthouse?")
        vectors(client, "The boathouse key is number forty-one. " * 60)
        assert [model.id for model in client.models.list()] == [MODEL]
        found = status(stack)
        # The long one is still at work: nothing waited for its end.
        assert found["requests"] == 1
        assert 0 < found["waiting_texts"] <= len(LONG)
        assert found["tokens_per_second"] > 0


def test_a_request_whose_client_left_is_not_computed_to_the_end(stack: Stack, client: openai.OpenAI) -> None:
    dropped = status(stack)["dropped"]
    with long_request(stack):
        pass
    until(stack, lambda found: bool(found["dropped"] == dropped + 1 and found["requests"] == 0 and found["waiting_texts"] == 0))
    # The client's own way to leave is a time-out.
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).embeddings.create(model=MODEL, input=LONG)
    until(stack, lambda found: bool(found["dropped"] == dropped + 2 and found["requests"] == 0 and found["waiting_texts"] == 0))


def test_more_requests_than_may_wait_are_asked_to_come_again(stack: Stack) -> None:
    body = json.dumps({"model": MODEL, "input": LONG[:20]}).encode()
    request = head(stack, f"Content-Length: {len(body)}") + body
    with contextlib.ExitStack() as waiting:
        for _ in range(MAX_REQUESTS):
            waiting.enter_context(connection(stack)).sendall(request)
        until(stack, lambda found: bool(found["requests"] == MAX_REQUESTS))
        answer = httpx2.post(
            f"{stack.environment['OPENAI_BASE_URL']}/embeddings",
            headers={"Authorization": f"Bearer {stack.environment['OPENAI_API_KEY']}"},
            json={"model": MODEL, "input": "one more"},
            timeout=SOON,
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(answer.headers["Retry-After"]) > 0
    until(stack, lambda found: bool(found["requests"] == 0))


def test_the_status_needs_the_key(stack: Stack) -> None:
    answer = httpx2.get(f"{stack.environment['OPENAI_BASE_URL']}/status", headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_request_beyond_the_bounds_is_refused_in_words_that_clients_know(client: openai.OpenAI) -> None:
    page = "lighthouse " * 4000
    with pytest.raises(openai.BadRequestError, match="max 300000 tokens per request") as many:
        client.embeddings.create(model=MODEL, input=[page] * 80)
    assert many.value.code == "max_tokens_per_request"
    with pytest.raises(openai.BadRequestError, match="maximum context length") as long:
        client.embeddings.create(model=MODEL, input=page * 80)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.APIStatusError, match="4000000 bytes") as large:
        client.embeddings.create(model=MODEL, input="lighthouse " * 500_000)
    assert (large.value.status_code, large.value.code) == (413, "request_too_large")
    with pytest.raises(openai.BadRequestError, match="2048"):
        client.embeddings.create(model=MODEL, input=["x"] * 2049)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 200_000, 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b'{"model": ["x"], "input": "x"}', 404),
        (b'{"input": "x"}', 404),
        (rb'{"model": "MODEL", "input": "\ud800"}', 400),
        (rb'{"model": "MODEL", "input": ["sound", "\udfff cut"]}', 400),
        (b'{"model": "MODEL", "input": ""}', 400),
        (b'{"model": "MODEL", "input": []}', 400),
        (b'{"model": "MODEL", "input": true}', 400),
        (b'{"model": "MODEL", "input": [true]}', 400),
        (b'{"model": "MODEL", "input": [1, 2]}', 400),
        (b'{"model": "MODEL", "input": null}', 400),
        (b'{"model": "MODEL", "input": {"0": "x"}}', 400),
        (b'{"model": "MODEL", "input": "x", "dimensions": true}', 400),
        (b'{"model": "MODEL", "input": "x", "dimensions": {}}', 400),
        (b'{"model": "MODEL", "input": "x", "encoding_format": "int8"}', 400),
        (b'{"model": "MODEL", "input": "x", "encoding_format": []}', 400),
    ],
)
def test_a_body_that_can_not_be_read_is_refused_in_openais_form(stack: Stack, body: bytes, code: int) -> None:
    body = body.replace(b"MODEL", MODEL.encode())
    with connection(stack) as client:
        client.sendall(head(stack, f"Content-Length: {len(body)}") + body)
        answered, content = answer_of(client)
    assert (answered, set(content["error"])) == (code, {"message", "type", "param", "code"})
    assert status(stack)["requests"] == 0


@pytest.mark.parametrize(
    ("fields", "rest"),
    [
        (("Content-Type: application/json",), b'{"model": "x", "input": "x"}'),
        (("Content-Length: -5",), b"{}"),
        (("Content-Length: many",), b"{}"),
        (("Content-Length: 500",), b'{"model": '),
        (("Transfer-Encoding: chunked",), b"many\r\n{}\r\n0\r\n\r\n"),
        (("Transfer-Encoding: chunked",), b"5\r\n{}"),
    ],
)
def test_a_body_without_its_length_is_refused_in_openais_form(stack: Stack, fields: tuple[str, ...], rest: bytes) -> None:
    with connection(stack) as client:
        client.sendall(head(stack, *fields) + rest)
        client.shutdown(socket.SHUT_WR)
        answered, content = answer_of(client)
    assert (answered, set(content["error"])) == (400, {"message", "type", "param", "code"})


def test_control_characters_alone_have_finite_vectors(client: openai.OpenAI) -> None:
    found = vectors(client, "\0", "\x01\x02", " \n", "\0sound\0")
    assert np.isfinite(found).all()
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(4), abs=1e-5)


def test_idle_connections_hold_no_more_threads_than_stated_and_give_them_back(stack: Stack, client: openai.OpenAI) -> None:
    pid = next(part.pid for part in stack.parts() if part.name == "embeddings")
    threads = Path(f"/proc/{pid}/task")
    before = len(list(threads.iterdir()))
    with contextlib.ExitStack() as idle:
        for _ in range(MAX_CONNECTIONS + 20):
            last = idle.enter_context(connection(stack))
        while not select.select([last], [], [], 0.05)[0]:
            assert len(list(threads.iterdir())) - before <= MAX_CONNECTIONS
        assert last.recv(1) == b""
    end = time.monotonic() + SOON
    while True:
        try:
            vectors(client, "still here")
            break
        except openai.APIConnectionError:
            assert time.monotonic() < end
            time.sleep(0.1)


# Root reads every process's memory by this capability, which is given up for good before the server starts and in the reader.
WITHOUT_PTRACE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 19, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_SYS_PTRACE
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
OPEN_MEMORY = "import sys; open(f'/proc/{sys.argv[1]}/mem', 'rb').close()"


def test_the_memory_with_the_key_can_not_be_read_from_outside_and_the_process_can_still_be_watched(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"LEX_LOCAL_KEY": "secret", "HOME": str(tmp_path)}
        return subprocess.Popen([sys.executable, "-c", WITHOUT_PTRACE, *arguments], env=environment, stderr=subprocess.PIPE)

    def is_readable(process: subprocess.Popen[bytes]) -> bool:
        with run("-c", OPEN_MEMORY, str(process.pid)) as reader:
            _, errors = reader.communicate(timeout=SOON)
        assert reader.returncode == 0 or b"PermissionError" in errors
        return reader.returncode == 0

    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    open_process, server = run("-c", "import time; time.sleep(600)"), run("-m", "infra.local.embeddings", "--port", str(port))
    try:
        end = time.monotonic() + SOON
        while True:
            try:
                httpx2.get(f"http://127.0.0.1:{port}/v1/models").close()
                break
            except httpx2.ConnectError:
                assert server.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)
        assert is_readable(open_process)
        assert not is_readable(server)
        assert child.identity(server.pid) is not None
    finally:
        for process in (open_process, server):
            process.terminate()
            process.communicate()
