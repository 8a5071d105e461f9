"""The vector tables: one a profile, indexed, and read through the index by the search that users run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector, Vector
from sqlalchemy import Connection, text

from tests.support.documents import count, execute, put_and_tell, run_stages
from tests.support.provider import Provider, vector_of
from worker.domain.digests import text_digest
from worker.domain.filters import NOTHING
from worker.domain.scope import Scope
from worker.services.extraction import extract_document
from worker.settings import Settings
from worker.store import profiles, vector_index
from worker.store import vectors as store
from worker.store.nearest import by_index
from worker.store.profiles import Profile
from worker.store.session import transaction

_CROWD = """
WITH crowd AS (
    INSERT INTO documents (bucket, key, status, generation, active_generation, due_at)
    SELECT 'documents', 'crowd/' || number, 'INDEXED', 1, 1, NULL FROM generate_series(1, :documents) number RETURNING id
), texts AS (
    INSERT INTO generations (document_id, generation, etag, sha256, recipe, media_type, extractor, warnings, sections, text,
                             text_length, chunk_count)
    SELECT id, 1, 'e', '', '', 'text/plain', 'text', '[]', '[]', 'x', 1, 10 FROM crowd RETURNING document_id
)
INSERT INTO document_chunks (document_id, generation, ordinal, text, text_sha256, char_start, char_end)
SELECT document_id, 1, ordinal, 'x', sha256(convert_to(document_id || '/' || ordinal, 'UTF8')), 0, 1
FROM texts, generate_series(0, 9) ordinal RETURNING text_sha256
"""


def _a_crowd(connection: Connection, profile: Profile, documents: int) -> None:
    """Served documents of ten chunks each, with random vectors written as the pipeline writes them.

    Every vector stands in ten rows: the index, which keeps equal ones together, is then made ten times as fast.
    """
    digests = [bytes(digest) for digest in connection.execute(text(_CROWD), {"documents": documents}).scalars()]
    vectors = np.random.default_rng(7).standard_normal((documents, profile.dimensions)).astype(np.float32)
    store.write(connection, profile, digests, np.repeat(vectors, 10, axis=0))


@pytest.mark.parametrize(("dimensions", "storage"), [(384, "vector"), (384, "halfvec"), (1536, "halfvec")])
def test_the_prepared_search_uses_the_index_of_its_profile(
    settings: Settings, dimensions: int, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "INDEX_FROM", 3000)
    with transaction(settings.database_url) as connection:
        profile = profiles.ensure(connection, "test", f"words-{dimensions}", dimensions, storage)
        _a_crowd(connection, profile, 300)
    with psycopg.connect(settings.database_url, autocommit=True) as builder:
        assert vector_index.build_missing(builder, 16, 64, profile.id) == [vector_index.Built(profile.id, ruin=False)]
        assert vector_index.build_missing(builder, 16, 64, profile.id) == []
    with transaction(settings.database_url) as connection:
        for table in ("documents", "document_chunks", "generations", profile.table):
            connection.execute(text(f"ANALYZE {table}"))
    search = by_index(profile, Scope(("documents",), ("",)), NOTHING, np.ones(dimensions, dtype=np.float32), 5)
    with transaction(settings.database_url) as connection:
        # The generic plan is what a prepared statement may end up with after five runs.
        connection.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        compiled = search.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        sql, values = str(compiled), []
        for number, (name, value) in enumerate(compiled.params.items(), 1):
            sql = sql.replace(f"%({name})s", f"${number}")
            values.append(str(Vector(value).to_text() if isinstance(value, np.ndarray) else value))
        connection.exec_driver_sql(f"PREPARE search AS {sql.replace('%%', '%')}")
        execution = f"EXPLAIN (COSTS OFF) EXECUTE search ({', '.join(repr(value) for value in values)})"
        plan = connection.exec_driver_sql(execution).scalars().all()
        connection.exec_driver_sql("DEALLOCATE search")
    assert f"Index Scan using {profile.table}_hnsw" in "\n".join(plan), plan
    assert "Sort" not in "\n".join(plan)
    execute(settings, f"DROP TABLE {profile.table}")
    execute(settings, "DELETE FROM embedding_profiles WHERE id = %s", profile.id)


@pytest.mark.parametrize("storage", ["halfvec", "vector"])
def test_the_columns_are_typed_by_their_profile(settings: Settings, storage: str) -> None:
    other = "vector" if storage == "halfvec" else "halfvec"
    with transaction(settings.database_url) as connection:
        wide = profiles.ensure(connection, "test", f"wide-{storage}", 1536, storage)
        # What is stored already is of one kind.
        again = profiles.ensure(connection, "test", f"wide-{storage}", 1536, other)
        kind = connection.execute(
            text(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = CAST(:table AS regclass) AND attname = 'embedding'"
            ),
            {"table": wide.table},
        ).scalar_one()
    assert again == wide
    assert kind == f"{storage}(1536)"


@pytest.mark.parametrize("storage", ["halfvec", "vector"])
def test_a_text_in_two_documents_has_one_vector(settings: Settings, provider: Provider, storage: str) -> None:
    with transaction(settings.database_url) as connection:
        profile = profiles.ensure(connection, "test", f"again-{storage}", 384, storage)
        profiles.serve(connection, profile)
    for key in ("a.txt", "b.txt"):
        run_stages(settings, put_and_tell(settings, key, "The same words in two places."))
    assert len(provider.requests) == 1
    with transaction(settings.database_url) as connection:
        rows = connection.execute(text(f"SELECT embedding::text FROM {profile.table}")).scalars().all()
    assert len(rows) == 1
    numbers = np.array(json.loads(rows[0]))
    assert np.abs(numbers - vector_of("The same words in two places.", 384)).max() < (1e-3 if storage == "halfvec" else 1e-7)


def test_an_unknown_prefix_filter_loses_no_hit_of_the_index_scan(settings: Settings) -> None:
    """One document in a crowd of nearer ones, found through its prefix: the index scan goes on until it has enough."""
    with transaction(settings.database_url) as connection:
        profile = profiles.find(connection, "test", "words", 384)
        assert profile is not None
        _a_crowd(connection, profile, 200)
    run_stages(settings, put_and_tell(settings, "rare/one.txt", "The only text below this prefix."))
    from tests.support.documents import find

    execute(settings, f"ANALYZE {profile.table}")
    hits = find(settings, "something entirely different", prefix="rare/")
    assert [hit.key for hit in hits] == ["rare/one.txt"]


def test_an_index_that_nobody_finished_is_built_anew(
    settings: Settings, superuser: psycopg.Connection[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "INDEX_FROM", 100)
    with transaction(settings.database_url) as connection:
        profile = profiles.ensure(connection, "test", "ruin", 8, "halfvec")
        _a_crowd(connection, profile, 10)
    with psycopg.connect(settings.database_url, autocommit=True) as builder:
        builder.execute(f"CREATE INDEX {profile.index} ON {profile.table} USING hnsw (embedding halfvec_cosine_ops)".encode())
        superuser.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{profile.index}'::regclass".encode())
        assert vector_index.is_needed(builder, profile.id)
        assert vector_index.build_missing(builder, 16, 64, profile.id) == [vector_index.Built(profile.id, ruin=True)]
        assert not vector_index.is_needed(builder, profile.id)
    execute(settings, f"DROP TABLE {profile.table}")
    execute(settings, "DELETE FROM embedding_profiles WHERE id = %s", profile.id)


def test_the_vector_of_a_text_that_stands_nowhere_by_now_is_not_written(settings: Settings) -> None:
    document_id = put_and_tell(settings, "a.txt", "Some words to embed.")
    run_stages(settings, document_id)
    with transaction(settings.database_url) as connection:
        profile = profiles.serving(connection)
        assert profile is not None
        ones = np.ones((2, profile.dimensions), dtype=np.float32)
        digests = [text_digest("Some words to embed."), text_digest("gone")]
        assert store.write(connection, profile, digests, ones, careful=True) == 1
    assert count(settings, profile.table) == 1


def test_tenants_share_no_vector(settings: Settings, provider: Provider) -> None:
    apart = replace(settings, tenants=("acme/", "acme/inner/"))
    for key in ("acme/1.txt", "acme/2.txt", "other/3.txt", "acme/inner/4.txt", "other/5.txt"):
        run_stages(apart, put_and_tell(apart, key, "The same words."))
    assert len(provider.requests) == 3
    assert count(settings, "embeddings_1") == 3


@pytest.mark.parametrize("storage", ["halfvec", "vector"])
def test_vectors_are_copied_as_pgvector_reads_them(settings: Settings, storage: str) -> None:
    """Against the text form of pgvector's own driver."""
    numbers = np.random.default_rng(3).standard_normal((3, 5)).astype(np.float32)
    digests = [bytes([number]) * 31 + b"\0" for number in range(3)]
    wrap = HalfVector if storage == "halfvec" else Vector
    with psycopg.connect(settings.database_url) as connection:
        connection.execute(f"CREATE TEMP TABLE written (text_sha256 bytea, embedding {storage}(5))".encode())
        with connection.cursor() as cursor, cursor.copy("COPY written FROM STDIN (FORMAT BINARY)") as stream:
            for part in store.binary_rows(digests, numbers, storage):
                stream.write(part)
        rows = connection.execute("SELECT text_sha256, embedding::text FROM written ORDER BY 1").fetchall()
        expected = [
            connection.execute(f"SELECT %s::{storage}::text".encode(), (wrap(vector).to_text(),)).fetchone() for vector in numbers
        ]
    assert [bytes(digest) for digest, _ in rows] == digests
    assert [(vector,) for _, vector in rows] == expected


def test_two_processes_that_embed_one_text_at_the_same_moment_both_go_on(settings: Settings) -> None:
    bodies = ["Both have this.", "Only mine."]
    for number, body in enumerate(bodies):
        put = put_and_tell(settings, f"{number}.txt", body)
        extract_document(put, settings)
    digests = [text_digest(body) for body in bodies]
    with transaction(settings.database_url) as connection:
        profile = profiles.serving(connection)
        assert profile is not None
        store.write(connection, profile, digests[:1], np.ones((1, profile.dimensions), dtype=np.float32))
    twos = 2 * np.ones((2, profile.dimensions), dtype=np.float32)
    with pytest.raises(store.StandsAlready), transaction(settings.database_url) as connection:
        store.write(connection, profile, digests, twos)
    assert count(settings, profile.table) == 1
    with transaction(settings.database_url) as connection:
        assert store.write(connection, profile, digests, twos, careful=True) == 2
    with transaction(settings.database_url) as connection:
        firsts = connection.execute(text(f"SELECT (embedding::vector::real[])[1] FROM {profile.table} ORDER BY 1")).scalars()
        assert list(firsts) == [1.0, 2.0]
