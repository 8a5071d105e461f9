"""One document's way through the stages, and what each kind of failure leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import pytest
from sqlalchemy import Connection

from tests.support.documents import (
    count,
    delete_object,
    execute,
    find,
    put_and_tell,
    put_object,
    row_of,
    run_stages,
    status_of,
    tell,
)
from tests.support.provider import Provider
from worker.contract import Stage
from worker.domain.document import Status
from worker.domain.errors import LeaseLost
from worker.domain.scope import Scope
from worker.services import documents
from worker.services.embedding import embed_document
from worker.services.extraction import extract_document
from worker.services.holding import StageFailed
from worker.services.replay import replay
from worker.settings import Settings
from worker.store import chunks, leases
from worker.store.session import transaction

TIDE = "The tide turns twice a day and drives the old mill by the harbour."
BREAD = "A sourdough needs flour, water, salt and above all patience."


def test_an_uploaded_text_is_found_by_its_words(settings: Settings) -> None:
    document_id = put_and_tell(settings, "mill.txt", TIDE)
    run_stages(settings, document_id)
    row = status_of(settings, "mill.txt")
    assert (row.status, row.generation, row.chunks, row.attempts) == (Status.INDEXED, 1, 1, 0)
    assert row.text_length == len(TIDE)
    assert row.size == len(TIDE)
    best = find(settings, "tide mill harbour")[0]
    assert (best.key, best.document_id, best.text) == ("mill.txt", document_id, TIDE)


def test_an_overwritten_object_keeps_its_id_and_its_old_text_is_gone(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    assert put_and_tell(settings, "a.txt", BREAD) == document_id
    run_stages(settings, document_id)
    row = status_of(settings, "a.txt")
    assert (row.status, row.generation, row.active_generation) == (Status.INDEXED, 2, 2)
    assert [hit.text for hit in find(settings, "tide")] == [BREAD]
    assert (count(settings, "document_chunks"), count(settings, "embeddings_1"), count(settings, "generations")) == (1, 1, 1)


def test_the_old_version_serves_until_the_new_one_is_whole(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    put_and_tell(settings, "a.txt", BREAD)
    extract_document(document_id, settings)
    assert status_of(settings, "a.txt").status is Status.EXTRACTED
    assert [hit.text for hit in find(settings, "sourdough")] == [TIDE]
    embed_document(document_id, settings)
    assert [hit.text for hit in find(settings, "sourdough")] == [BREAD]


def test_a_removed_object_leaves_no_text_chunk_or_vector(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    delete_object(settings, "a.txt")
    tell(settings, "a.txt", removed=True)
    run_stages(settings, document_id)
    row = status_of(settings, "a.txt")
    assert (row.status, row.chunks, row.due_at) == (Status.DELETED, 0, None)
    assert find(settings, "tide") == []
    assert (count(settings, "generations"), count(settings, "document_chunks"), count(settings, "embeddings_1")) == (0, 0, 0)


def test_a_removal_event_for_an_object_that_is_there_removes_nothing(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    tell(settings, "a.txt", removed=True)
    run_stages(settings, document_id)
    assert status_of(settings, "a.txt").status is Status.INDEXED
    assert [hit.text for hit in find(settings, "tide")] == [TIDE]


def test_a_key_that_comes_back_is_the_same_document(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    delete_object(settings, "a.txt")
    tell(settings, "a.txt", removed=True)
    run_stages(settings, document_id)
    assert put_and_tell(settings, "a.txt", TIDE) == document_id
    run_stages(settings, document_id)
    row = status_of(settings, "a.txt")
    assert (row.status, row.generation) == (Status.INDEXED, 3)


def test_the_same_bytes_under_a_new_event_cost_no_extraction_and_no_provider_call(settings: Settings, provider: Provider) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    before = len(provider.requests)
    put_object(settings, "a.txt", TIDE)
    # With another ETag, as an encrypted bucket would give: only the bytes say that nothing changed.
    tell(settings, "a.txt", etag="another")
    run_stages(settings, document_id)
    row = status_of(settings, "a.txt")
    assert (row.status, row.active_generation) == (Status.INDEXED, 1)
    assert len(provider.requests) == before


def test_a_text_that_was_embedded_before_is_not_sent_again(settings: Settings, provider: Provider) -> None:
    run_stages(settings, put_and_tell(settings, "a.txt", TIDE))
    run_stages(settings, put_and_tell(settings, "copy.txt", TIDE))
    assert status_of(settings, "copy.txt").status is Status.INDEXED
    assert provider.requests == [[TIDE]]


def test_two_events_of_one_upload_make_one_generation(settings: Settings) -> None:
    etag = put_object(settings, "a.txt", TIDE)
    tell(settings, "a.txt", etag=etag)
    document_id = status_of(settings, "a.txt").document_id
    with transaction(settings.database_url) as connection:
        lease = leases.claim(connection, document_id, Stage.EXTRACT, 30)
    assert lease is not None
    tell(settings, "a.txt", etag=etag)
    with transaction(settings.database_url) as connection:
        leases.hand_back(connection, lease, after=0, spend=False, error_code=None, error=None, queued=True)
    run_stages(settings, document_id)
    # The claim above was generation 1; what the second event asked for is generation 2, and there is no third.
    assert row_of(settings, document_id)["desired_generation"] == row_of(settings, document_id)["generation"]
    assert status_of(settings, "a.txt").status is Status.INDEXED


def test_an_event_while_the_document_is_worked_on_makes_it_due_again(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    put_and_tell(settings, "a.txt", BREAD)
    embed_document(document_id, settings)
    row = status_of(settings, "a.txt")
    assert (row.status, row.generation, row.desired_generation, row.active_generation) == (Status.PENDING, 1, 2, 1)
    assert [hit.text for hit in find(settings, "tide")] == [TIDE]
    run_stages(settings, document_id)
    assert [hit.text for hit in find(settings, "tide")] == [BREAD]


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
    provider.failures.append((429, "rate_limit_exceeded", {"Retry-After": "7"}))
    with pytest.raises(StageFailed) as caught:
        embed_document(document_id, settings)
    assert caught.value.retry_in is not None
    assert 7 <= caught.value.retry_in <= 9
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
    provider.failures.append((400, "invalid_request", {}))
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

    monkeypatch.setattr("worker.services.extraction.chunk", fall_over)
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


def test_replay_does_a_document_again_and_serves_the_old_version_meanwhile(settings: Settings, provider: Provider) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    replayed = list(replay(Scope.of_buckets(settings.buckets), settings, key="a.txt"))
    assert [(item.key, item.generation) for item in replayed] == [("a.txt", 2)]
    extract_document(document_id, settings)
    assert [hit.text for hit in find(settings, "tide")] == [TIDE]
    embed_document(document_id, settings)
    row = status_of(settings, "a.txt")
    assert (row.status, row.generation, row.active_generation) == (Status.INDEXED, 2, 2)


def test_replay_does_not_bring_a_deleted_document_back(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    delete_object(settings, "a.txt")
    run_stages(settings, document_id)
    assert status_of(settings, "a.txt").status is Status.DELETED
    assert list(replay(Scope.of_buckets(settings.buckets), settings)) == []


def test_every_chunk_reproduces_its_text_from_the_stored_document(settings: Settings) -> None:
    long = "\n\n".join(f"Paragraph {number}. " + TIDE * 9 for number in range(40))
    run_stages(settings, put_and_tell(settings, "long.txt", long))
    detail = documents.show(Scope.of_buckets(settings.buckets), "long.txt", settings)
    assert detail is not None
    assert len(detail.chunks) > 3
    assert all(piece["text"] == detail.text[piece["char_start"] : piece["char_end"]] for piece in detail.chunks)


def test_a_scope_sees_only_its_prefixes(settings: Settings) -> None:
    for key in ("team-a/x.txt", "team-b/x.txt"):
        run_stages(settings, put_and_tell(settings, key, TIDE))
    scope = Scope(settings.buckets, ("team-a/",))
    assert [row.key for row in documents.statuses(scope, settings)] == ["team-a/x.txt"]
    assert documents.show(scope, "team-b/x.txt", settings) is None
    assert list(documents.statuses(Scope(settings.buckets, ()), settings)) == []
    assert [hit.key for hit in find(settings, "tide", prefix="team-b/")] == ["team-b/x.txt"]


def test_a_generation_without_all_its_vectors_is_not_served(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    with transaction(settings.database_url) as connection:
        from worker.store import profiles

        profile = profiles.find(connection, "test", "words", 384)
        assert profile is not None
        with pytest.raises(RuntimeError, match="0 of 1 chunks"):
            chunks.swap(connection, profile, document_id, 1)


def test_a_multipart_upload_is_one_generation(settings: Settings) -> None:
    from boto3.s3.transfer import TransferConfig

    body = (TIDE + "\n").encode() * 90_000
    import io

    boto3.client("s3").upload_fileobj(
        io.BytesIO(body), settings.buckets[0], "big.txt", Config=TransferConfig(multipart_threshold=5 << 20)
    )
    etag = boto3.client("s3").head_object(Bucket=settings.buckets[0], Key="big.txt")["ETag"].strip('"')
    for _ in range(2):
        tell(settings, "big.txt", etag=etag)
    document_id = status_of(settings, "big.txt").document_id
    extract_document(document_id, settings)
    row = row_of(settings, document_id)
    assert (row["generation"], row["desired_generation"], row["status"]) == (1, 1, "EXTRACTED")


def claim(settings: Settings, document_id: UUID, stage: Stage) -> leases.Lease:
    with transaction(settings.database_url) as connection:
        lease = leases.claim(connection, document_id, stage, 30)
    assert lease is not None
    return lease


def test_an_old_event_that_comes_again_does_not_hide_a_newer_one(settings: Settings) -> None:
    """Events without an order: what the holder has read may be the old version, so both events can't count as satisfied."""
    etag = put_object(settings, "a.txt", TIDE)
    tell(settings, "a.txt", etag=etag)
    document_id = status_of(settings, "a.txt").document_id
    lease = claim(settings, document_id, Stage.EXTRACT)
    put_and_tell(settings, "a.txt", BREAD)
    tell(settings, "a.txt", etag=etag)
    with transaction(settings.database_url) as connection:
        leases.hand_on(connection, lease, 5, etag)
    row = row_of(settings, document_id)
    assert (row["generation"], row["desired_generation"]) == (1, 2)


def test_a_second_event_for_what_is_being_read_asks_for_nothing_more(settings: Settings) -> None:
    etag = put_object(settings, "a.txt", TIDE)
    tell(settings, "a.txt", etag=etag)
    document_id = status_of(settings, "a.txt").document_id
    lease = claim(settings, document_id, Stage.EXTRACT)
    tell(settings, "a.txt", etag=etag)
    assert row_of(settings, document_id)["desired_generation"] == 2
    with transaction(settings.database_url) as connection:
        leases.hand_on(connection, lease, 5, etag)
    assert row_of(settings, document_id)["desired_generation"] == 1


def test_a_removal_takes_a_document_from_the_queue_of_the_provider(settings: Settings, provider: Provider) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    put_and_tell(settings, "a.txt", BREAD)
    extract_document(document_id, settings)
    delete_object(settings, "a.txt")
    calls = len(provider.requests)
    tell(settings, "a.txt", removed=True)
    assert status_of(settings, "a.txt").status is Status.PENDING
    run_stages(settings, document_id)
    assert status_of(settings, "a.txt").status is Status.DELETED
    assert len(provider.requests) == calls


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
    provider.failures.append((429, "rate_limit_exceeded", {"Retry-After": "30"}))
    with pytest.raises(StageFailed):
        embed_document(first, settings)
    assert embed_document(second, settings) is None
    assert provider.requests == []
    execute(settings, "UPDATE gates SET closed_until = now()")
    assert embed_document(second, settings) is not None


@pytest.mark.parametrize("header", ["99999999", "inf", "nan", "-5", "soon"])
def test_a_senseless_retry_after_closes_the_gate_for_an_hour_at_most(settings: Settings, provider: Provider, header: str) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    extract_document(document_id, settings)
    provider.failures.append((429, "rate_limit_exceeded", {"Retry-After": header}))
    with pytest.raises(StageFailed) as caught:
        embed_document(document_id, settings)
    assert caught.value.retry_in is not None
    assert 0 < caught.value.retry_in <= 4500


def test_a_failed_new_version_leaves_none_of_its_text(settings: Settings, provider: Provider) -> None:
    document_id = put_and_tell(settings, "a.txt", TIDE)
    run_stages(settings, document_id)
    put_and_tell(settings, "a.txt", BREAD)
    extract_document(document_id, settings)
    assert count(settings, "generations") == 2
    provider.failures.append((400, "invalid_request", {}))
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


def test_replay_takes_its_turn_behind_events_of_the_same_documents(settings: Settings) -> None:
    ids = [put_and_tell(settings, f"{number}.txt", f"{TIDE} {number}") for number in range(6)]
    for document_id in ids:
        run_stages(settings, document_id)
    done = list(replay(Scope.of_buckets(settings.buckets), settings))
    assert sorted(item.document_id for item in done) == sorted(ids)
    assert {item.generation for item in done} == {2}


def test_documents_of_another_model_are_counted_as_not_to_be_found(settings: Settings) -> None:
    import dataclasses

    from worker.services.search import without_vectors

    run_stages(settings, put_and_tell(settings, "a.txt", TIDE))
    scope = Scope.of_buckets(settings.buckets)
    assert without_vectors(scope, settings) == 0
    assert without_vectors(scope, dataclasses.replace(settings, embedding_model="another")) == 1
