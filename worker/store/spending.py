"""The cost ledger's SQL: a request is announced before it goes out, and confirmed together with the vectors that it brought.

So at every moment: confirmed <= what the provider counted <= confirmed + unconfirmed. A request whose answer was lost, for the
network, a killed worker or a commit that failed, stays announced with its bound; nothing is confirmed twice.

Whoever confirms locks announcements, then ``spending`` in the order of documents (``NOBODY`` last), then ``spending_days``: all
in one order, so that none waits for another in a circle. The day's row is what everybody writes: that, and the commit, are one
exchange with PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import LiteralString

from sqlalchemy import Connection, delete, func, select, text

from worker.domain.spending import Answer, Spent, spent
from worker.store.session import run_and_commit
from worker.store.spending_models import NOBODY, EmbeddingRequest

# Held by whoever asks for today's budget and then announces: two would both find room for one.
_BUDGET_LOCK = 0x1E81_0004

_ANNOUNCE = text("""
INSERT INTO embedding_requests (profile_id, inputs, most_tokens) VALUES (:profile_id, :inputs, :most_tokens) RETURNING id
""")

# "+" with null is null: then the one that is known counts.
_ADD: LiteralString = """
    inputs = {table}.inputs + excluded.inputs,
    tokens = {table}.tokens + excluded.tokens,
    micro_dollars = coalesce({table}.micro_dollars + excluded.micro_dollars, {table}.micro_dollars, excluded.micro_dollars),
    unpriced_tokens = {table}.unpriced_tokens + excluded.unpriced_tokens
"""
_SUMS: LiteralString = "sum(inputs)::bigint, sum(tokens)::bigint, sum(micro_dollars), sum(unpriced_tokens)::bigint"

# Announcements in the order of their ids: whoever confirms the same ones at the same time must not hold one and wait for another.
# The days' rows come when the documents' are written, which is why they are asked how many those were.
_CONFIRM: LiteralString = f"""
WITH taken AS (
    DELETE FROM embedding_requests WHERE id IN (
        SELECT id FROM embedding_requests WHERE id = ANY(%(requests)s) ORDER BY id FOR UPDATE
    )
    RETURNING id, day, profile_id
), parts AS (
    SELECT day, profile_id, document_id, purpose, inputs, tokens, micro_dollars, unpriced_tokens
    FROM taken JOIN unnest(
        %(part_of)s::bigint[], %(documents)s::uuid[], %(purposes)s::text[],
        %(inputs)s::bigint[], %(tokens)s::bigint[], %(money)s::numeric[], %(unpriced)s::bigint[]
    ) AS part (id, document_id, purpose, inputs, tokens, micro_dollars, unpriced_tokens) USING (id)
), documents AS (
    INSERT INTO spending (document_id, day, profile_id, purpose, inputs, tokens, micro_dollars, unpriced_tokens)
    SELECT document_id, day, profile_id, purpose, {_SUMS} FROM parts
    GROUP BY document_id, day, profile_id, purpose ORDER BY document_id, day, profile_id, purpose
    ON CONFLICT (document_id, day, profile_id, purpose) DO UPDATE SET {_ADD.format(table="spending")}
    RETURNING 1
), days AS (
    INSERT INTO spending_days (day, profile_id, requests, inputs, tokens, micro_dollars, unpriced_tokens)
    SELECT day, profile_id, (SELECT count(*) FROM taken WHERE (day, profile_id) = (parts.day, parts.profile_id)), {_SUMS}
    FROM parts WHERE (SELECT count(*) FROM documents) > 0
    GROUP BY day, profile_id ORDER BY day, profile_id
    ON CONFLICT (day, profile_id) DO UPDATE SET
        requests = spending_days.requests + excluded.requests, {_ADD.format(table="spending_days")}
)
SELECT count(*) FROM taken
"""

# What was announced in these days (null: no bound) and is not confirmed, given up or not.
_UNCONFIRMED = """
SELECT day, profile_id, sum(requests)::bigint AS requests, sum(inputs)::bigint AS inputs, sum(most_tokens)::bigint AS most_tokens
FROM (
    SELECT day, profile_id, 1 AS requests, inputs, most_tokens FROM embedding_requests
    UNION ALL
    SELECT day, profile_id, unanswered_requests, unanswered_inputs, unanswered_most_tokens FROM spending_days
    WHERE unanswered_requests > 0
) AS announced
WHERE day >= coalesce(:since, day) AND day <= coalesce(:until, day)
GROUP BY day, profile_id
"""

_TODAY = text(f"""
WITH clock AS (SELECT now() AT TIME ZONE 'UTC' AS time),
today AS (SELECT time::date AS day, extract(epoch FROM time::date + 1 - time)::float8 AS seconds_left FROM clock),
announced AS ({_UNCONFIRMED.replace(":since", "(SELECT day FROM today)").replace(":until", "(SELECT day FROM today)")}),
confirmed AS (SELECT spending_days.* FROM spending_days, today WHERE spending_days.day = today.day)
SELECT today.day, today.seconds_left, profile_id, profile.provider, profile.model,
       coalesce(confirmed.inputs, 0) AS inputs, coalesce(confirmed.tokens, 0) AS tokens, confirmed.micro_dollars,
       coalesce(confirmed.unpriced_tokens, 0) AS unpriced_tokens, coalesce(announced.requests, 0) AS waiting,
       coalesce(announced.inputs, 0) AS waiting_inputs, coalesce(announced.most_tokens, 0) AS most_tokens
FROM today LEFT JOIN (confirmed FULL JOIN announced USING (profile_id)) ON true
LEFT JOIN embedding_profiles AS profile ON profile.id = profile_id
ORDER BY profile_id
""")


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Requests of a day (UTC) that are on their way or were never answered: at most so many tokens."""

    day: date
    profile_id: int
    requests: int
    inputs: int
    most_tokens: int


@dataclass(frozen=True, slots=True)
class ProfileToday:
    """Today's sums of one profile. ``provider`` and ``model`` are None where the profile is gone."""

    profile_id: int
    provider: str | None
    model: str | None
    confirmed: Spent
    requests: int
    inputs: int
    most_tokens: int


@dataclass(frozen=True, slots=True)
class Today:
    """The database's day (UTC), the seconds until the next one, and each profile that something was spent on."""

    day: date
    seconds_left: float
    profiles: tuple[ProfileToday, ...]


def announce(connection: Connection, profile_id: int, inputs: int, most_tokens: int) -> int:
    """Write down that a request goes out; commit before it does. ``most_tokens`` must be sure: UTF-8 bytes are.

    Returns:
        The request's id, for ``confirm`` or ``withdraw``. With neither, it stays unconfirmed: that is what to do with an answer
        that was lost, can't be read or has no ``usage``.
    """
    row = connection.execute(_ANNOUNCE, {"profile_id": profile_id, "inputs": inputs, "most_tokens": most_tokens})
    return int(row.scalar_one())


def withdraw(connection: Connection, request_id: int) -> bool:
    """Take an announcement back, where it is sure that nothing is billed: no connection, or an answer 4xx (429 among them).

    Not after a timeout or a 5xx. False where it was not there any more.
    """
    return connection.execute(delete(EmbeddingRequest).where(EmbeddingRequest.id == request_id)).rowcount > 0


def confirm_and_commit(connection: Connection, answers: Sequence[Answer], price: Decimal | None) -> int:
    """Count what the provider counted, and commit the caller's transaction: the one that stores the vectors.

    It counts for the day on which the request was sent. An answer whose announcement is not there any more was counted before and
    is left out, so a transaction whose commit is in doubt may be run again. Where the vectors can't be stored (a lost lease), the
    tokens were paid for all the same: confirm them in a transaction of their own.

    Args:
        answers: each with its parts, at least one; ``worker.domain.spending.divide`` makes them of a request's ``usage``.
        price: dollars for a million tokens, None where it is not known.

    Returns:
        How many of the answers were counted now.
    """
    parts = [(answer.request_id, part, spent(part.inputs, part.tokens, price)) for answer in answers for part in answer.parts]
    parameters = {
        "requests": [answer.request_id for answer in answers],
        "part_of": [request for request, _, _ in parts],
        "documents": [part.document_id or NOBODY for _, part, _ in parts],
        "purposes": [part.purpose.value for _, part, _ in parts],
        "inputs": [amount.inputs for _, _, amount in parts],
        "tokens": [amount.tokens for _, _, amount in parts],
        "money": [amount.micro_dollars for _, _, amount in parts],
        "unpriced": [amount.unpriced_tokens for _, _, amount in parts],
    }
    return run_and_commit(connection, _CONFIRM, parameters)


def unconfirmed(connection: Connection, since: date | None = None, until: date | None = None) -> list[Unconfirmed]:
    """What was announced on these days, both included, and is not confirmed; by day and profile."""
    rows = connection.execute(
        text(_UNCONFIRMED.replace(":since", "CAST(:since AS date)").replace(":until", "CAST(:until AS date)") + " ORDER BY 1, 2"),
        {"since": since, "until": until},
    )
    return [Unconfirmed(*row) for row in rows]


def today(connection: Connection) -> Today:
    """What was spent and announced today, in one statement: a request that is confirmed meanwhile is seen once."""
    rows = connection.execute(_TODAY).all()
    profiles = tuple(
        ProfileToday(
            row.profile_id,
            row.provider,
            row.model,
            Spent(row.inputs, row.tokens, row.micro_dollars, row.unpriced_tokens),
            row.waiting,
            row.waiting_inputs,
            row.most_tokens,
        )
        for row in rows
        if row.profile_id is not None
    )
    return Today(rows[0].day, rows[0].seconds_left, profiles)


def lock_budget(connection: Connection) -> None:
    """Until the end of this transaction nobody else announces under a budget."""
    connection.execute(select(func.pg_advisory_xact_lock(_BUDGET_LOCK)))
