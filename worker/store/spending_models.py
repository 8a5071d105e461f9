"""The tables of the cost ledger, as models: what was sent, and what the provider counted.

::

    embedding_requests   sent, and not known to be answered: "unconfirmed"
    spending             what was confirmed: (document, day, profile, purpose)
    spending_days        the same by (day, profile): what a budget asks, one row

No foreign keys: what was spent stays when a document or a profile goes. No key of a document either: it is personal data, and is
erased with its document.
"""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Date, Identity, Integer, Numeric, Uuid, func, text
from sqlalchemy.orm import Mapped, mapped_column

from worker.store.models import Base

# Stands for "no document": queries, and documents whose rows were erased. The last UUID there is (RFC 9562, 5.10), so that it is
# locked after all others: see worker.store.spending.
NOBODY = uuid.UUID(int=2**128 - 1)


class EmbeddingRequest(Base):
    """A request that was announced: on its way, or never answered. ``most_tokens`` is a bound that is sure."""

    __tablename__ = "embedding_requests"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    sent_at: Mapped[datetime] = mapped_column(server_default=func.now())
    day: Mapped[date] = mapped_column(Date, server_default=text("(now() AT TIME ZONE 'UTC')::date"))
    profile_id: Mapped[int] = mapped_column(Integer)
    inputs: Mapped[int] = mapped_column(Integer)
    most_tokens: Mapped[int]


class Spending(Base):
    """What was confirmed for a document on a day (UTC, when the request was sent). ``document_id`` may be ``NOBODY``.

    Money is in micro-dollars, null where no price was known; ``unpriced_tokens`` are the tokens that it does not hold.
    """

    __tablename__ = "spending"

    document_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    profile_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    purpose: Mapped[str] = mapped_column(primary_key=True)
    inputs: Mapped[int]
    tokens: Mapped[int]
    micro_dollars: Mapped[Decimal | None] = mapped_column(Numeric)
    unpriced_tokens: Mapped[int]


class SpendingDay(Base):
    """A day's sums of ``spending``; ``unanswered_*`` are the day's announcements that were given up (worker.store.pruning)."""

    __tablename__ = "spending_days"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    profile_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    requests: Mapped[int] = mapped_column(server_default=text("0"))
    inputs: Mapped[int] = mapped_column(server_default=text("0"))
    tokens: Mapped[int] = mapped_column(server_default=text("0"))
    micro_dollars: Mapped[Decimal | None] = mapped_column(Numeric)
    unpriced_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    unanswered_requests: Mapped[int] = mapped_column(server_default=text("0"))
    unanswered_inputs: Mapped[int] = mapped_column(server_default=text("0"))
    unanswered_most_tokens: Mapped[int] = mapped_column(server_default=text("0"))
