"""Documents, generations, chunks, embedding profiles and their cache, gates.

Revision: 0001, the first
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    """
    CREATE TABLE documents (
        id UUID DEFAULT gen_random_uuid() NOT NULL,
        bucket TEXT COLLATE "C" NOT NULL,
        key TEXT COLLATE "C" NOT NULL,
        status TEXT NOT NULL,
        desired_generation BIGINT DEFAULT 1 NOT NULL,
        generation BIGINT DEFAULT 0 NOT NULL,
        active_generation BIGINT,
        due_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
        queued BOOLEAN DEFAULT false NOT NULL,
        lease_token UUID,
        attempts SMALLINT DEFAULT 0 NOT NULL,
        lease_losses SMALLINT DEFAULT 0 NOT NULL,
        error_code TEXT,
        error TEXT,
        hint_etag TEXT,
        hint_sequencer TEXT,
        hint_removed BOOLEAN DEFAULT false NOT NULL,
        force BOOLEAN DEFAULT false NOT NULL,
        etag TEXT,
        version_id TEXT,
        size BIGINT,
        content_type TEXT,
        last_modified TIMESTAMP WITH TIME ZONE,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        indexed_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_documents PRIMARY KEY (id),
        CONSTRAINT uq_documents_bucket_key UNIQUE (bucket, key),
        CONSTRAINT ck_documents_status CHECK (status IN ('DELETED', 'EMBEDDING', 'EXTRACTED', 'EXTRACTING', 'FAILED', 'INDEXED', 'NO_TEXT', 'PENDING', 'UNSUPPORTED')),
        CONSTRAINT ck_documents_due_at_null_when_terminal CHECK ((due_at IS NULL) = (status IN ('DELETED', 'FAILED', 'INDEXED', 'NO_TEXT', 'UNSUPPORTED'))),
        CONSTRAINT ck_documents_lease_while_working CHECK ((lease_token IS NOT NULL) = (status IN ('EXTRACTING', 'EMBEDDING'))),
        CONSTRAINT ck_documents_generation_not_ahead CHECK (generation <= desired_generation)
    )
    """,
    """
    CREATE INDEX ix_documents_due_at ON documents (due_at) WHERE due_at IS NOT NULL
    """,
    """
    CREATE INDEX ix_documents_status ON documents (status)
    """,
    """
    CREATE TABLE generations (
        document_id UUID NOT NULL,
        generation BIGINT NOT NULL,
        etag TEXT NOT NULL,
        version_id TEXT,
        sha256 BYTEA NOT NULL,
        recipe TEXT NOT NULL,
        media_type TEXT NOT NULL,
        extractor TEXT NOT NULL,
        title TEXT,
        page_count INTEGER,
        warnings JSONB NOT NULL,
        sections JSONB NOT NULL,
        text TEXT NOT NULL,
        text_length INTEGER NOT NULL,
        chunk_count INTEGER NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT pk_generations PRIMARY KEY (document_id, generation),
        CONSTRAINT fk_generations_documents FOREIGN KEY(document_id) REFERENCES documents (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE document_chunks (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        document_id UUID NOT NULL,
        generation BIGINT NOT NULL,
        ordinal INTEGER NOT NULL,
        text TEXT NOT NULL,
        text_sha256 BYTEA NOT NULL,
        page_start INTEGER,
        page_end INTEGER,
        char_start INTEGER NOT NULL,
        char_end INTEGER NOT NULL,
        CONSTRAINT pk_document_chunks PRIMARY KEY (id),
        CONSTRAINT uq_document_chunks_document_id_generation_ordinal UNIQUE (document_id, generation, ordinal),
        CONSTRAINT fk_document_chunks_generations FOREIGN KEY(document_id, generation) REFERENCES generations (document_id, generation) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE embedding_profiles (
        id INTEGER GENERATED ALWAYS AS IDENTITY,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        dimensions INTEGER NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT pk_embedding_profiles PRIMARY KEY (id),
        CONSTRAINT uq_embedding_profiles_provider_model_dimensions UNIQUE (provider, model, dimensions)
    )
    """,
    """
    CREATE TABLE embedding_cache (
        profile_id INTEGER NOT NULL,
        text_sha256 BYTEA NOT NULL,
        embedding VECTOR NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT pk_embedding_cache PRIMARY KEY (profile_id, text_sha256),
        CONSTRAINT fk_embedding_cache_embedding_profiles FOREIGN KEY(profile_id) REFERENCES embedding_profiles (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE gates (
        name TEXT NOT NULL,
        closed_until TIMESTAMP WITH TIME ZONE NOT NULL,
        code TEXT NOT NULL,
        reason TEXT NOT NULL,
        CONSTRAINT pk_gates PRIMARY KEY (name)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE gates, embedding_cache, embedding_profiles, document_chunks, generations, documents CASCADE")
