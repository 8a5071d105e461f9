"""A day's budget: who is refused, when, and what an operator sees of it."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from uuid import UUID

import pytest

from infra.cli.checks import Check
from tests.support.doctor import found as found_by_doctor
from tests.support.documents import TIDE, claim, count, execute, put_and_tell, row_of, status_of
from tests.support.spending import announced, part, profile_of, spend
from worker.contract import Stage
from worker.domain.document import Status
from worker.domain.errors import BudgetSpent, ProviderUnusable, TransientError
from worker.domain.spending import Spent
from worker.services.extraction import extract_document
from worker.services.settling import settle
from worker.services.spending import Unconfirmed, announce, check_budget, today
from worker.settings import Settings
from worker.store.session import transaction

ONE = UUID(int=1)
Budgeted = Callable[..., Settings]


@pytest.fixture
def budgeted(settings: Settings) -> Budgeted:
    """Settings with this budget, and prices."""

    def with_budget(budget: str, prices: str = "words=0.02") -> Settings:
        read = Settings.from_environment({"LEX_INGEST_BUDGET_PER_DAY": budget, "LEX_INGEST_PRICES": prices})
        return dataclasses.replace(settings, budget_per_day=read.budget_per_day, prices=read.prices)

    return with_budget


def refusal(settings: Settings) -> TransientError | None:
    try:
        check_budget(settings, profile_of(settings))
    except TransientError as error:
        return error
    return None


def test_a_budget_in_tokens_is_spent_once_confirmed_and_unconfirmed_reach_it(budgeted: Budgeted) -> None:
    settings = budgeted("100t")
    spend(settings, part(ONE, 60))
    announced(settings, most_tokens=39)
    assert refusal(settings) is None
    announced(settings, most_tokens=1)
    error = refusal(settings)
    assert isinstance(error, BudgetSpent)
    assert str(error).startswith(
        "today's budget of 100 tokens is used up: 100 tokens, of which 40 tokens at most are not confirmed"
    )
    assert 0 < error.seconds_left <= 86_400
    assert refusal(budgeted("101t")) is None


def test_a_budget_in_money_is_spent_to_the_micro_dollar(budgeted: Budgeted) -> None:
    spend(budgeted("1"), part(ONE, 100), price=Decimal("0.02"))  # 2 micro-dollars
    announced(budgeted("1"), most_tokens=50)  # 1 more, at most
    assert refusal(budgeted("0.0000031")) is None
    error = refusal(budgeted("0.000003"))
    assert isinstance(error, BudgetSpent)
    assert "budget of 0.000003 USD is used up: 0.000003 USD, of which 0.000001 USD at most" in str(error)


def test_yesterday_s_spending_and_its_lost_answers_are_not_today_s(budgeted: Budgeted) -> None:
    settings = budgeted("10t")
    spend(settings, part(ONE, 60))
    announced(settings, most_tokens=39)
    assert isinstance(refusal(settings), BudgetSpent)
    for table in ("spending_days", "embedding_requests"):
        execute(settings, f"UPDATE {table} SET day = day - 1")
    assert refusal(settings) is None


def test_every_profile_s_spending_counts(budgeted: Budgeted) -> None:
    settings = budgeted("100t")
    announced(settings, most_tokens=50)
    announced(settings, most_tokens=50, profile_id=profile_of(settings).id + 1000)
    assert isinstance(refusal(settings), BudgetSpent)


def test_tokens_that_had_no_price_count_with_the_one_that_is_known_now(budgeted: Budgeted) -> None:
    spend(budgeted("1"), part(ONE, 1_000_000), price=None)
    spend(budgeted("1"), part(ONE, 1_000_000), price=Decimal("0.02"))
    assert refusal(budgeted("0.07", "words=0.05")) is not None
    assert refusal(budgeted("0.0701", "words=0.05")) is None


def test_without_a_budget_nothing_is_refused_and_nothing_is_asked(settings: Settings) -> None:
    announced(settings, most_tokens=10**12)
    profile = profile_of(settings)
    check_budget(dataclasses.replace(settings, database_url="postgresql://nobody@127.0.0.1:1/none"), profile)


def test_a_budget_in_money_refuses_a_model_without_a_price_before_anything_is_spent(budgeted: Budgeted) -> None:
    settings = budgeted("5", prices="")
    error = refusal(settings)
    assert isinstance(error, ProviderUnusable)
    assert error.code == "budget_price"
    with pytest.raises(ProviderUnusable):
        announce(settings, profile_of(settings), 1, 10)
    assert count(settings, "embedding_requests") == 0


def test_announcing_goes_on_without_a_budget(settings: Settings) -> None:
    number = announce(settings, profile_of(settings), 3, 70)
    with transaction(settings.database_url) as connection:
        now = today(connection, settings)
    assert number > 0
    assert now.unconfirmed == Unconfirmed(1, Spent(3, 70, None, 70))
    assert (now.budget, now.used, now.left) == (None, None, None)


def test_workers_that_ask_at_once_exceed_the_budget_by_less_than_one_request(budgeted: Budgeted) -> None:
    settings = budgeted("1000t")
    profile, barrier = profile_of(settings), Barrier(8)

    def work(_: int) -> int:
        barrier.wait()
        for number in range(20):
            try:
                announce(settings, profile, 1, 70)
            except BudgetSpent:
                return number
        return 20

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 15  # 14 are 980 tokens: below the budget, so one more goes out
    assert count(settings, "embedding_requests") == 15


def test_what_is_left_is_never_below_nothing(budgeted: Budgeted) -> None:
    with transaction(budgeted("5t").database_url) as connection:
        assert today(connection, budgeted("5t")).left == 5
    announced(budgeted("5t"), most_tokens=3)
    with transaction(budgeted("5t").database_url) as connection:
        assert today(connection, budgeted("5t")).left == 2
    announced(budgeted("5t"), most_tokens=30)
    with transaction(budgeted("5t").database_url) as connection:
        now = today(connection, budgeted("5t"))
    assert (now.used, now.left) == (33, 0)


def test_a_document_waits_for_the_budget_with_its_attempts_unspent_and_status_says_so(budgeted: Budgeted) -> None:
    settings = budgeted("5t")
    documents = [put_and_tell(settings, key, TIDE) for key in ("a.txt", "b.txt")]
    for document in documents:
        extract_document(document, settings)
    announced(settings, most_tokens=5)
    lease = claim(settings, documents[0], Stage.EMBED)
    with pytest.raises(BudgetSpent) as caught:
        check_budget(settings, profile_of(settings))
    failed = settle(lease, settings, caught.value, None)
    assert (failed.status, failed.code) == (Status.EXTRACTED, "budget_day")
    assert failed.retry_in is not None
    assert failed.retry_in <= 120
    assert row_of(settings, documents[0])["attempts"] == 0
    for key in ("a.txt", "b.txt"):  # also the one that nobody tried
        waits_for = status_of(settings, key).waits_for
        assert waits_for is not None
        assert waits_for.startswith("the next day (budget_day): today's budget of 5 tokens is used up")
    documents_check = found_by_doctor("documents", settings)
    assert not documents_check.ok
    assert documents_check.advice == "documents wait until midnight UTC, or until there is a new budget, and resume automatically"


def test_doctor_says_how_much_of_the_budget_is_used(budgeted: Budgeted, settings: Settings) -> None:
    spend(settings, part(ONE, 1_000_000))
    found = found_by_doctor("budget", settings)
    assert found.ok
    assert re.fullmatch("none is set; today 1,000,000 tokens, `lex-ingest cost` has more", found.found)
    assert found_by_doctor("budget", budgeted("5")) == Check("budget", True, "0.02 USD of 5.00 USD today (UTC)")
    spent = found_by_doctor("budget", budgeted("0.01"))
    assert (spent.ok, spent.found) == (False, "0.02 USD of 0.01 USD today (UTC): used up")
    assert "LEX_INGEST_BUDGET_PER_DAY" in spent.advice
    unpriced = found_by_doctor("budget", budgeted("5", prices=""))
    assert not unpriced.ok
    assert "the price of words is not known" in unpriced.found


def test_announcing_under_a_budget_is_a_matter_of_milliseconds(budgeted: Budgeted) -> None:
    settings, number = budgeted("1000000000t"), 50
    profile = profile_of(settings)
    began = time.monotonic()
    for _ in range(number):
        announce(settings, profile, 1, 1)
    assert (time.monotonic() - began) / number < 0.1
