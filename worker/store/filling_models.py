"""The tables of filling a further profile, as models, and the index that says what was served since when.

::

    embedding_fillings   one row a profile that is, or was, filled beside the one that serves: how far, and why it rests
    refused_texts        texts that a profile's provider refuses: asked once, and not again until the next `model backfill`
    dropped_profiles     names of profiles that are gone: the cost ledger goes on telling of them
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column

from worker.store.models import Base, Document

# When a document's version was served first. Rows that were not made by the embedding stage may lack ``indexed_at``.
SERVED_SINCE = func.coalesce(Document.indexed_at, Document.created_at)

Index("ix_documents_served_since", SERVED_SINCE, Document.id, postgresql_where=Document.active_generation.is_not(None))


class EmbeddingFilling(Base):
    """How far the filling of a profile is: each text of what was served until ``filled_until`` has a vector, or is refused.

    ``filled_at`` is when nothing was missing (null: not yet since the filling began). It rests until ``rest_until`` for the
    reason ``code``. ``budget`` is of this run, as ``worker.budget`` reads it; ``tokens_before`` are those of earlier runs.
    """

    __tablename__ = "embedding_fillings"

    profile_id: Mapped[int] = mapped_column(
        Integer, ForeignKey("embedding_profiles.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    filled_until: Mapped[datetime | None]
    filled_at: Mapped[datetime | None]
    rest_until: Mapped[datetime | None]
    code: Mapped[str | None]
    reason: Mapped[str | None]
    budget: Mapped[str | None]
    tokens_before: Mapped[int | None]


class RefusedText(Base):
    """A text that this profile's provider refuses. It goes with its text, as its vector would (worker.store.pruning)."""

    __tablename__ = "refused_texts"

    profile_id: Mapped[int] = mapped_column(
        Integer, ForeignKey("embedding_profiles.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    text_sha256: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    refused_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DroppedProfile(Base):
    """A profile whose vectors were dropped. Its id is never given again."""

    __tablename__ = "dropped_profiles"

    profile_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    provider: Mapped[str]
    model: Mapped[str]
    dimensions: Mapped[int] = mapped_column(Integer)
    dropped_at: Mapped[datetime] = mapped_column(server_default=func.now())
