"""What embedding has cost: the ledger by prefix, document, day or model, what is not confirmed, and today's budget."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, select

from worker.domain.scope import Scope
from worker.domain.spending import Spent, spent
from worker.embed.prices import price_of
from worker.services.spending import Today, Unconfirmed, is_free, today
from worker.settings import Settings
from worker.store import spending, spending_report
from worker.store.models import EmbeddingProfile
from worker.store.session import snapshot
from worker.store.spending_report import By, Line


@dataclass(frozen=True, slots=True)
class Cost:
    """All of it as of one moment. ``total`` is the sum of the lines: what is confirmed.

    ``unconfirmed`` is of the same days and of all documents, but for models that cost nothing. What the provider counted is from
    ``total`` to the two together, unless a prefix left lines out.
    """

    lines: list[Line]
    total: Spent
    unconfirmed: Unconfirmed
    today: Today


def cost(
    scope: Scope,
    settings: Settings,
    *,
    by: By = By.PREFIX,
    since: date | None = None,
    until: date | None = None,
    depth: int = 1,
    limit: int = 1000,
    only_scope: bool = False,
) -> Cost:
    """Read the ledger. Days are UTC, both ends included. For ``depth``, ``limit`` and ``only_scope`` see
    ``worker.store.spending_report.lines``.

    Raises:
        sqlalchemy.exc.OperationalError: the database is away.
    """
    with snapshot(settings.database_url) as connection:
        found = spending_report.lines(
            connection, scope, by, since=since, until=until, depth=depth, limit=limit, only_scope=only_scope
        )
        return Cost(
            found,
            sum((line.spent for line in found), Spent()),
            _unconfirmed(connection, settings, since, until),
            today(connection, settings),
        )


def _unconfirmed(connection: Connection, settings: Settings, since: date | None, until: date | None) -> Unconfirmed:
    """Over all profiles whose provider may bill, at today's prices."""
    columns = (EmbeddingProfile.id, EmbeddingProfile.provider, EmbeddingProfile.model)
    profiles = {row.id: row for row in connection.execute(select(*columns))}
    requests, most = 0, Spent()
    for row in spending.unconfirmed(connection, since, until):
        profile = profiles.get(row.profile_id)
        price = None if profile is None else price_of(profile.model, settings)
        if not is_free(None if profile is None else profile.provider, price):
            requests, most = requests + row.requests, most + spent(row.inputs, row.most_tokens, price)
    return Unconfirmed(requests, most)
