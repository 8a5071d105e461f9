"""Deleted means gone: at once what was served, within the time that is set everything else, and now with ``purge``."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest

from tests.conftest import wait_until
from tests.support.documents import TIDE, claim, count, delete_object, execute, put_and_tell, run_stages, status_of, tell
from tests.support.provider import Provider
from worker.contract import Stage
from worker.domain.errors import LeaseLost, Unavailable
from worker.services.housekeeping import Tidied, tidy
from worker.services.purge import StillThere, purge
from worker.settings import Settings
from worker.store import leases
from worker.store.session import transaction

BLOCKED = "wait_event_type = 'Lock' AND datname = current_database()"
SECRET = "the zebra clause of the Quagga contract"


def everything(settings: Settings, needle: str) -> list[str]:
    """Every table that holds the text anywhere, in any column."""
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        tables = [
            row[0]
            for row in connection.execute(
                "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
        ]
        statement = "SELECT count(*) FROM {} AS t WHERE position(%s IN t::text) > 0"
        return [
            table for table in tables if (connection.execute(statement.format(table).encode(), (needle,)).fetchone() or (0,))[0]
        ]


def identity(settings: Settings, key: str) -> UUID:
    return status_of(settings, key).document_id


def prune(settings: Settings) -> Tidied:
    with psycopg.connect(settings.database_url) as connection:
        return tidy(connection, settings)


@pytest.fixture
def gone(settings: Settings) -> Settings:
    """A document that was indexed and then removed from the bucket."""
    run_stages(settings, put_and_tell(settings, "secret/quagga.txt", f"{TIDE} {SECRET}"))
    assert set(everything(settings, SECRET)) == {"document_chunks", "generations"}
    delete_object(settings, "secret/quagga.txt")
    tell(settings, "secret/quagga.txt", removed=True)
    run_stages(settings, identity(settings, "secret/quagga.txt"))
    return settings


def test_a_removed_document_leaves_no_text_at_once(gone: Settings) -> None:
    assert everything(gone, SECRET) == []
    assert count(gone, "document_chunks") == count(gone, "generations") == 0


def test_its_key_and_its_vectors_go_within_the_time_that_is_set(gone: Settings) -> None:
    assert count(gone, "embeddings_1") == 1
    prune(gone)
    assert set(everything(gone, "quagga")) >= {"documents"}
    assert count(gone, "embeddings_1") == 1
    prune(dataclasses.replace(gone, erase_after=1e-6))
    assert everything(gone, "quagga") == []
    assert count(gone, "embeddings_1") == count(gone, "documents") == count(gone, "released_texts") == 0
    assert count(gone, "events") == 2  # that something came, and when


def test_a_text_that_stands_elsewhere_keeps_its_vector(settings: Settings, provider: Provider) -> None:
    for key in ("a.txt", "b.txt"):
        run_stages(settings, put_and_tell(settings, key, SECRET))
    delete_object(settings, "a.txt")
    tell(settings, "a.txt", removed=True)
    run_stages(settings, identity(settings, "a.txt"))
    prune(dataclasses.replace(settings, erase_after=1e-6))
    assert count(settings, "embeddings_1") == 1
    provider.reset()
    run_stages(settings, put_and_tell(settings, "c.txt", SECRET))
    assert provider.requests == []


def test_a_text_of_two_documents_that_go_at_the_same_moment_loses_its_vector(settings: Settings) -> None:
    """Neither of the two transactions sees that the other's chunk is going."""
    first, second = (put_and_tell(settings, key, SECRET) for key in ("a.txt", "b.txt"))
    for document_id in (first, second):
        run_stages(settings, document_id)
    delete = "DELETE FROM documents WHERE id = %s"
    with psycopg.connect(settings.database_url) as connection, ThreadPoolExecutor(1) as other:
        connection.execute(delete, (first,))
        deleting = other.submit(execute, settings, delete, second)
        # It may wait for the first one's end, at the digest that both release.
        wait_until(lambda: deleting.done() or count(settings, f"pg_stat_activity WHERE {BLOCKED}") == 1, 10, "both are deleted")
        connection.commit()
        deleting.result()
    prune(dataclasses.replace(settings, erase_after=1e-6))
    assert count(settings, "embeddings_1") == 0


def test_a_text_that_came_back_keeps_its_vector(gone: Settings, provider: Provider) -> None:
    run_stages(gone, put_and_tell(gone, "other.txt", f"{TIDE} {SECRET}"))
    provider.reset()
    prune(dataclasses.replace(gone, erase_after=1e-6))
    run_stages(gone, put_and_tell(gone, "again.txt", f"{TIDE} {SECRET}"))
    assert provider.requests == []


def test_the_text_of_an_overwritten_version_loses_its_vector_too(settings: Settings) -> None:
    run_stages(settings, put_and_tell(settings, "k.txt", SECRET))
    run_stages(settings, put_and_tell(settings, "k.txt", TIDE))
    assert count(settings, "embeddings_1") == 2
    prune(dataclasses.replace(settings, erase_after=1e-6))
    assert count(settings, "embeddings_1") == 1
    assert count(settings, "document_chunks") == 1


def test_a_row_that_somebody_deletes_by_hand_releases_its_texts(settings: Settings) -> None:
    run_stages(settings, put_and_tell(settings, "k.txt", SECRET))
    execute(settings, "DELETE FROM documents")
    prune(dataclasses.replace(settings, erase_after=1e-6))
    assert count(settings, "embeddings_1") == 0


def test_events_of_no_document_lose_key_and_text(settings: Settings) -> None:
    tell(settings, "never/there.txt", removed=True)
    prune(settings)
    assert everything(settings, "never/there") != []
    prune(dataclasses.replace(settings, erase_after=1e-6))
    assert everything(settings, "never/there") == []
    assert count(settings, "events") == 1


def test_purge_erases_everything_about_a_key_at_once(gone: Settings) -> None:
    purged = purge(gone.buckets[0], "secret/quagga.txt", gone)
    assert (purged.document, purged.events) == (True, 2)
    assert everything(gone, "quagga") == []
    assert count(gone, "embeddings_1") == 0
    assert not purge(gone.buckets[0], "secret/quagga.txt", gone).anything


def test_purge_refuses_while_the_object_is_there(settings: Settings) -> None:
    run_stages(settings, put_and_tell(settings, "k.txt", SECRET))
    with pytest.raises(StillThere):
        purge(settings.buckets[0], "k.txt", settings)
    assert count(settings, "documents") == 1


def test_purge_takes_a_missing_bucket_for_no_proof(settings: Settings) -> None:
    with pytest.raises(Unavailable) as caught:
        purge("no-such-bucket", "k.txt", settings)
    assert caught.value.code == "bucket_missing"


def test_purge_stops_a_worker_that_holds_the_document(settings: Settings) -> None:
    identity_of = put_and_tell(settings, "k.txt", SECRET)
    lease = claim(settings, identity_of, Stage.EXTRACT)
    delete_object(settings, "k.txt")
    purge(settings.buckets[0], "k.txt", settings)
    with pytest.raises(LeaseLost), transaction(settings.database_url) as connection:
        leases.fence(connection, lease)
    assert everything(settings, "k.txt") == []


def test_purge_leaves_other_keys_alone(gone: Settings) -> None:
    run_stages(gone, put_and_tell(gone, "secret/quagga.txt.bak", TIDE))
    purge(gone.buckets[0], "secret/quagga.txt", gone)
    assert set(everything(gone, "quagga.txt.bak")) >= {"documents"}
    assert count(gone, "documents") == 1
