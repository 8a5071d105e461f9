"""What the tests of reconcile-bucket share: a comparison and its effects, and an S3 that refuses."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

from tests.support.documents import TIDE, execute, put_and_tell, run_stages
from worker.domain.reconciling import Difference
from worker.services.reconcile import Tally, reconcile
from worker.services.settling import StageFailed
from worker.settings import Settings


def compare(settings: Settings, **options: Any) -> tuple[Tally, set[tuple[str, str]]]:
    """Reconcile the bucket; its tally, and the differences as (key, kind)."""
    found: list[Difference] = []
    (tally,) = reconcile(settings.buckets, settings, on_difference=found.append, **options)
    assert len(found) == len(set(found))
    return tally, {(item.key, item.difference.value) for item in found}


def work_off(settings: Settings) -> None:
    """Run the stages of every document that waits."""
    with psycopg.connect(settings.database_url) as connection:
        waiting = connection.execute("SELECT id FROM documents WHERE due_at IS NOT NULL ORDER BY key").fetchall()
    for (document_id,) in waiting:
        with contextlib.suppress(StageFailed):
            run_stages(settings, document_id)


def indexed(settings: Settings, key: str, body: str = TIDE) -> None:
    run_stages(settings, put_and_tell(settings, key, body))


def fill_documents(settings: Settings, number: int, prefix: str = "gone/") -> None:
    """Rows as of documents that were indexed; no object of them is in the bucket."""
    execute(
        settings,
        "INSERT INTO documents (bucket, key, status, generation, desired_generation, due_at, etag)"
        " SELECT %s, %s || lpad(n::text, 6, '0'), 'INDEXED', 1, 1, NULL, 'e' FROM generate_series(1, %s) n",
        settings.buckets[0],
        prefix,
        number,
    )


def waiting_removals(settings: Settings) -> int:
    with psycopg.connect(settings.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM documents WHERE hint_removed AND status = 'PENDING'").fetchone()
        assert row is not None
        return int(row[0])


class Stub(BaseHTTPRequestHandler):
    """An S3 whose answers to GET (a listing) and to HEAD are given; it counts nothing and keeps nothing."""

    answers: dict[str, tuple[int, bytes]]

    def answer(self) -> None:
        status, body = self.answers[self.command]
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = answer  # noqa: N815 - the names that the base class calls

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
NOTHING_LISTED = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"


@contextlib.contextmanager
def s3_that_answers(get: tuple[int, bytes], head: tuple[int, bytes]) -> Iterator[str]:
    """The address of an S3 that always gives these answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Given", (Stub,), {"answers": {"GET": get, "HEAD": head}}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
