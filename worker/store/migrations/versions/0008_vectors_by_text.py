"""Vectors stand under the digest of their text: the searched table and the cache are one, and a vector is written once.

A profile may serve queries (one does), or be kept filled beside the one that does, so that a switch and its rollback are one UPDATE.

Revision: 0008, after 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE embedding_profiles ADD COLUMN serving BOOLEAN DEFAULT false NOT NULL")
    op.execute("ALTER TABLE embedding_profiles ADD COLUMN kept_filled BOOLEAN DEFAULT false NOT NULL")
    op.execute("ALTER TABLE embedding_profiles ADD COLUMN base_url TEXT")
    op.execute("ALTER TABLE embedding_profiles ADD COLUMN send_dimensions BOOLEAN DEFAULT false NOT NULL")
    op.execute("ALTER TABLE embedding_profiles ADD COLUMN switched_at TIMESTAMP WITH TIME ZONE")
    op.execute("CREATE UNIQUE INDEX ix_embedding_profiles_serving ON embedding_profiles (serving) WHERE serving")
    profiles = op.get_bind().execute(sa.text("SELECT id, dimensions, storage FROM embedding_profiles")).all()
    for profile, dimensions, storage in profiles:
        table = f"embeddings_{profile:d}"
        op.execute(f"ALTER TABLE {table} RENAME TO {table}_by_chunk")
        op.execute(f"ALTER INDEX {table}_pkey RENAME TO {table}_by_chunk_pkey")
        op.execute(f"ALTER INDEX IF EXISTS {table}_hnsw RENAME TO {table}_by_chunk_hnsw")
        op.execute(f"CREATE TABLE {table} (text_sha256 bytea PRIMARY KEY, embedding {storage}({dimensions:d}) NOT NULL)")
        op.execute(f"ALTER TABLE {table} ALTER COLUMN embedding SET STORAGE PLAIN")
        op.execute(f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.05)")
        op.execute(
            f"INSERT INTO {table} SELECT DISTINCT ON (c.text_sha256) c.text_sha256, e.embedding"
            f" FROM {table}_by_chunk e JOIN document_chunks c ON c.id = e.chunk_id ORDER BY c.text_sha256"
        )
        op.execute(
            f"INSERT INTO {table} SELECT text_sha256, embedding::{storage}({dimensions:d}) FROM embedding_cache"
            f" WHERE profile_id = {profile:d} ON CONFLICT DO NOTHING"
        )
        op.execute(f"DROP TABLE {table}_by_chunk")
    op.execute("DROP TABLE embedding_cache")


def downgrade() -> None:
    op.execute("""
        CREATE TABLE embedding_cache (
            profile_id INTEGER NOT NULL,
            text_sha256 BYTEA NOT NULL,
            embedding VECTOR NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            CONSTRAINT pk_embedding_cache PRIMARY KEY (profile_id, text_sha256),
            CONSTRAINT fk_embedding_cache_embedding_profiles FOREIGN KEY(profile_id)
                REFERENCES embedding_profiles (id) ON DELETE CASCADE
        )
    """)
    profiles = op.get_bind().execute(sa.text("SELECT id, dimensions, storage FROM embedding_profiles")).all()
    for profile, dimensions, storage in profiles:
        table = f"embeddings_{profile:d}"
        op.execute(f"INSERT INTO embedding_cache SELECT {profile:d}, text_sha256, embedding::vector FROM {table}")
        op.execute(f"ALTER TABLE {table} RENAME TO {table}_by_text")
        op.execute(f"ALTER INDEX {table}_pkey RENAME TO {table}_by_text_pkey")
        op.execute(f"ALTER INDEX IF EXISTS {table}_hnsw RENAME TO {table}_by_text_hnsw")
        op.execute(
            f"CREATE TABLE {table} (chunk_id bigint PRIMARY KEY REFERENCES document_chunks (id) ON DELETE CASCADE,"
            f" embedding {storage}({dimensions:d}) NOT NULL)"
        )
        op.execute(f"ALTER TABLE {table} ALTER COLUMN embedding SET STORAGE PLAIN")
        op.execute(
            f"INSERT INTO {table} SELECT c.id, e.embedding FROM {table}_by_text e JOIN document_chunks c USING (text_sha256)"
        )
        op.execute(f"CREATE INDEX {table}_hnsw ON {table} USING hnsw (embedding {storage}_cosine_ops)")
        op.execute(f"DROP TABLE {table}_by_text")
    op.execute("DROP INDEX ix_embedding_profiles_serving")
    op.execute(
        "ALTER TABLE embedding_profiles DROP COLUMN serving, DROP COLUMN kept_filled, DROP COLUMN base_url,"
        " DROP COLUMN send_dimensions, DROP COLUMN switched_at"
    )
