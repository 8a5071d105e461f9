"""The ledger of events, and what erasure needs: released texts and chores.

Revision: 0002, after 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE events (
        received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
        bucket TEXT COLLATE "C",
        key TEXT COLLATE "C",
        kind TEXT NOT NULL,
        raw JSON,
        message_id TEXT,
        outcome TEXT NOT NULL,
        document_id UUID,
        generation BIGINT,
        CONSTRAINT pk_events PRIMARY KEY (received_at, id)
    ) PARTITION BY RANGE (received_at)
    """,
    "CREATE INDEX ix_events_bucket_key ON events (bucket, key)",
    "CREATE INDEX ix_events_of_no_document ON events (received_at) WHERE document_id IS NULL AND raw IS NOT NULL",
    "CREATE TABLE events_default PARTITION OF events DEFAULT",
    """
    CREATE TABLE released_texts (
        text_sha256 BYTEA NOT NULL,
        released_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT pk_released_texts PRIMARY KEY (text_sha256)
    )
    """,
    "CREATE INDEX ix_released_texts_released_at ON released_texts (released_at)",
    "CREATE TABLE chores (name TEXT NOT NULL, due_at TIMESTAMP WITH TIME ZONE NOT NULL, CONSTRAINT pk_chores PRIMARY KEY (name))",
    # A tick over a million due rows took two seconds with the old ones.
    "CREATE INDEX ix_documents_lease_end ON documents (due_at) WHERE lease_token IS NOT NULL",
    "CREATE INDEX ix_documents_status_due_at ON documents (status, due_at)",
    "DROP INDEX ix_documents_due_at, ix_documents_status",
    "CREATE INDEX ix_document_chunks_text_sha256 ON document_chunks USING hash (text_sha256)",
    # A trigger, and not a statement of each service: whatever removes chunks, a cascade or a person at psql among it, their
    # cached vectors are found.
    """
    CREATE FUNCTION release_texts() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO released_texts (text_sha256)
        SELECT DISTINCT gone.text_sha256 FROM gone
        WHERE NOT EXISTS (SELECT FROM document_chunks kept WHERE kept.text_sha256 = gone.text_sha256)
        ORDER BY gone.text_sha256
        ON CONFLICT (text_sha256) DO UPDATE SET released_at = excluded.released_at;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER release_texts AFTER DELETE ON document_chunks
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION release_texts()
    """,
    # What was cached before there was this trigger, and stands nowhere by now.
    """
    INSERT INTO released_texts (text_sha256)
    SELECT DISTINCT text_sha256 FROM embedding_cache k
    WHERE NOT EXISTS (SELECT FROM document_chunks c WHERE c.text_sha256 = k.text_sha256)
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER release_texts ON document_chunks")
    op.execute("DROP FUNCTION release_texts")
    op.execute("DROP INDEX ix_document_chunks_text_sha256, ix_documents_lease_end, ix_documents_status_due_at")
    op.execute("CREATE INDEX ix_documents_due_at ON documents (due_at) WHERE due_at IS NOT NULL")
    op.execute("CREATE INDEX ix_documents_status ON documents (status)")
    op.execute("DROP TABLE chores, released_texts, events")
