"""Documents written as the pipeline leaves them, one chunk each, for tests of what reads them."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import text

from tests.support.provider import vector_of
from worker.settings import Settings
from worker.store import profiles
from worker.store import vectors as store
from worker.store.session import transaction


def serve(
    settings: Settings,
    key: str,
    body: str,
    *,
    bucket: str = "documents",
    media_type: str = "text/plain",
    metadata: dict[str, str] | None = None,
    modified: datetime | None = None,
    active: bool = True,
    with_vector: bool = True,
) -> UUID:
    """A document of one chunk with the vector that the tests' provider gives; ``active``: whether that generation is served."""
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO documents (bucket, key, status, due_at, generation, active_generation, last_modified)"
            " VALUES (%s, %s, 'INDEXED', NULL, 1, %s, %s) RETURNING id",
            (bucket, key, 1 if active else None, modified),
        ).fetchone()
        assert row is not None
        identity: UUID = row[0]
        connection.execute(
            "INSERT INTO generations (document_id, generation, etag, sha256, recipe, media_type, extractor, warnings, sections,"
            " file_metadata, text, text_length, chunk_count) VALUES (%s, 1, '', '', '', %s, '', '[]', '[]', %s, %s, %s, 1)",
            (identity, media_type, Jsonb(metadata or {}), body, len(body)),
        )
        chunk = connection.execute(
            "INSERT INTO document_chunks (document_id, generation, ordinal, text, text_sha256, char_start, char_end)"
            " VALUES (%s, 1, 0, %s, %s, 0, %s) RETURNING id",
            (identity, body, sha256(body.encode()).digest(), len(body)),
        ).fetchone()
        assert chunk is not None
    if with_vector:
        with transaction(settings.database_url) as engine_connection:
            profile = profiles.find(
                engine_connection, settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions
            )
            assert profile is not None
            vectors: Any = vector_of(body, settings.embedding_dimensions)[None, :]
            store.write(engine_connection, profile, [sha256(body.encode()).digest()], vectors, careful=True)
    return identity


def analyze(settings: Settings) -> None:
    """Let PostgreSQL count how common each word is."""
    with transaction(settings.database_url) as connection:
        connection.execute(text("ANALYZE document_chunks"))
