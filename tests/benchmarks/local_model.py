"""How fast the local model is, and how long a query waits while it is busy.

Run it: ``python -m tests.benchmarks.local_model`` (about four minutes on two idle cores). It prints

- tokens per second by the way in which windows are run: one per run on one core each, or a batch on all cores;
- for an English text of 586,000 characters and a Japanese one of 510,000, in chunks as the worker sends them: seconds,
  chunks and tokens per second, and the median and the longest wait of a query of one sentence meanwhile.
"""

from __future__ import annotations

import base64
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import openai

from infra.local import minilm
from infra.local.minilm import MODEL, WINDOW, Model
from tests.support.valkey import free_port

CHUNK, OVERLAP, TEXTS, IN_FLIGHT = 4000, 400, 16, 2
QUERY = "Who pays when a rented tool comes back broken?"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _rate(act: Callable[[], object], tokens: int, repeat: int = 5) -> float:
    """Tokens per second of the best of some runs."""
    best = float("inf")
    for _ in range(repeat):
        begun = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - begun)
    return tokens / best


def runs() -> None:
    """Compare one window per run in a thread per core with batches of windows on all cores."""
    cores = len(os.sched_getaffinity(0))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = cores, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(minilm._checked(*minilm._MODEL_FILE), options, providers=["CPUExecutionProvider"])
    model, numbers = Model(), np.random.default_rng(1)

    def batch(ids: np.ndarray) -> None:
        session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})

    with ThreadPoolExecutor(cores) as pool:
        for length in (WINDOW, WINDOW // 2, WINDOW // 4, 16):
            rows = numbers.integers(1000, 30_000, (8 * cores, length))
            alone = _rate(lambda rows=rows: list(pool.map(model.embed_window, rows)), rows.size)
            together = _rate(lambda rows=rows: [batch(part) for part in np.split(rows, cores)], rows.size)
            _say(f"windows of {length:3} tokens: {alone:6.0f} tokens/s one per run, {together:6.0f} in batches of 8 on all cores")


def texts() -> dict[str, str]:
    """A text of each language; the words and letters are in random order, which the model's speed does not depend on."""
    choose = random.Random(1)
    words = re.findall(r"[A-Za-z]{2,}", Path("README.md").read_text())
    letters = "図書館の九時に開く港湾はしけ灯台電気水門をがでとにカタナ、。"
    return {
        "English": " ".join(choose.choice(words) for _ in range(200_000))[:586_000],
        "Japanese": "".join(choose.choice(letters) for _ in range(510_000)),
    }


@contextmanager
def server() -> Iterator[openai.OpenAI]:
    port = free_port()
    command = [sys.executable, "-m", "infra.local.embeddings", "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | {"LEX_LOCAL_KEY": "local"})
    try:
        with openai.OpenAI(api_key="local", base_url=f"http://127.0.0.1:{port}/v1", max_retries=20, timeout=600) as client:
            client.embeddings.create(model=MODEL, input="warm")
            yield client
    finally:
        process.terminate()
        process.wait()


def serving(client: openai.OpenAI, language: str, text: str) -> None:
    """Embed a text in requests of 16 chunks, two in flight, and a query every second."""
    chunks = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK - OVERLAP)]
    waits, done = list[float](), threading.Event()

    def embed(start: int) -> int:
        return client.embeddings.create(model=MODEL, input=chunks[start : start + TEXTS]).usage.total_tokens

    def ask() -> None:
        while not done.wait(1):
            begun = time.perf_counter()
            answer = client.embeddings.create(model=MODEL, input=QUERY, encoding_format="base64")
            waits.append(time.perf_counter() - begun)
            assert len(base64.b64decode(str(answer.data[0].embedding))) == 4 * minilm.DIMENSIONS

    asking = threading.Thread(target=ask)
    asking.start()
    begun = time.perf_counter()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        tokens = sum(pool.map(embed, range(0, len(chunks), TEXTS)))
    seconds = time.perf_counter() - begun
    done.set()
    asking.join()
    _say(
        f"{language}, {len(text):,} characters, {len(chunks)} chunks: {seconds:.0f} s, {len(chunks) / seconds:.1f} chunks/s,"
        f" {tokens / seconds:.0f} tokens/s; a query waits {statistics.median(waits):.2f} s, at most {max(waits):.2f} s"
    )


def main() -> None:
    _say(f"load before: {os.getloadavg()[0]:.1f}")
    runs()
    with server() as client:
        for language, text in texts().items():
            serving(client, language, text)
    _say(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
