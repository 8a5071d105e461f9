"""Texts of documents that are removed at the same moment are released too.

Two documents with one text, each removed in a transaction of its own: neither saw that the other's chunk was going, so neither
released the text, and its cached vector stayed for ever. Now only the document's own chunks count, whose writers take turns by its
row's lock; whoever erases asks whether the text stands anywhere else (worker.store.pruning).

Revision: 0003, after 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_FUNCTION = """
CREATE OR REPLACE FUNCTION release_texts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO released_texts (text_sha256)
    SELECT DISTINCT gone.text_sha256 FROM gone
    WHERE NOT EXISTS (SELECT FROM document_chunks kept WHERE kept.text_sha256 = gone.text_sha256{of_its_document})
    ORDER BY gone.text_sha256
    ON CONFLICT (text_sha256) DO UPDATE SET released_at = excluded.released_at;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute(_FUNCTION.format(of_its_document=" AND kept.document_id = gone.document_id"))
    # What was overlooked so far.
    op.execute("""
        INSERT INTO released_texts (text_sha256)
        SELECT DISTINCT text_sha256 FROM embedding_cache k
        WHERE NOT EXISTS (SELECT FROM document_chunks c WHERE c.text_sha256 = k.text_sha256)
        ON CONFLICT (text_sha256) DO NOTHING
    """)


def downgrade() -> None:
    op.execute(_FUNCTION.format(of_its_document=""))
