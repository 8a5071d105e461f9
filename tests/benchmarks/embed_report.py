"""What embedding asks of the provider when documents come, come again, move, change a little, or a worker is killed.

Run it: ``make embed-report``. A whole local stack with a provider of its own, a process that counts each text; a row for each
thing that happens to 100 documents, with what was asked for, and what may be. Exit code 1 where a row asks for more.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psycopg

from infra.local import child, stack
from tests.support.provider_server import ProviderProcess
from tests.support.storm import messages_in

DOCUMENTS, PARAGRAPHS = 100, 100
BATCH = 128
# Seconds for all documents to come to rest: a killed worker's leases have to run out.
REST = 120.0
_LETTERS = "etaoinshrdlucmfwypvbgk"


@dataclass(frozen=True)
class Row:
    """``inputs`` were billed by the provider, ``most`` may be."""

    what: str
    calls: int
    inputs: int
    most: int
    note: str


def document(choose: random.Random) -> list[str]:
    """Paragraphs that stand nowhere else."""
    words = ["".join(choose.choices(_LETTERS, k=choose.randint(2, 9))) for _ in range(60 * PARAGRAPHS)]
    return [" ".join(words[start : start + 60]) + "." for start in range(0, len(words), 60)]


@contextmanager
def running(folder: Path, provider: ProviderProcess, in_flight: int) -> Iterator[stack.Stack]:
    """A stack whose lost work is looked for soon."""
    ours = ("LEX_INGEST_", "OPENAI_", "AWS_")
    saved = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(ours)]:
        del os.environ[name]
    os.environ |= {
        "OPENAI_API_KEY": "test", "OPENAI_BASE_URL": provider.base_url, "LEX_INGEST_EMBEDDING_PROVIDER": "test",
        "LEX_INGEST_EMBEDDING_MODEL": "table", "LEX_INGEST_EMBEDDING_DIMENSIONS": "384",
        "LEX_INGEST_EMBEDDING_BATCH": str(BATCH), "LEX_INGEST_EMBEDDING_IN_FLIGHT": str(in_flight),
        "LEX_INGEST_TICK": "1", "LEX_INGEST_REQUEUE_AFTER": "4", "LEX_INGEST_LEASE": "8",
    }  # fmt: skip
    started = stack.up(folder, provider="env", detach=False)
    os.environ |= started.environment
    # boto3's default session keeps the keys of the first stack.
    boto3.setup_default_session()
    try:
        yield started
    finally:
        stack.down(folder)
        if started.supervisor is not None:
            started.supervisor.wait()
        os.environ.clear()
        os.environ |= saved


class Report:
    def __init__(self, running: stack.Stack, provider: ProviderProcess) -> None:
        self._stack, self._provider = running, provider
        self._client = boto3.client("s3")
        self._bucket = running.environment["BUCKET"]
        self.texts: dict[str, list[str]] = {}

    def put(self, key: str, paragraphs: list[str]) -> None:
        self.texts[key] = paragraphs
        self._client.put_object(Bucket=self._bucket, Key=key, Body="\n\n".join(paragraphs).encode(), ContentType="text/plain")

    def copy(self, old: str, new: str, **options: Any) -> None:
        self._client.copy_object(Bucket=self._bucket, Key=new, CopySource={"Bucket": self._bucket, "Key": old}, **options)
        self.texts[new] = self.texts[old]

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=key)
        del self.texts[key]

    def rest(self) -> None:
        """Wait until no event and no document waits, and every one of them is served."""
        deadline = time.monotonic() + REST
        while True:
            with psycopg.connect(self._stack.environment["DATABASE_URL"], autocommit=True) as connection:
                row = connection.execute(
                    "SELECT count(*) FILTER (WHERE due_at IS NOT NULL), count(*) FILTER (WHERE status = 'INDEXED') FROM documents"
                ).fetchone()
            if row == (0, len(self.texts)) and messages_in(self._stack.environment["QUEUE_URL"]) == 0:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"not at rest after {REST:g} s: (waiting, indexed) are {row}, of {len(self.texts)}")
            time.sleep(0.1)

    def chunks(self) -> int:
        """Different texts of all that is served."""
        with psycopg.connect(self._stack.environment["DATABASE_URL"], autocommit=True) as connection:
            row = connection.execute("SELECT count(DISTINCT text_sha256) FROM document_chunks").fetchone()
        return row[0] if row else 0

    def row(self, what: str, act: Callable[[], object], most: Callable[[], int]) -> Row:
        self._provider.reset(counts_only=True)
        act()
        self.rest()
        billed = self._provider.stats()["billed"]
        found = Row(what, billed["requests"], billed["inputs"], most(), f"of {self.chunks()} texts")
        _print(found)
        return found

    def kill_in_the_middle(self, documents: dict[str, list[str]]) -> None:
        """Put documents, and kill -9 the process that embeds once the provider has answered a part of them."""
        for key, paragraphs in documents.items():
            self.put(key, paragraphs)
        deadline = time.monotonic() + REST
        while not 0 < self._provider.stats()["billed"]["inputs"] < 8 * len(documents) or not self._provider.stats()["in_flight"]:
            if time.monotonic() > deadline:
                raise SystemExit("no request was on its way")
            time.sleep(0.005)
        pid = child.recorded(self._stack.data_dir / "run", "embedder")
        if pid is None:
            raise SystemExit("the embedder does not run")
        os.kill(pid, signal.SIGKILL)


def _none() -> int:
    return 0


def _print(row: Row) -> None:
    verdict = "" if row.inputs <= row.most else "  TOO MANY"
    sys.stdout.write(f"{row.what:44} {row.calls:6} {row.inputs:7} {row.most:8}{verdict}  {row.note}\n")
    sys.stdout.flush()


def _killed(report: Report, fresh: dict[str, list[str]], in_flight: int) -> Row:
    what = f"kill -9 in the middle, {in_flight} in flight"
    return report.row(what, lambda: report.kill_in_the_middle(fresh), lambda: report.chunks() + BATCH * in_flight)


def main() -> int:
    choose = random.Random(1)
    sys.stdout.write(f"{DOCUMENTS} documents{'':31} {'calls':>6} {'inputs':>7} {'at most':>8}\n")
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="lex-ingest-report-") as name,
        ProviderProcess(dimensions=384, vectors="table", latency=0.2) as provider,
    ):
        keys = [f"reports/{number:03}.txt" for number in range(DOCUMENTS)]
        with running(Path(name) / "one", provider, in_flight=12) as started:
            report = Report(started, provider)
            first = {key: document(choose) for key in keys}

            def each(act: Callable[[str], object], which: list[str]) -> Callable[[], None]:
                return lambda: [act(key) for key in which] and None

            rows.append(report.row("first ingest", each(lambda key: report.put(key, first[key]), keys), report.chunks))
            rows.append(report.row("the same bytes again", each(lambda key: report.put(key, first[key]), keys), _none))
            moved = [f"moved/{key}" for key in keys]
            rows.append(
                report.row(
                    "renamed",
                    each(lambda key: (report.copy(key, f"moved/{key}"), report.remove(key)), keys),
                    _none,
                )
            )
            rows.append(report.row("copied", each(lambda key: report.copy(key, f"copy/{key}"), moved), _none))
            changed = {"Metadata": {"owner": "another"}, "MetadataDirective": "REPLACE"}
            rows.append(report.row("metadata changed", each(lambda key: report.copy(key, key, **changed), moved), _none))

            def edit(key: str) -> None:
                paragraphs = list(report.texts[key])
                paragraphs[choose.randrange(len(paragraphs))] += " One sentence more than there was before."
                report.put(key, paragraphs)

            rows.append(report.row("one paragraph edited in each", each(edit, moved), lambda: 3 * DOCUMENTS))
        for in_flight in (1, 12):
            with running(Path(name) / f"kill-{in_flight}", provider, in_flight) as started:
                fresh = {f"killed/{number:03}.txt": document(choose) for number in range(DOCUMENTS)}
                rows.append(_killed(Report(started, provider), fresh, in_flight))
    return 0 if all(row.inputs <= row.most for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
