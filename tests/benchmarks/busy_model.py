"""A long document in the local model, and everybody else meanwhile.

    python -m tests.benchmarks.busy_model [--busy 6 [--apart]]

A stack of its own with default settings, used through the command line. First a PDF of 200 pages and 586,000 characters, then a
Japanese text of 510,000 characters that is removed in the middle, then the same text to its end. While each is embedded: hybrid
searches one after the other, and a note of one page. ``--busy N`` runs N processes beside it that do nothing but use a core, in
the session of the searches or, with ``--apart``, each in a session of its own: Linux shares the processors between sessions first
(sched(7), "The autogroup feature").

Prints, for each document, the seconds until it was INDEXED and the longest time without one more chunk embedded; for searches the
median and the slowest, in seconds of the whole command.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from infra.local.folder import Folder
from tests.support.stack import LEX, ROOT, environment

PAGES, ENGLISH, JAPANESE = 200, 586_000, 510_000
SAMPLES = ROOT / "infra" / "samples"
ENGLISH_SAMPLES = ("community", "energy", "legal", "operations", "science")
QUESTIONS = ("who may borrow a chain saw", "a turbine that stood still", "how is the starter fed", "a lamp of the lighthouse")
# Chunks of a document in all, and those whose text has a vector.
_PROGRESS = """
SELECT d.status, count(c.*) AS chunks, count(v.text_sha256) AS embedded
FROM documents d LEFT JOIN document_chunks c ON c.document_id = d.id AND c.generation = d.generation
LEFT JOIN embeddings_{profile} v ON v.text_sha256 = c.text_sha256 WHERE d.key = %s GROUP BY d.status
"""


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what the command is for


def english() -> list[str]:
    """Lines of words as the English samples use them, none like another."""
    paths = sorted(path for folder in ENGLISH_SAMPLES for path in (SAMPLES / "sources" / folder).glob("*.md"))
    words = [word for path in paths for word in re.findall(r"[a-z]+", path.read_text())]
    chosen, lines = random.Random(1), []
    width = ENGLISH // (PAGES * 40)
    while len(lines) < PAGES * 40:
        line = ""
        while len(line) < width:
            line += chosen.choice(words) + (". " if chosen.random() < 0.08 else " ")
        lines.append(line[:width])
    return lines


def pdf(path: Path) -> None:
    canvas, lines = Canvas(str(path), A4), english()
    for page in range(PAGES):
        text = canvas.beginText(60, 790)
        text.setFont("Helvetica", 9)
        text.textLines(lines[page * 40 : page * 40 + 40])
        canvas.drawText(text)
        canvas.showPage()
    canvas.save()


def japanese(path: Path) -> None:
    letters = re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", (SAMPLES / "documents/web/ja/sencha.html").read_text())
    chosen = random.Random(2)
    sentences = ("".join(chosen.choices(letters, k=59)) + "。" for _ in range(JAPANESE // 60))
    path.write_text("\n".join(sentences))


@dataclass
class Watch:
    """How one document comes along, looked at twice a second by a thread of its own."""

    address: str
    key: str
    started: float = field(default_factory=time.monotonic)
    status: str = ""
    chunks: int = 0
    embedded: int = 0
    ended: float | None = None
    longest_still: float = 0.0

    def run(self) -> None:
        with psycopg.connect(self.address, autocommit=True) as connection:
            serving = connection.execute("SELECT id FROM embedding_profiles WHERE serving").fetchone()
            assert serving is not None
            query = _PROGRESS.format(profile=serving[0])
            moved = time.monotonic()
            while self.ended is None:
                row = connection.execute(query, (self.key,)).fetchone()  # type: ignore[arg-type]  # made of our own names
                if row is not None:
                    moved = time.monotonic() if row[2] > self.embedded or not row[1] else moved
                    self.status, self.chunks, self.embedded = row
                    if self.status in ("INDEXED", "FAILED", "DELETED"):
                        self.ended = time.monotonic()
                self.longest_still = max(self.longest_still, time.monotonic() - moved)
                time.sleep(0.5)


class Stack:
    """The stack of the benchmark, by the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lex("up", "--detach")
        self.address = Folder.load(folder).environment["DATABASE_URL"]

    def lex(self, *arguments: str) -> float:
        """Run a command, and return the seconds that it took."""
        started = time.monotonic()
        command = [*LEX, arguments[0], "--data-dir", str(self.folder), *arguments[1:]]
        variables = {name: value for name, value in environment().items() if not name.startswith("LEX_INGEST_")}
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder.parent, env=variables, check=False)
        if done.returncode != 0:
            say(f"  FAILED {arguments[0]}: {done.stderr.strip().splitlines()[-1:]}")
        return time.monotonic() - started

    def watch(self, path: Path) -> Watch:
        self.lex("put", str(path))
        watch = Watch(self.address, path.name)
        threading.Thread(target=watch.run, daemon=True).start()
        return watch


def search(stack: Stack, number: int) -> list[float]:
    return [stack.lex("search", QUESTIONS[turn % len(QUESTIONS)]) for turn in range(number)]


def told(seconds: list[float]) -> str:
    return f"{len(seconds)} searches: median {statistics.median(seconds):.1f} s, slowest {max(seconds):.1f} s"


def beside(stack: Stack, watch: Watch, folder: Path, searches: int) -> None:
    """Searches and a note while the document is embedded, then its end."""
    while not watch.embedded and watch.ended is None:
        time.sleep(0.2)
    note = folder / f"note beside {watch.key}.txt"
    note.write_text(f"A note of one page, put while {watch.key} is read. " + " ".join(english()[:30]))
    noted = stack.watch(note)
    seconds = search(stack, searches)
    running = watch.ended is None
    while watch.ended is None or noted.ended is None:
        time.sleep(0.2)
    say(f"{watch.key}: {watch.status} after {watch.ended - watch.started:.1f} s, {watch.chunks} chunks")
    say(f"  longest time without one more chunk: {watch.longest_still:.1f} s")
    say(f"  {told(seconds)}{'' if running else ' (the document ended before the last one)'}")
    say(f"  note beside it: {noted.status} after {noted.ended - noted.started:.1f} s")


@contextmanager
def busy(count: int, apart: bool) -> Iterator[None]:
    command = [sys.executable, "-c", "while True: pass"]
    processes: list[subprocess.Popen[Any]] = [subprocess.Popen(command, start_new_session=apart) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.busy_model", description=__doc__)
    parser.add_argument("--busy", type=int, default=0, help="processes that use a core each")
    parser.add_argument("--apart", action="store_true", help="each of these processes in a session of its own")
    parser.add_argument("--searches", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pdf(folder / "book.pdf")
        japanese(folder / "long.ja.txt")
        stack = Stack(folder / "stack")
        try:
            say(f"a search of the empty stack: {stack.lex('search', QUESTIONS[0]):.1f} s")
            with busy(arguments.busy, arguments.apart):
                beside(stack, stack.watch(folder / "book.pdf"), folder, arguments.searches)
                removed = stack.watch(folder / "long.ja.txt")
                while removed.embedded < 20:
                    time.sleep(0.1)
                stack.lex("rm", "long.ja.txt")
                say(f"after a removal in the middle: {told(search(stack, 3))}")
                while removed.ended is None:
                    time.sleep(0.1)
                (folder / "long.ja.txt").rename(folder / "again.ja.txt")
                beside(stack, stack.watch(folder / "again.ja.txt"), folder, arguments.searches)
        finally:
            stack.lex("down")


if __name__ == "__main__":
    main()
