"""What a file says about itself: author, dates, language; and which engine read which page.

Revision: 0004, after 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A constant default: no row is written again.
    op.execute("ALTER TABLE generations ADD COLUMN file_metadata JSONB DEFAULT '{}' NOT NULL")


def downgrade() -> None:
    op.execute("ALTER TABLE generations DROP COLUMN file_metadata")
