"""What each kind of failure leaves behind: of the file, of the provider, of S3, of PostgreSQL, of the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import Connection

from tests.support.documents import (
    BREAD,
    TIDE,
    claim,
    count,
    execute,
    find,
    put_and_tell,
    row_of,
    run_stages,
    status_of,
    tell,
)
from tests.support.provider import Provider
from worker.contract import Stage
from worker.domain.document import Status
from worker.domain.errors import LeaseLost
from worker.services.embedding import embed_document
from worker.services.extraction import extract_document
from worker.services.settling import StageFailed
from worker.settings import Settings
from worker.store import leases, vectors
from worker.store.session import transaction


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"", Status.NO_TEXT, "empty"), (b"\x7fELF\x02\x01\x01" + bytes(200), Status.UNSUPPORTED, "unsupported_type")],
)
def test_a_file_without_text_ends_with_its_reason(settings: Settings, body: bytes, status: Status, code: str) -> None:
    document_id = put_and_tell(settings, "file", body)
    with pytest.raises(StageFailed):
        extract_document(document_id, settings)
    row = status_of(settings, "file")
    assert (row.status, row.error_code, row.due_at) == (status, code, None)
    assert row.error


def test_a_damaged_new_version_leaves_the_old_one_served(settings: Settings) -> None:
    document_id = put_and_tell(settings, "report", TIDE)
    run_stages(settings, document_id)
    put_and_tell(settings, "report", b"%PDF-1.7\nnothing that a PDF should hold")
    with pytest.raises(StageFailed):
        extract_document(document_id, settings)
    row = status_of(settings, "report")
    assert (row.status, row.error_code, row.active_generation) == (Status.FAILED, "damaged", 1)
    assert [hit.text for hit in find(settings, "tide")] == [TIDE]


def test_an_object_over_the_limit_is_not_downloaded(settings: Settings, tmp_path: Path) -> None:
    import dataclasses

    document_id = put_and_tell(settings, "big.txt", "x" * 5000)
    with pytest.raises(StageFailed):
        extract_document(document_id, dataclasses.replace(settings, max_object_bytes=4999))
    row = status_of(settings, "big.txt")
    assert (row.status, row.error_code, row.size) == (Status.FAILED, "too_large", 5000)


def test_an_archived_object_fails_with_what_it_is_and_its_old_version_is_served(settings: Settings) -> None:
    document_id = put_and_tell(settings, "old.txt", TIDE)
    run_stages(settings, document_id)
    answer = boto3.client("s3").put_object(
        Bucket=settings.buckets[0], Key="old.txt", Body=BREAD.encode(), StorageClass="GLACIER", ContentType="text/plain"
    )
    etag = answer["ETag"].strip('"')
    tell(settings, "old.txt", etag=etag)
    with pytest.raises(StageFailed):
        extract_document(document_id, settings)
    row = status_of(settings, "old.txt")
    assert (row.status, row.error_code, row.due_at, row.attempts) == (Status.FAILED, "archived", None, 1)
    assert (row.etag, row.size, row.content_type) == (etag, len(BREAD), "text/plain")
    assert [hit.text for hit in find(settings, "tide")] == [TIDE]


def test_a_worker_that_lost_its_lease_adds_no_row(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    with transaction(settings.database_url) as connection:
        paused = leases.claim(connection, document_id, Stage.EXTRACT, 30)
    assert paused is not None
    execute(settings, "UPDATE documents SET lease_token = NULL, status = 'PENDING', queued = true WHERE id = %s", document_id)
    run_stages(settings, document_id)
    with pytest.raises(LeaseLost), transaction(settings.database_url) as connection:
        leases.fence(connection, paused)
    with pytest.raises(LeaseLost), transaction(settings.database_url) as connection:
        leases.finish(connection, paused, Status.INDEXED, 5)
    assert status_of(settings, "a.txt").status is Status.INDEXED


def test_a_second_message_for_a_document_in_work_does_nothing(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    with transaction(settings.database_url) as connection:
        assert leases.claim(connection, document_id, Stage.EXTRACT, 30) is not None
    assert extract_document(document_id, settings) is None
    assert embed_document(document_id, settings) is None


def test_a_throttling_provider_costs_the_document_no_attempt_and_closes_the_gate(settings: Settings, provider: Provider) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    provider.failures.append((429, "rate_limit_exceeded", {"Retry-After": "120"}))
    with pytest.raises(StageFailed) as caught:
        embed_document(document_id, settings)
    assert caught.value.retry_in is not None
    assert 120 <= caught.value.retry_in <= 150
    row = status_of(settings, "a.txt")
    assert (row.status, row.error_code, row.attempts) == (Status.EXTRACTED, "throttled", 0)
    assert row.waits_for is not None
    assert "provider" in row.waits_for


def test_a_refused_key_parks_the_document_with_its_reason(settings: Settings, provider: Provider) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    provider.failures.append((401, "invalid_api_key", {}))
    with pytest.raises(StageFailed):
        embed_document(document_id, settings)
    row = status_of(settings, "a.txt")
    assert (row.status, row.error_code, row.attempts) == (Status.EXTRACTED, "provider_key", 0)


def test_a_provider_that_refuses_the_text_fails_this_document(settings: Settings, provider: Provider) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    provider.behave(poison="tide")
    with pytest.raises(StageFailed):
        embed_document(document_id, settings)
    row = status_of(settings, "a.txt")
    assert (row.status, row.error_code) == (Status.FAILED, "embedding_rejected")


def test_an_unknown_bucket_is_a_retry_and_never_a_deletion(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    tell(settings, "a.txt", etag="new")
    execute(settings, "UPDATE documents SET bucket = 'no-such-bucket' WHERE id = %s", document_id)
    with pytest.raises(StageFailed) as caught:
        extract_document(document_id, settings)
    assert caught.value.code == "bucket_missing"
    row = row_of(settings, document_id)
    assert (row["status"], row["attempts"], row["active_generation"]) == ("PENDING", 0, 1)
    assert row["due_at"] is not None


def test_a_third_failed_attempt_is_the_last(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall_over(*_: object) -> None:
        raise ValueError("a line of the document")

    monkeypatch.setattr("worker.services.extraction.order_for", fall_over)
    document_id = put_and_tell(settings, "a.txt", TIDE)
    for attempt in (1, 2, 3):
        with pytest.raises(StageFailed):
            extract_document(document_id, settings)
        assert row_of(settings, document_id)["attempts"] == attempt
        if attempt < 3:
            # A stray message can't start a retry before its time.
            assert extract_document(document_id, settings) is None
            execute(settings, "UPDATE documents SET due_at = now() WHERE id = %s", document_id)
    row = row_of(settings, document_id)
    assert (row["status"], row["error_code"]) == ("FAILED", "internal_error")
    assert "a line" not in row["error"]


def test_a_generation_without_all_its_vectors_is_not_whole(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    with transaction(settings.database_url) as connection:
        from worker.store import profiles

        profile = profiles.find(connection, "test", "words", 384)
        assert profile is not None
        assert vectors.whole(connection, profile, document_id, 1) == 0


def test_a_holder_whose_object_was_removed_writes_nothing_and_the_next_looks_at_the_bucket(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    lease = claim(settings, document_id, Stage.EMBED)
    tell(settings, "a.txt", removed=True)
    with pytest.raises(LeaseLost), transaction(settings.database_url) as connection:
        leases.fence(connection, lease)
    with transaction(settings.database_url) as connection:
        ended = leases.hand_back(connection, lease, after=0, spend=False, error_code=None, error=None)
    assert ended.status is Status.PENDING


def test_behind_a_closed_gate_nobody_asks_the_provider(settings: Settings, provider: Provider) -> None:
    first, second = (put_and_tell(settings, key, TIDE + key) for key in ("a.txt", "b.txt"))
    for document_id in (first, second):
        extract_document(document_id, settings)
    provider.failures.append((401, "invalid_api_key", {}))
    with pytest.raises(StageFailed):
        embed_document(first, settings)
    assert embed_document(second, settings) is None
    assert provider.requests == []
    execute(settings, "UPDATE gates SET closed_until = now()")
    assert embed_document(second, settings) is not None


@pytest.mark.parametrize("header", ["inf", "nan", "-5", "soon"])
def test_after_a_senseless_retry_after_the_provider_is_soon_asked_again(
    settings: Settings, provider: Provider, header: str
) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    provider.failures.append((429, "rate_limit_exceeded", {"Retry-After": header}))
    assert embed_document(document_id, settings) is not None
    assert row_of(settings, document_id)["attempts"] == 0


def test_a_slip_in_retry_after_closes_the_gate_for_an_hour_at_most(settings: Settings, provider: Provider) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    provider.failures.append((429, "rate_limit_exceeded", {"Retry-After": "99999999"}))
    with pytest.raises(StageFailed) as caught:
        embed_document(document_id, settings)
    assert caught.value.retry_in is not None
    assert 3600 <= caught.value.retry_in <= 4500


def test_a_failed_new_version_leaves_none_of_its_text(settings: Settings, provider: Provider) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    put_and_tell(settings, "a.txt", BREAD)
    extract_document(document_id, settings)
    assert count(settings, "generations") == 2
    provider.behave(poison="sourdough")
    with pytest.raises(StageFailed):
        embed_document(document_id, settings)
    assert status_of(settings, "a.txt").status is Status.FAILED
    assert (count(settings, "generations"), count(settings, "document_chunks")) == (1, 1)
    assert [hit.text for hit in find(settings, "tide")] == [TIDE]


def test_a_database_that_goes_away_costs_the_document_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.services import extraction
    from worker.store.chunks import write_generation

    def cut(connection: Connection, *arguments: Any) -> None:
        execute(
            settings,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'lex-ingest' AND pid <> pg_backend_pid()",
        )
        write_generation(connection, *arguments)

    document_id = put_and_tell(settings, "a.txt", TIDE)
    monkeypatch.setattr(extraction.chunks, "write_generation", cut)
    with pytest.raises(StageFailed) as caught:
        extract_document(document_id, settings)
    assert caught.value.code == "database_unavailable"
    row = row_of(settings, document_id)
    assert (row["status"], row["attempts"]) == ("PENDING", 0)


def test_an_error_of_the_database_does_not_quote_the_document(settings: Settings) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    with pytest.raises(DBAPIError) as caught, transaction(settings.database_url) as connection:
        connection.execute(text("SELECT CAST(:text AS text) / 0"), {"text": "TOPSECRET"})
    assert "TOPSECRET" not in str(caught.value)
