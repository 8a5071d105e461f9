"""The tables, as SQLAlchemy 2 models. The migrations make the same tables; a test holds the two together.

::

    documents 1 ── n generations 1 ── n document_chunks 1 ── 0..1 embeddings_<profile>
    embedding_profiles 1 ── 1 embeddings_<profile>        one typed vector table a profile, made when it is first needed
    embedding_cache (profile, sha256 of the text) -> vector
    gates                                                 what is closed for everybody, until when, and why
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar

from pgvector.sqlalchemy import Vector
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from worker.domain.document import TERMINAL, Status

_TERMINAL_SQL = ", ".join(f"'{status}'" for status in sorted(TERMINAL))
_STATUS_SQL = ", ".join(f"'{status}'" for status in sorted(Status))

# Constraint names are fixed, so that a migration can name what it changes.
_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of the models. Text sorts and compares by bytes ("C"), as S3 sorts keys."""

    type_annotation_map: ClassVar = {
        datetime: DateTime(timezone=True),
        str: Text(),
        int: BigInteger(),
        uuid.UUID: None,
        dict[str, Any]: JSONB(),
        list[dict[str, Any]]: JSONB(),
    }


Base.metadata.naming_convention = _NAMING


class Document(Base):
    """One key of one bucket: what is wanted for it, who works on it, and how it ended.

    ``desired_generation`` counts what was asked for, ``generation`` is the last one that a worker took on, and
    ``active_generation`` the one that search serves (null: nothing). A lease is ``lease_token`` together with
    ``due_at``, its end. ``queued`` says that a wake-up message may be on its way; a row that waits and is not queued
    waits for ``due_at`` (a retry, or a gate).
    """

    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("bucket", "key"),
        CheckConstraint(f"status IN ({_STATUS_SQL})", name="status"),
        CheckConstraint(f"(due_at IS NULL) = (status IN ({_TERMINAL_SQL}))", name="due_at_null_when_terminal"),
        CheckConstraint("(lease_token IS NOT NULL) = (status IN ('EXTRACTING', 'EMBEDDING'))", name="lease_while_working"),
        CheckConstraint("generation <= desired_generation", name="generation_not_ahead"),
        Index("ix_documents_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_documents_status", "status"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    bucket: Mapped[str] = mapped_column(Text(collation="C"))
    key: Mapped[str] = mapped_column(Text(collation="C"))
    status: Mapped[str]
    desired_generation: Mapped[int] = mapped_column(server_default=text("1"))
    generation: Mapped[int] = mapped_column(server_default=text("0"))
    active_generation: Mapped[int | None]
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    queued: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    lease_token: Mapped[uuid.UUID | None]
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    lease_losses: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    # The last event that was believed: it saves work, and no end state depends on it (DESIGN.md, "Events are hints").
    hint_etag: Mapped[str | None]
    hint_sequencer: Mapped[str | None]
    hint_removed: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    # Set by replay: read and embed again even where the bytes are the same.
    force: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    # The object as last read from the bucket.
    etag: Mapped[str | None]
    version_id: Mapped[str | None]
    size: Mapped[int | None]
    content_type: Mapped[str | None]
    last_modified: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    indexed_at: Mapped[datetime | None]


class Generation(Base):
    """The text of one version of a document, and where it came from. ``sections`` are ranges of ``text``."""

    __tablename__ = "generations"

    document_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    etag: Mapped[str]
    version_id: Mapped[str | None]
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    # The settings that made this text and its chunks; other settings make the same bytes worth reading again.
    recipe: Mapped[str]
    media_type: Mapped[str]
    extractor: Mapped[str]
    title: Mapped[str | None]
    page_count: Mapped[int | None] = mapped_column(Integer)
    warnings: Mapped[list[str]] = mapped_column(JSONB)
    sections: Mapped[list[dict[str, Any]]]
    text: Mapped[str]
    text_length: Mapped[int] = mapped_column(Integer)
    chunk_count: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DocumentChunk(Base):
    """A piece of a generation's text: ``text == generation.text[char_start:char_end]``, in code points."""

    __tablename__ = "document_chunks"
    __table_args__ = (
        UniqueConstraint("document_id", "generation", "ordinal"),
        ForeignKeyConstraint(
            ["document_id", "generation"], ["generations.document_id", "generations.generation"], ondelete="CASCADE"
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    document_id: Mapped[uuid.UUID]
    generation: Mapped[int]
    ordinal: Mapped[int] = mapped_column(Integer)
    text: Mapped[str]
    text_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    page_start: Mapped[int | None] = mapped_column(Integer)
    page_end: Mapped[int | None] = mapped_column(Integer)
    char_start: Mapped[int] = mapped_column(Integer)
    char_end: Mapped[int] = mapped_column(Integer)


class EmbeddingProfile(Base):
    """What makes vectors comparable: provider, model and dimensions. Its vectors stand in ``embeddings_<id>``."""

    __tablename__ = "embedding_profiles"
    __table_args__ = (UniqueConstraint("provider", "model", "dimensions"),)

    id: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    provider: Mapped[str]
    model: Mapped[str]
    dimensions: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CachedEmbedding(Base):
    """The vector of a text that was paid for once. Never searched, so the column needs no fixed length."""

    __tablename__ = "embedding_cache"

    profile_id: Mapped[int] = mapped_column(Integer, ForeignKey("embedding_profiles.id", ondelete="CASCADE"), primary_key=True)
    text_sha256: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    embedding: Mapped[Any] = mapped_column(Vector())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


# The gate before the embedding provider.
EMBEDDING_GATE = "embedding"


class Gate(Base):
    """Something that all documents would meet alike, such as a refused key: nobody tries before ``closed_until``."""

    __tablename__ = "gates"

    name: Mapped[str] = mapped_column(primary_key=True)
    closed_until: Mapped[datetime]
    code: Mapped[str]
    reason: Mapped[str]
