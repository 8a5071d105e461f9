"""Filling a further profile: how far it is and why it rests, texts that are refused, and names of profiles that were dropped.

Revision: 0009, after 0008
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE embedding_fillings (
            profile_id INTEGER NOT NULL,
            filled_until TIMESTAMP WITH TIME ZONE,
            filled_at TIMESTAMP WITH TIME ZONE,
            rest_until TIMESTAMP WITH TIME ZONE,
            code TEXT,
            reason TEXT,
            budget TEXT,
            tokens_before BIGINT,
            CONSTRAINT pk_embedding_fillings PRIMARY KEY (profile_id),
            CONSTRAINT fk_embedding_fillings_embedding_profiles FOREIGN KEY(profile_id)
                REFERENCES embedding_profiles (id) ON DELETE CASCADE
        )
    """)
    op.execute("""
        CREATE TABLE refused_texts (
            profile_id INTEGER NOT NULL,
            text_sha256 BYTEA NOT NULL,
            refused_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            CONSTRAINT pk_refused_texts PRIMARY KEY (profile_id, text_sha256),
            CONSTRAINT fk_refused_texts_embedding_profiles FOREIGN KEY(profile_id)
                REFERENCES embedding_profiles (id) ON DELETE CASCADE
        )
    """)
    op.execute("""
        CREATE TABLE dropped_profiles (
            profile_id INTEGER NOT NULL,
            provider TEXT NOT NULL,
            model TEXT NOT NULL,
            dimensions INTEGER NOT NULL,
            dropped_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            CONSTRAINT pk_dropped_profiles PRIMARY KEY (profile_id)
        )
    """)
    op.execute(
        "CREATE INDEX ix_documents_served_since ON documents (coalesce(indexed_at, created_at), id) WHERE active_generation IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("DROP INDEX ix_documents_served_since")
    op.execute("DROP TABLE dropped_profiles, refused_texts, embedding_fillings")
