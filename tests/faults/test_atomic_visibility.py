"""Readers during overwrites: whoever reads sees one version of a document, whole, and never none."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.support import events, truth
from tests.support.documents import find, status_of
from tests.support.faults import Fault
from tests.support.workers import running_worker
from worker.domain.document import Status
from worker.domain.scope import Scope
from worker.services import documents
from worker.settings import Settings

KEYS = [f"book/{name}.txt" for name in ("one", "two", "three", "four")]
DAMAGED = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog"  # nothing after it


def book(version: int, chapters: int) -> bytes:
    """A text of several chunks; each of its sentences tells the version."""
    sentence = f"The tide of v{version:04} drives the old mill by the harbour twice a day, as the miller says. "
    middle = "\n\n".join(f"Chapter {number}. " + sentence * 3 for number in range(chapters))
    return f"Here v{version:04} begins.\n\n{middle}\n\nHere v{version:04} ends.".encode()


def wrong(pieces: Sequence[tuple[int, str]]) -> str | None:
    """What is wrong with a document that was read as these chunks (ordinal, text); None if it is whole and of one version."""
    if not pieces:
        return "nothing was read"
    pieces = sorted(pieces)
    versions = {version for _, text in pieces for version in re.findall(r"v(\d{4})", text)}
    if len(versions) != 1:
        return f"versions {sorted(versions)} in one read"
    (version,) = versions
    if [ordinal for ordinal, _ in pieces] != list(range(len(pieces))):
        return f"chunks {[ordinal for ordinal, _ in pieces]} of v{version}"
    if f"v{version} begins" not in pieces[0][1] or f"v{version} ends" not in pieces[-1][1]:
        return f"v{version} without its beginning or its end"
    return None


def version_of(text: str) -> int:
    return int(text[len("Here v") :][:4])


def served_version(settings: Settings, key: str) -> int:
    detail = documents.show(Scope.of_buckets(settings.buckets), key, settings)
    assert detail is not None
    return version_of(detail.text)


@dataclass
class Readers:
    """Threads that read as fast as they can, and remember what was wrong. Nothing may read older than what was read before."""

    settings: Settings
    reads: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    swaps_seen: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Readers:
        self._threads = [threading.Thread(target=self._run, args=(read,)) for read in (self.show, self.search)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, read: Callable[[str], str | None]) -> None:
        for key in cycle(KEYS):
            if self._stop.is_set():
                return
            try:
                problem = read(key)
            except Exception as error:  # noqa: BLE001 - a read that fails is a violation too
                problem = repr(error)
            self.reads[read.__name__] += 1
            if problem is not None:
                self.problems.append(f"{read.__name__} {key}: {problem}")

    def show(self, key: str) -> str | None:
        detail = documents.show(Scope.of_buckets(self.settings.buckets), key, self.settings)
        if detail is None:
            return "no document"
        chunks = detail.chunks
        if len(chunks) != detail.status.chunks:
            return f"{len(chunks)} chunks of {detail.status.chunks}"
        if any(chunk["text"] != detail.text[chunk["char_start"] : chunk["char_end"]] for chunk in chunks):
            return "a chunk that is not a part of the text beside it"
        if problem := wrong([(chunk["ordinal"], chunk["text"]) for chunk in chunks]):
            return problem
        version, before = version_of(detail.text), self.newest.get(key, -1)
        self.newest[key] = version
        self.swaps_seen += version > before >= 0
        return f"version {version} after {before}" if version < before else None

    def search(self, key: str) -> str | None:
        hits = find(self.settings, "the old mill by the harbour", 100, key)
        return wrong([(hit.ordinal, hit.text) for hit in hits])


@pytest.fixture
def small_chunks(settings: Settings, tmp_path: Path) -> Iterator[None]:
    """A worker that makes several chunks of a text that is quickly embedded."""
    with running_worker(tmp_path / "worker.log", LEX_INGEST_CHUNK_SIZE="400", LEX_INGEST_CHUNK_OVERLAP="40"):
        yield


@pytest.mark.fault("atomic visibility", "0 mixed or partial reads; a failed re-ingest leaves the old text served")
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("small_chunks")
def test_readers_see_one_whole_version_whatever_is_written(fault: Fault, settings: Settings) -> None:
    overwrites = fault.size(16, 200)
    good = dict.fromkeys(KEYS, 0)  # key -> the version that must be served
    events.upload(settings, {key: book(0, 3) for key in KEYS})
    wait_until(lambda: truth.at_rest(settings.database_url), 60, "the first versions are indexed")
    fails = cycle((False, True, False))  # whether a document can't be read in this round
    written = failed = 0
    with Readers(settings) as readers:
        while written < overwrites:
            damaged = set(fault.random.sample(KEYS, 1)) if next(fails) else set()
            for _ in range(fault.random.choice((1, 1, 2))):  # twice: the second comes while the first is worked on
                bodies = {}
                for key in KEYS:
                    written += 1
                    body = book(written, fault.random.randint(2, 8))
                    bodies[key] = DAMAGED + body if key in damaged else body
                    good[key] = good[key] if key in damaged else written
                events.upload(settings, bodies)
            wait_until(lambda: truth.at_rest(settings.database_url), 60, "the new versions are at their ends")
            for key in KEYS:
                status = status_of(settings, key).status
                wanted = Status.FAILED if key in damaged else Status.INDEXED
                fault.require(status is wanted, f"{key} is {status}, and should be {wanted}")
                served = served_version(settings, key)
                fault.require(served == good[key], f"{key} serves version {served}, and should serve {good[key]}")
            failed += len(damaged)
    for problem in readers.problems:
        fault.violation(problem)
    fault.figure("overwrites", written)
    fault.figure("reads by show", readers.reads["show"])
    fault.figure("by search", readers.reads["search"])
    fault.figure("swaps seen", readers.swaps_seen)
    fault.figure("failed re-ingests", failed)
    fault.require(readers.reads["search"] > 0 and readers.swaps_seen > 0, "nobody read while it was written")
    fault.require(failed > 0, "no re-ingest failed")
