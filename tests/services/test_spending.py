"""The cost ledger on PostgreSQL: announced, confirmed, withdrawn; many at once."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.support.documents import count, execute
from tests.support.spending import announced, confirmed, part, profile_of, rows, spend, sums, waiting
from worker.domain.spending import Answer, Purpose, Spent, divide
from worker.settings import Settings
from worker.store import spending
from worker.store.session import engine, transaction

ONE, TWO = UUID(int=1), UUID(int=2)


def test_a_request_is_unconfirmed_until_it_is_confirmed_with_its_parts(settings: Settings) -> None:
    number = announced(settings, inputs=3, most_tokens=900)
    assert waiting(settings) == [(1, 3, 900)]
    assert sums(settings, "spending") == (0, 0, None, 0)
    assert confirmed(settings, Answer(number, (part(ONE, 100, inputs=2), part(TWO, 50)))) == 1
    assert waiting(settings) == []
    assert rows(settings, "SELECT document_id, purpose, inputs, tokens, micro_dollars FROM spending ORDER BY 1") == [
        (ONE, "document", 2, 100, Decimal(2)),
        (TWO, "document", 1, 50, Decimal(1)),
    ]
    assert rows(settings, "SELECT requests, inputs, tokens, micro_dollars, unpriced_tokens FROM spending_days") == [
        (1, 3, 150, Decimal(3), 0)
    ]


def test_a_request_that_is_confirmed_twice_counts_once(settings: Settings) -> None:
    first, second = announced(settings), announced(settings)
    answers = [Answer(first, (part(ONE, 10),)), Answer(second, (part(ONE, 7),))]
    assert confirmed(settings, answers[0]) == 1
    assert confirmed(settings, *answers) == 1
    assert confirmed(settings, *answers) == 0
    assert sums(settings, "spending")[:2] == sums(settings, "spending_days")[:2] == (2, 17)
    assert rows(settings, "SELECT requests FROM spending_days") == [(2,)]


def test_a_request_that_two_confirm_at_once_counts_once(settings: Settings) -> None:
    numbers = [announced(settings) for _ in range(40)]
    barrier = Barrier(8)

    def confirm_all(seed: int) -> int:
        order = random.Random(seed).sample(numbers, len(numbers))
        barrier.wait()
        return confirmed(settings, *(Answer(number, (part(ONE, number),)) for number in order))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(confirm_all, range(8))) == len(numbers)
    assert sums(settings, "spending")[:2] == sums(settings, "spending_days")[:2] == (40, sum(numbers))


def test_confirming_commits_what_its_transaction_wrote_before(settings: Settings) -> None:
    number = announced(settings, most_tokens=50)
    with engine(settings.database_url).connect() as connection:
        spending.announce(connection, 1, 1, 7)
        assert spending.confirm_and_commit(connection, [Answer(number, (part(ONE, 10),))], None) == 1
        connection.rollback()
    assert waiting(settings) == [(1, 1, 7)]


def test_a_confirmation_that_fails_undoes_its_transaction(settings: Settings) -> None:
    number = announced(settings, most_tokens=50)
    too_many = Answer(number, (part(ONE, 10**30),))

    def write_and_confirm() -> None:
        with transaction(settings.database_url) as connection:
            spending.announce(connection, 1, 1, 7)
            spending.confirm_and_commit(connection, [too_many], None)

    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        write_and_confirm()
    assert waiting(settings) == [(1, 1, 50)]
    assert sums(settings, "spending") == (0, 0, None, 0)
    assert confirmed(settings, Answer(number, (part(ONE, 10),))) == 1


def test_a_request_that_is_surely_not_billed_is_withdrawn(settings: Settings) -> None:
    number = announced(settings)
    with transaction(settings.database_url) as connection:
        assert spending.withdraw(connection, number)
        assert not spending.withdraw(connection, number)
    assert waiting(settings) == []
    assert confirmed(settings, Answer(number, (part(ONE, 10),))) == 0
    assert sums(settings, "spending_days") == (0, 0, None, 0)


def test_tokens_without_a_price_are_counted_and_their_money_is_unknown(settings: Settings) -> None:
    spend(settings, part(ONE, 10), price=None)
    assert sums(settings, "spending") == sums(settings, "spending_days") == (1, 10, None, 10)
    spend(settings, part(ONE, 100), price=Decimal("0.02"))
    spend(settings, part(ONE, 5), price=None)
    assert sums(settings, "spending") == sums(settings, "spending_days") == (3, 115, Decimal(2), 15)
    spend(settings, part(ONE, 50), price=Decimal("0.1"))
    assert sums(settings, "spending") == sums(settings, "spending_days") == (4, 165, Decimal(7), 15)


def test_money_is_exact_however_small_the_parts(settings: Settings) -> None:
    for _ in range(7):
        spend(settings, part(ONE, 1), part(TWO, 2), price=Decimal("0.013"))
    assert sums(settings, "spending")[2] == sums(settings, "spending_days")[2] == Decimal("0.273")


def test_a_request_counts_for_the_day_on_which_it_was_sent(settings: Settings) -> None:
    number = announced(settings, most_tokens=70)
    execute(settings, "UPDATE embedding_requests SET day = '2026-03-01'")
    assert confirmed(settings, Answer(number, (part(ONE, 10),))) == 1
    assert rows(settings, "SELECT day::text FROM spending UNION ALL SELECT day::text FROM spending_days") == [("2026-03-01",)] * 2
    with transaction(settings.database_url) as connection:
        assert spending.today(connection).profiles == ()


def test_the_day_is_utc_s_whatever_the_session_s_time_zone(settings: Settings) -> None:
    with transaction(settings.database_url) as connection:
        connection.exec_driver_sql("SET LOCAL TIME ZONE 'Pacific/Kiritimati'")
        spending.announce(connection, 1, 1, 1)
        own = connection.exec_driver_sql("SELECT day, (now() AT TIME ZONE 'UTC')::date FROM embedding_requests").one()
        assert own[0] == own[1] == spending.today(connection).day
        left = connection.exec_driver_sql(
            "SELECT extract(epoch FROM date_trunc('day', now(), 'UTC') + interval '1 day' - now())::float8"
        ).scalar_one()
        assert spending.today(connection).seconds_left == pytest.approx(left, abs=0.001)
        assert 0 < left <= 86_400


def test_today_has_each_profile_with_what_is_confirmed_and_what_is_not(settings: Settings) -> None:
    profile = profile_of(settings)
    spend(settings, part(ONE, 10, inputs=2))
    announced(settings, inputs=3, most_tokens=30)
    announced(settings, inputs=4, most_tokens=40)
    announced(settings, inputs=5, most_tokens=50, profile_id=profile.id + 1000)
    announced(settings, inputs=9, most_tokens=99)
    execute(settings, "UPDATE embedding_requests SET day = day - 1 WHERE inputs = 9")
    with transaction(settings.database_url) as connection:
        first, other = spending.today(connection).profiles
    assert (first.model, first.confirmed, first.requests, first.inputs, first.most_tokens) == (
        settings.embedding_model,
        Spent(2, 10, Decimal("0.2"), 0),
        2,
        7,
        70,
    )
    assert (other.model, other.confirmed, other.requests, other.inputs, other.most_tokens) == (None, Spent(), 1, 5, 50)


def test_confirmers_of_the_same_documents_never_wait_in_a_circle_and_lose_nothing(settings: Settings) -> None:
    """Eight at once, each with its own order of answers and parts, with texts of no document between them."""
    documents: list[UUID | None] = [None, *(uuid4() for _ in range(12))]
    barrier = Barrier(8)

    def work(seed: int) -> tuple[int, int, int]:
        order = random.Random(seed)
        barrier.wait()
        inputs = tokens = requests = 0
        for _ in range(15):
            answers = []
            for _ in range(order.randint(1, 3)):
                texts = [(order.choice(documents), Purpose.DOCUMENT, order.randint(1, 999)) for _ in range(order.randint(1, 20))]
                usage = order.randint(0, 5000)
                inputs, tokens = inputs + len(texts), tokens + usage
                answers.append(Answer(announced(settings, len(texts), 20_000), divide(usage, texts)))
            order.shuffle(answers)
            assert confirmed(settings, *answers) == len(answers)
            requests += len(answers)
        return inputs, tokens, requests

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(work, range(8)))
    inputs, tokens, requests = (sum(column) for column in zip(*done, strict=True))
    money = tokens * Decimal("0.02")
    assert sums(settings, "spending") == sums(settings, "spending_days") == (inputs, tokens, money, 0)
    assert rows(settings, "SELECT requests FROM spending_days") == [(requests,)]
    assert waiting(settings) == []
    assert count(settings, "spending") == len(documents)


def test_with_lost_answers_the_provider_s_figure_is_between_the_two(settings: Settings) -> None:
    """A provider that counts what it works on, and a network that loses some of its answers and some requests."""
    chance, counted = random.Random(3), 0
    for _ in range(60):
        weights = [chance.randint(1, 400) for _ in range(chance.randint(1, 8))]
        number = announced(settings, len(weights), sum(weights))
        usage, fate = chance.randint(1, sum(weights)), chance.random()
        counted += usage if fate > 0.2 else 0
        if fate > 0.5:
            confirmed(settings, Answer(number, divide(usage, [(ONE, Purpose.DOCUMENT, weight) for weight in weights])))
        known = sums(settings, "spending_days")[1]
        assert known <= counted <= known + sum(row[2] for row in waiting(settings))
    assert waiting(settings)[0][0] > 10
    assert sums(settings, "spending_days")[1] < counted
