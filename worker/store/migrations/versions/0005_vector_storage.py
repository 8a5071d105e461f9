"""How a profile keeps its vectors: in four bytes a number as before, or in two.

Revision: 0005, after 0004
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The tables that are there stay as they are.
    op.execute("ALTER TABLE embedding_profiles ADD COLUMN storage TEXT DEFAULT 'vector' NOT NULL")
    op.execute(
        "ALTER TABLE embedding_profiles ADD CONSTRAINT ck_embedding_profiles_storage CHECK (storage IN ('halfvec', 'vector'))"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE embedding_profiles DROP COLUMN storage")
