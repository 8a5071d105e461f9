"""Today's budget: what is used of it, and whether another request may go out.

The rule: a request goes out while confirmed and unconfirmed together are below the budget, so documents cost a day at most
the budget and one request (``worker.services.asking.MOST_BYTES`` tokens), however many workers ask at once. All profiles
count, and queries too, but a query is never refused: who searches announces by ``worker.store.spending.announce``. Unconfirmed
tokens count with their bound, about four times too high for plain text: near its end a budget may rest while answers are on
their way. With a budget in money nothing is sent to a model whose price is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import Connection

from worker.budget import Budget, read_budget
from worker.contract import LOCAL_PROVIDER
from worker.domain.errors import BudgetSpent, ProviderUnusable, RunSpent
from worker.domain.spending import Purpose, Spent, spent
from worker.embed.prices import price_of
from worker.settings import Settings
from worker.store import fillings, spending
from worker.store.profiles import Profile
from worker.store.session import statements, transaction


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Requests that are on their way or were never answered, and what they cost at most."""

    requests: int
    most: Spent


@dataclass(frozen=True, slots=True)
class Today:
    """What the day (UTC) has cost so far. ``seconds_left`` is until the next one; ``budget`` is None where none is set.

    ``unconfirmed`` is of all models; ``may_be_billed`` is the part of it that may cost something: a request to a model on this
    machine, or to one with the price 0, does not.

    ``used`` is confirmed and unconfirmed together, in the budget's unit (dollars or tokens). Tokens that were confirmed without
    a price count with the price that is known now; without one they count in tokens only.
    """

    day: date
    seconds_left: float
    confirmed: Spent
    unconfirmed: Unconfirmed
    may_be_billed: Unconfirmed
    budget: Budget | None
    used: Decimal | None

    @property
    def left(self) -> Decimal | None:
        """What is left of the budget, at least 0; None without one."""
        return None if self.budget is None or self.used is None else max(Decimal(), self.budget.amount - self.used)


def today(connection: Connection, settings: Settings) -> Today:
    """Today's sums over all profiles, as of one moment."""
    stored = spending.today(connection)
    confirmed = most = counted = Spent()
    billed, billed_requests = Spent(), 0
    for row in stored.profiles:
        price = None if row.model is None else price_of(row.model, settings)
        bound = spent(row.inputs, row.most_tokens, price)
        late = spent(0, row.confirmed.unpriced_tokens, price)
        confirmed += row.confirmed
        most += bound
        if not is_free(row.provider, price):
            billed, billed_requests = billed + bound, billed_requests + row.requests
        counted += Spent(0, row.confirmed.tokens, row.confirmed.micro_dollars) + Spent(0, 0, late.micro_dollars) + bound
    budget = settings.budget_per_day
    used = None if budget is None else Decimal(counted.tokens) if budget.in_tokens else dollars_of(counted)
    waiting = Unconfirmed(sum(row.requests for row in stored.profiles), most)
    return Today(stored.day, stored.seconds_left, confirmed, waiting, Unconfirmed(billed_requests, billed), budget, used)


def is_free(provider: str | None, price: Decimal | None) -> bool:
    """Whether a request can't be billed: it went to the local stack's model, or to a model with the price 0."""
    return provider == LOCAL_PROVIDER or price == 0


def dollars_of(amount: Spent) -> Decimal:
    """Its money in dollars, exactly; 0 where none of it has a price."""
    return (amount.micro_dollars or Decimal()).scaleb(-6)


def require_price(model: str, settings: Settings, of_run: Budget | None = None) -> None:
    """Raise where a budget in money can't be kept, the day's or ``of_run``.

    Raises:
        ProviderUnusable: ``budget_price``: nobody says what a token of this model costs.
    """
    budget = next((each for each in (settings.budget_per_day, of_run) if each is not None and not each.in_tokens), None)
    if budget is not None and price_of(model, settings) is None:
        variable = "the budget" if budget is of_run else "LEX_INGEST_BUDGET_PER_DAY"
        raise ProviderUnusable(
            "budget_price",
            f"{variable} is in money ({budget}), and the price of {model} is not known: "
            f"set LEX_INGEST_PRICES={model}=…, or a budget in tokens such as 2000000t",
        )


def check_budget(settings: Settings, profile: Profile) -> None:
    """Return where another request for documents may go out to this profile's model. Without a budget nothing is asked.

    Raises:
        ProviderUnusable: ``budget_price``, as ``require_price``.
        BudgetSpent: ``budget_day``: what is confirmed and unconfirmed of today reaches the budget.
    """
    if settings.budget_per_day is None:
        return
    require_price(profile.model, settings)
    with transaction(settings.database_url) as connection:
        _refuse_if_spent(connection, settings)


def announce(settings: Settings, profile: Profile, inputs: int, most_tokens: int, purpose: Purpose = Purpose.DOCUMENT) -> int:
    """Check the budget and announce a request, committed, in one step: two workers never both take the last of a budget.

    A BACKFILL keeps to its run's own budget too, by the same rule.

    Returns the request's id. ``most_tokens`` is a bound that is sure, such as the texts' UTF-8 bytes.

    Raises:
        ProviderUnusable, BudgetSpent: as ``check_budget``; nothing was announced.
        RunSpent: what is confirmed and unconfirmed of the run reaches its budget.
    """
    require_price(profile.model, settings)
    if settings.budget_per_day is None and purpose is not Purpose.BACKFILL:
        with statements(settings.database_url) as connection:
            return spending.announce(connection, profile.id, inputs, most_tokens)
    with transaction(settings.database_url) as connection:
        if settings.budget_per_day is not None:
            spending.lock_budget(connection)
            _refuse_if_spent(connection, settings)
        if purpose is Purpose.BACKFILL:
            refuse_if_run_spent(connection, settings, profile)
        return spending.announce(connection, profile.id, inputs, most_tokens)


def _refuse_if_spent(connection: Connection, settings: Settings) -> None:
    now = today(connection, settings)
    if now.budget is None or now.used is None or now.used < now.budget.amount:
        return
    most = Decimal(now.unconfirmed.most.tokens) if now.budget.in_tokens else dollars_of(now.unconfirmed.most)
    raise BudgetSpent(
        f"today's budget of {now.budget} is used up: {now.budget.say(now.used)}, of which {now.budget.say(most)} at most are not "
        f"confirmed; it goes on at midnight UTC, or when LEX_INGEST_BUDGET_PER_DAY is raised",
        now.seconds_left,
    )


def refuse_if_run_spent(connection: Connection, settings: Settings, profile: Profile) -> None:
    """Return where the filling of this profile may go on. Without a budget of the run, always.

    Raises:
        RunSpent: its budget is used up.
        ProviderUnusable: ``budget_price``: it is in money, and nobody says what a token of the model costs.
    """
    filling = fillings.state(connection, profile.id)
    if filling is None or filling.budget is None:
        return
    spending.lock_budget(connection)
    budget = read_budget(filling.budget)
    used = Decimal(fillings.tokens(connection, profile.id) - (filling.tokens_before or 0))
    if not budget.in_tokens:
        require_price(profile.model, settings, budget)
        used = dollars_of(spent(0, int(used), price_of(profile.model, settings)))
    if used >= budget.amount:
        raise RunSpent(
            f"the budget of this backfill, {budget}, is used up: {budget.say(used)}; "
            f"`lex-ingest model backfill {profile.name}` goes on, with --budget as far as that says"
        )
