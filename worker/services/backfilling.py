"""A backfill, as an operator runs it: what it will take, its beginning, how far it is, its index, its end.

The filling itself is done by workers (``worker.services.filling``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import text

from worker import producer
from worker.budget import Budget
from worker.contract import FillProfile
from worker.domain.errors import ProviderUnusable
from worker.domain.spending import spent
from worker.embed.prices import price_of
from worker.services.models import ModelError
from worker.services.spending import dollars_of, require_price
from worker.settings import Settings
from worker.store import fill_calls, fillings, profiles, vector_index
from worker.store.driver import connect
from worker.store.fillings import State
from worker.store.profiles import Profile
from worker.store.session import psycopg_below, transaction

# Where the ledger knows nothing yet: English prose has about so many bytes a token.
_ASSUMED = 0.25

# Of documents whose every text was asked for just once, by them: else their tokens were for other texts too, or for fewer.
_MEASURED = text("""
SELECT s.profile_id, sum(s.tokens)::float8 / sum(s.bytes) FROM (
    SELECT few.profile_id, sum(few.tokens) AS tokens,
           (SELECT sum(octet_length(c.text)) FROM document_chunks c
            WHERE c.document_id = d.id AND c.generation = d.active_generation) AS bytes
    FROM (SELECT * FROM spending WHERE purpose IN ('document', 'backfill') LIMIT 5000) few
    JOIN documents d ON d.id = few.document_id
    JOIN generations g ON g.document_id = d.id AND g.generation = d.active_generation
    GROUP BY few.profile_id, d.id, g.chunk_count HAVING sum(few.inputs) = g.chunk_count
) s GROUP BY s.profile_id ORDER BY s.profile_id = :id DESC, count(*) DESC LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is missing, and what that takes. ``measured`` is the profile whose ledger gave ``tokens_per_byte``; None: assumed.

    ``dollars`` is None where the model's price is not known, ``seconds`` where no limits are set: the rate is known once it runs.
    """

    texts: int
    size: int
    tokens: int
    tokens_per_byte: float
    measured: str | None
    dollars: Decimal | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """``whole``: nothing was missing since it began, at some moment. ``inputs``: texts that were answered for since the profile
    was made. ``reason``: why the filling rests.

    ``running``: a worker is at it now. ``spent``: the run's budget is used up, so that nothing follows by itself.
    """

    wanted: bool
    whole: bool
    running: bool
    inputs: int
    refused: int
    reason: str | None
    spent: bool


def plan(profile: Profile, settings: Settings) -> Plan:
    """What a backfill of the profile takes now."""
    with transaction(settings.database_url) as connection:
        number, size = fillings.lacking_texts(connection, profile)
        measured = connection.execute(_MEASURED, {"id": profile.id}).one_or_none()
        names = {each.id: each.name for each in profiles.every(connection)}
    ratio = _ASSUMED if measured is None else measured[1]
    tokens = math.ceil(size * ratio)
    price = price_of(profile.model, settings)
    dollars = None if price is None else dollars_of(spent(number, tokens, price))
    source = None if measured is None else names.get(measured[0], "a profile that was dropped")
    return Plan(number, size, tokens, ratio, source, dollars, _seconds(number, tokens, settings))


def _seconds(texts: int, tokens: int, settings: Settings) -> float | None:
    """By the account's limits alone; documents that come meanwhile use them too."""
    requests = math.ceil(texts / settings.embedding_batch)
    limits = ((requests, settings.requests_per_minute), (tokens, settings.tokens_per_minute))
    times = [60.0 * amount / limit for amount, limit in limits if limit is not None]
    return max(times, default=None)


def start(profile: Profile, budget: Budget | None, settings: Settings) -> None:
    """Keep the profile filled from now on, and call a worker.

    Raises:
        ModelError: ``profile_serves``; ``budget_price``: a budget in money, and no price.
    """
    try:
        require_price(profile.model, settings, budget)
    except ProviderUnusable as error:
        raise ModelError(error.code, error.message) from error
    with transaction(settings.database_url) as connection:
        serving = profiles.serving(connection)
        if serving is not None and serving.id == profile.id:
            raise ModelError("profile_serves", f"{profile.name} serves: every document has its vectors already")
        amount = None if budget is None else f"{budget.amount:f}{'t' if budget.in_tokens else ''}"
        fillings.begin(connection, profile.id, amount)
    if settings.redis_url:
        # Else the dispatcher calls, some seconds later.
        producer.send([FillProfile(profile.id)], settings)


def stop(profile: Profile, settings: Settings) -> bool:
    """Fill it no longer; a filler that is at it ends within seconds, and what has a vector keeps it. False: nobody filled it."""
    with transaction(settings.database_url) as connection:
        return fillings.stop(connection, profile.id)


def progress(profile: Profile, settings: Settings) -> Progress:
    """How far the filling is; cheap while it runs.

    Raises:
        ModelError: ``unknown_profile``: it was dropped.
    """
    with transaction(settings.database_url) as connection:
        state = fillings.state(connection, profile.id)
        if state is None:
            raise ModelError("unknown_profile", f"{profile.name} was dropped meanwhile")
        return Progress(
            wanted=state.wanted,
            # Where documents come in all the time, there is always one that was served a moment ago.
            whole=state.filled_at is not None or fillings.whole_since(connection, profile, state.filled_until),
            running=fill_calls.is_held(psycopg_below(connection), profile.id),
            inputs=fillings.inputs(connection, profile.id),
            refused=fillings.refused(connection, profile.id),
            reason=_reason(state),
            spent=state.code == fill_calls.RUN_SPENT,
        )


def _reason(state: State) -> str | None:
    return state.reason if state.code == fill_calls.RUN_SPENT or state.rest_until is not None else None


def build_index(profile: Profile, settings: Settings) -> bool:
    """Build the profile's index where there are enough vectors for one. False where another process builds one now.

    Raises:
        psycopg.OperationalError: the database is away.
    """
    with connect(settings.database_url, "lex-ingest-index") as connection:
        connection.autocommit = True
        vector_index.build_missing(connection, settings.hnsw_m, settings.hnsw_ef_construction, profile.id)
        return not vector_index.is_needed(connection, profile.id)
