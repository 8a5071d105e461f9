"""Alembic's environment. ``worker.services.migration`` passes the open connection; there is no alembic.ini."""

from __future__ import annotations

from alembic import context

from worker.store import filling_models, spending_models  # noqa: F401 - their tables are a part of the metadata
from worker.store.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
