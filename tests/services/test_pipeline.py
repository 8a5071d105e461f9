"""One document's way through the stages: uploaded, overwritten, removed, repeated, replayed."""

from __future__ import annotations

import boto3

from tests.support.documents import (
    BREAD,
    TIDE,
    claim,
    count,
    delete_object,
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
from worker.domain.scope import Scope
from worker.services import documents
from worker.services.embedding import embed_document
from worker.services.extraction import extract_document
from worker.services.replay import replay
from worker.settings import Settings
from worker.store import leases
from worker.store.session import transaction


def served_vectors(settings: Settings) -> int:
    return count(settings, "document_chunks JOIN embeddings_1 USING (text_sha256)")


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
    assert (count(settings, "document_chunks"), served_vectors(settings), count(settings, "generations")) == (1, 1, 1)


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
    assert (count(settings, "generations"), count(settings, "document_chunks"), served_vectors(settings)) == (0, 0, 0)


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


def test_replay_takes_its_turn_behind_events_of_the_same_documents(settings: Settings) -> None:
    ids = [put_and_tell(settings, f"{number}.txt", f"{TIDE} {number}") for number in range(6)]
    for document_id in ids:
        run_stages(settings, document_id)
    done = list(replay(Scope.of_buckets(settings.buckets), settings))
    assert sorted(item.document_id for item in done) == sorted(ids)
    assert {item.generation for item in done} == {2}
