"""The cost ledger: announced requests, and what the provider counted, by document and by day (worker.store.spending_models).

``spending`` begins with the document: its rows are found by it when the document is erased, and concurrent writers of different
documents touch different pages. Days and budgets are read from ``spending_days``.

Revision: 0007, after 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE embedding_requests (
        id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
        sent_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        day DATE DEFAULT (now() AT TIME ZONE 'UTC')::date NOT NULL,
        profile_id INTEGER NOT NULL,
        inputs INTEGER NOT NULL,
        most_tokens BIGINT NOT NULL,
        CONSTRAINT pk_embedding_requests PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE spending (
        document_id UUID NOT NULL,
        day DATE NOT NULL,
        profile_id INTEGER NOT NULL,
        purpose TEXT NOT NULL,
        inputs BIGINT NOT NULL,
        tokens BIGINT NOT NULL,
        micro_dollars NUMERIC,
        unpriced_tokens BIGINT NOT NULL,
        CONSTRAINT pk_spending PRIMARY KEY (document_id, day, profile_id, purpose)
    )
    """,
    """
    CREATE TABLE spending_days (
        day DATE NOT NULL,
        profile_id INTEGER NOT NULL,
        requests BIGINT DEFAULT 0 NOT NULL,
        inputs BIGINT DEFAULT 0 NOT NULL,
        tokens BIGINT DEFAULT 0 NOT NULL,
        micro_dollars NUMERIC,
        unpriced_tokens BIGINT DEFAULT 0 NOT NULL,
        unanswered_requests BIGINT DEFAULT 0 NOT NULL,
        unanswered_inputs BIGINT DEFAULT 0 NOT NULL,
        unanswered_most_tokens BIGINT DEFAULT 0 NOT NULL,
        CONSTRAINT pk_spending_days PRIMARY KEY (day, profile_id)
    )
    """,
    # Every request adds to the day's row: with room on its page no index is written (PostgreSQL manual, "Heap-Only Tuples").
    "ALTER TABLE spending_days SET (fillfactor = 20)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE embedding_requests, spending, spending_days")
