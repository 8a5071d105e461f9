"""Short forms for the tests of the cost ledger."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import psycopg

from worker.domain.spending import Answer, Part, Purpose
from worker.settings import Settings
from worker.store import profiles, spending
from worker.store.profiles import Profile
from worker.store.session import transaction

CENTS = Decimal("0.02")


def profile_of(settings: Settings) -> Profile:
    with transaction(settings.database_url) as connection:
        found = profiles.find(connection, settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions)
    assert found is not None
    return found


def announced(settings: Settings, inputs: int = 1, most_tokens: int = 100, profile_id: int | None = None) -> int:
    """Announce a request, committed."""
    number = profile_of(settings).id if profile_id is None else profile_id
    with transaction(settings.database_url) as connection:
        return spending.announce(connection, number, inputs, most_tokens)


def part(document: UUID | None, tokens: int, inputs: int = 1, purpose: Purpose = Purpose.DOCUMENT) -> Part:
    return Part(document, purpose, inputs, tokens)


def confirmed(settings: Settings, *answers: Answer, price: Decimal | None = CENTS) -> int:
    with transaction(settings.database_url) as connection:
        return spending.confirm_and_commit(connection, answers, price)


def spend(settings: Settings, *parts: Part, price: Decimal | None = CENTS) -> None:
    """A request that was sent and answered."""
    number = announced(settings, sum(each.inputs for each in parts), 10 * sum(each.tokens for each in parts))
    assert confirmed(settings, Answer(number, parts), price=price) == 1


def sums(settings: Settings, table: str) -> tuple[int, int, Decimal | None, int]:
    """Inputs, tokens, micro-dollars and unpriced tokens of ``spending`` or ``spending_days``, by plain SQL."""
    with psycopg.connect(settings.database_url) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(inputs), 0)::bigint, coalesce(sum(tokens), 0)::bigint, sum(micro_dollars),"
            f" coalesce(sum(unpriced_tokens), 0)::bigint FROM {table}".encode()
        ).fetchone()
    assert row is not None
    return row


def waiting(settings: Settings) -> list[tuple[int, int, int]]:
    """Requests, inputs and most tokens that are not confirmed, by day."""
    with transaction(settings.database_url) as connection:
        return [(row.requests, row.inputs, row.most_tokens) for row in spending.unconfirmed(connection)]


def rows(settings: Settings, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(settings.database_url) as connection:
        return connection.execute(statement.encode()).fetchall()
