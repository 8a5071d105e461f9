"""Prices and budgets as they are set, and money that is never a float."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.budget import Budget, dollars
from worker.domain.errors import BudgetSpent, ProviderUnusable
from worker.domain.retrying import Park, decide
from worker.domain.spending import Spent, spent
from worker.embed import prices
from worker.embed.prices import list_prices, price_of
from worker.services.spending import require_price
from worker.settings import Settings, SettingsError

BUDGET, PRICES = "LEX_INGEST_BUDGET_PER_DAY", "LEX_INGEST_PRICES"
AMOUNTS = st.builds(
    spent,
    st.integers(0, 1000),
    st.integers(0, 10**9),
    st.one_of(st.none(), st.decimals(0, 100, places=4, allow_nan=False, allow_infinity=False)),
)


def settings(**variables: str) -> Settings:
    return Settings.from_environment(variables)


def test_openai_s_models_have_their_list_prices_and_the_demo_s_is_free() -> None:
    known = {model: price_of(model, settings()) for model in list_prices()}
    assert known["text-embedding-3-small"] == Decimal("0.02")
    assert known["text-embedding-3-large"] == Decimal("0.13")
    assert known["text-embedding-ada-002"] == Decimal("0.10")
    assert known["all-minilm-l6-v2-int8"] == 0
    assert all(isinstance(price, Decimal) for price in known.values())


def test_every_price_says_from_where_and_when() -> None:
    content = json.loads(Path(prices.__file__).with_name("prices.json").read_text())
    for model, entry in content["models"].items():
        assert entry["source"], model
        assert date.fromisoformat(entry["seen"]) <= date(2027, 1, 1), model


def test_a_price_that_nobody_knows_is_none_and_not_0() -> None:
    assert price_of("a-model-of-ours", settings()) is None


def test_the_operator_s_price_goes_before_the_list() -> None:
    own = settings(**{PRICES: " text-embedding-3-small = 0.5, vendor/model=v2=0 ,"})
    assert price_of("text-embedding-3-small", own) == Decimal("0.5")
    assert price_of("vendor/model=v2", own) == 0
    assert price_of("text-embedding-3-large", own) == Decimal("0.13")


@pytest.mark.parametrize("value", ["model", "=1", "model=", "model=x", "model=-1", "model=NaN", "model=inf", "m=1,m=2"])
def test_prices_that_can_t_be_read_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=PRICES):
        settings(**{PRICES: value})


@pytest.mark.parametrize(
    ("value", "budget", "shown"),
    [
        ("5", Budget(Decimal(5), False), "5.00 USD"),
        ("5.00", Budget(Decimal(5), False), "5.00 USD"),
        ("0.000142", Budget(Decimal("0.000142"), False), "0.000142 USD"),
        ("2000000t", Budget(Decimal(2000000), True), "2,000,000 tokens"),
    ],
)
def test_a_budget_is_dollars_or_tokens(value: str, budget: Budget, shown: str) -> None:
    read = settings(**{BUDGET: value}).budget_per_day
    assert read == budget
    assert str(read) == shown


@pytest.mark.parametrize("value", ["0", "0t", "-1", "1.5t", "t", "5 USD", "$5", "NaN", "inf", "5T"])
def test_a_budget_that_can_t_be_read_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=BUDGET):
        settings(**{BUDGET: value})


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0", "0.00 USD"), ("1.5", "1.50 USD"), ("1234.56789", "1234.56789 USD"), ("0.0000004", "0.00 USD"), ("10", "10.00 USD")],
)
def test_dollars_are_shown_to_the_micro_dollar(amount: str, shown: str) -> None:
    assert dollars(Decimal(amount)) == shown


def test_tokens_times_the_price_for_a_million_are_micro_dollars() -> None:
    assert spent(2, 1_000_000, Decimal("0.02")) == Spent(2, 1_000_000, Decimal(20_000), 0)
    assert spent(1, 3, Decimal("0.13")).micro_dollars == Decimal("0.39")
    assert spent(1, 7, None) == Spent(1, 7, None, 7)


@given(st.lists(AMOUNTS, max_size=20))
def test_sums_keep_every_token_and_every_part_of_a_micro_dollar(amounts: list[Spent]) -> None:
    total = sum(amounts, Spent())
    known = [amount.micro_dollars for amount in amounts if amount.micro_dollars is not None]
    assert (total.inputs, total.tokens) == (sum(a.inputs for a in amounts), sum(a.tokens for a in amounts))
    assert total.micro_dollars == (sum(known) if known else None)
    assert total.unpriced_tokens == sum(amount.tokens for amount in amounts if amount.micro_dollars is None)


def test_a_budget_in_money_needs_a_price_and_one_in_tokens_does_not() -> None:
    with pytest.raises(ProviderUnusable, match="LEX_INGEST_PRICES=words=") as caught:
        require_price("words", settings(**{BUDGET: "5"}))
    assert caught.value.code == "budget_price"
    assert isinstance(decide(caught.value, 0, 0.0), Park)
    require_price("words", settings(**{BUDGET: "5t"}))
    require_price("words", settings(**{BUDGET: "5", PRICES: "words=0"}))
    require_price("words", settings())


@pytest.mark.parametrize(
    ("seconds_left", "jitter", "after"), [(80_000.0, 0.0, 60.0), (80_000.0, 1.0, 120.0), (70.0, 1.0, 70.0), (3.0, 0.0, 3.0)]
)
def test_a_spent_budget_closes_the_gate_until_midnight_or_a_minute(seconds_left: float, jitter: float, after: float) -> None:
    assert decide(BudgetSpent("used up", seconds_left), 2, jitter) == Park(after, "budget_day", "used up")


def test_a_spent_budget_is_rebuilt_from_its_arguments() -> None:
    error = BudgetSpent("used up", 7.0)
    again = BudgetSpent(*error.args)
    assert (again.code, str(again), again.seconds_left) == ("budget_day", "used up", 7.0)
