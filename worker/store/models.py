"""The tables, as SQLAlchemy 2 models (the cost ledger's: spending_models). A test holds them and the migrations together.

::

    documents 1 ── n generations 1 ── n document_chunks n ── 0..1 embeddings_<profile>, by the digest of the chunk's text
    embedding_profiles 1 ── 1 embeddings_<profile>        one typed vector table a profile (worker.store.profiles)
    gates                                                 what is closed for everybody, until when, and why
    events                                                the ledger: what came, and what became of it
    released_texts                                        digests of texts that left the index: their vectors go too
    chores                                                when the next pruning is due (worker.store.pruning)
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Computed,
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
from sqlalchemy.dialects.postgresql import JSON, JSONB, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from worker.domain.document import TERMINAL, Status

_TERMINAL_SQL = ", ".join(f"'{status}'" for status in sorted(TERMINAL))
_STORAGE_SQL = "storage IN ('halfvec', 'vector')"
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
        # What the dispatcher asks for: leases that ran out, and due rows that wait for a stage.
        Index("ix_documents_lease_end", "due_at", postgresql_where=text("lease_token IS NOT NULL")),
        Index("ix_documents_status_due_at", "status", "due_at"),
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
    force: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))  # by replay: even where the bytes are the same
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
    __table_args__ = (Index("ix_generations_file_metadata", text("file_metadata jsonb_path_ops"), postgresql_using="gin"),)

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
    file_metadata: Mapped[dict[str, str]] = mapped_column(JSONB, server_default="{}")
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
        # Whether a text stands anywhere; equality only, so the small kind of index.
        Index("ix_document_chunks_text_sha256", "text_sha256", postgresql_using="hash"),
        Index("ix_document_chunks_words", "words", postgresql_using="gin"),
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
    words: Mapped[Any] = mapped_column(TSVECTOR, Computed("to_tsvector('lex_ingest', search_words(text))", True), nullable=True)


class EmbeddingProfile(Base):
    """What makes vectors comparable. They stand in ``embeddings_<id>``, whose column is of pgvector's type ``storage``.

    ``serving``: queries are answered from it, and a document is INDEXED once it has all vectors of it. ``kept_filled``: what
    is served gets vectors of it too, afterwards (worker.services.filling). ``base_url`` is null for the settings' own.
    """

    __tablename__ = "embedding_profiles"
    __table_args__ = (
        UniqueConstraint("provider", "model", "dimensions"),
        CheckConstraint(_STORAGE_SQL, name="storage"),
        Index("ix_embedding_profiles_serving", "serving", unique=True, postgresql_where=text("serving")),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    provider: Mapped[str]
    model: Mapped[str]
    dimensions: Mapped[int] = mapped_column(Integer)
    storage: Mapped[str] = mapped_column(server_default=text("'vector'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    serving: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    kept_filled: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    base_url: Mapped[str | None]
    send_dimensions: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    switched_at: Mapped[datetime | None]


EMBEDDING_GATE = "embedding"  # the gate before the embedding provider


class Gate(Base):
    """Something that all documents would meet alike, such as a refused key: nobody tries before ``closed_until``."""

    __tablename__ = "gates"

    name: Mapped[str] = mapped_column(primary_key=True)
    closed_until: Mapped[datetime]
    code: Mapped[str]
    reason: Mapped[str]


class Event(Base):
    """The ledger: every event that was received, and what became of it (``worker.store.hints``).

    One partition a day, so that old days are dropped and not deleted; the default one takes what has no day's partition.
    ``document_id`` is null where the event was about no document. Once its document is gone, key and raw text are erased.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_bucket_key", "bucket", "key"),
        Index("ix_events_of_no_document", "received_at", postgresql_where=text("document_id IS NULL AND raw IS NOT NULL")),
        {"postgresql_partition_by": "RANGE (received_at)"},
    )

    received_at: Mapped[datetime] = mapped_column(server_default=func.now(), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    bucket: Mapped[str | None] = mapped_column(Text(collation="C"))
    key: Mapped[str | None] = mapped_column(Text(collation="C"))
    kind: Mapped[str]
    raw: Mapped[Any | None] = mapped_column(JSON)  # as text: jsonb can't hold an escaped NUL, and the sender may say anything
    message_id: Mapped[str | None]
    outcome: Mapped[str]
    document_id: Mapped[uuid.UUID | None]
    generation: Mapped[int | None]


class ReleasedText(Base):
    """The digest of a text that stands in no chunk any more. A trigger on ``document_chunks`` writes it, whatever removes."""

    __tablename__ = "released_texts"
    __table_args__ = (Index("ix_released_texts_released_at", "released_at"),)

    text_sha256: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    released_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Chore(Base):
    """Work that one process at a time does now and then."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime]
