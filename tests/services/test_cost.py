"""``lex-ingest cost``: sums by prefix, document, day and model, for people and machines."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.documents import count, execute
from tests.support.spending import announced, part, profile_of, spend, sums
from worker.domain.scope import Scope
from worker.domain.spending import Purpose, Spent
from worker.services.cost import Cost, cost
from worker.services.spending import Unconfirmed
from worker.settings import Settings
from worker.store.spending_report import By

ROOT = Path(__file__).parents[2]
# Key -> tokens. One micro-dollar for 50 of them.
LEGAL = {"legal/a/one.pdf": 1000, "legal/a/two.pdf": 300, "legal/b/three.pdf": 20, "legal/four.pdf": 5}
OTHERS = {"papers/five.pdf": 400, "six.pdf": 40}


def recorded(settings: Settings, key: str, bucket: str | None = None) -> UUID:
    """A document's row, without an object."""
    identity = uuid4()
    execute(
        settings,
        "INSERT INTO documents (id, bucket, key, status) VALUES (%s, %s, %s, 'PENDING')",
        identity,
        bucket or settings.buckets[0],
        key,
    )
    return identity


@pytest.fixture
def ledger(settings: Settings) -> Settings:
    """Spending for six documents, for one that is gone, one of another bucket, and for a search."""
    for key, tokens in (LEGAL | OTHERS).items():
        spend(settings, part(recorded(settings, key), tokens))
    spend(settings, part(uuid4(), 70), part(None, 8))
    spend(settings, part(recorded(settings, "legal/x.pdf", bucket="another"), 600))
    spend(settings, part(None, 3, purpose=Purpose.QUERY), part(None, 2, purpose=Purpose.CHECK))
    return settings


def read(settings: Settings, prefix: str = "", **options: Any) -> Cost:
    scope = Scope.of_buckets(settings.buckets).within(prefix)
    return cost(scope, settings, only_scope=bool(prefix), **options)


def named(found: Cost) -> list[tuple[str, str | None, int, int]]:
    return [(line.kind, line.name, line.spent.inputs, line.spent.tokens) for line in found.lines]


SPECIAL = [("elsewhere", None, 1, 600), ("queries", None, 2, 5), ("gone", None, 2, 78)]


def command(folder: Path, *arguments: str, expect: int = 0, **variables: str) -> tuple[list[str], str]:
    """Run ``lex-ingest cost`` where no stack is, with this environment; its lines, and its standard error."""
    whole = [sys.executable, "-P", "-m", "infra.cli.main", "cost", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(whole, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines(), done.stderr


def test_the_lines_by_prefix_add_up_to_all_that_was_ever_spent(ledger: Settings) -> None:
    found = read(ledger)
    assert named(found) == [("prefix", "legal/", 4, 1325), ("prefix", "papers/", 1, 400), ("prefix", "", 1, 40), *SPECIAL]
    assert found.total == Spent(*sums(ledger, "spending_days")) == Spent(11, 2448, Decimal("48.96"), 0)
    assert [line.spent.micro_dollars for line in found.lines][:2] == [Decimal("26.5"), Decimal(8)]


def test_a_deeper_prefix_has_the_folders_that_a_key_has(ledger: Settings) -> None:
    assert named(read(ledger, depth=2))[:5] == [
        ("prefix", "legal/a/", 2, 1300),
        ("prefix", "papers/", 1, 400),
        ("prefix", "", 1, 40),
        ("prefix", "legal/b/", 1, 20),
        ("prefix", "legal/", 1, 5),
    ]


def test_a_document_that_was_embedded_on_several_days_is_one_line(ledger: Settings) -> None:
    again = recorded(ledger, "again.pdf")
    for _ in range(2):
        spend(ledger, part(again, 11))
        execute(ledger, "UPDATE spending SET day = day - 1 WHERE document_id = %s", again)
    assert count(ledger, f"spending WHERE document_id = '{again}'") == 2
    assert ("document", "again.pdf", 2, 22) in named(read(ledger, by=By.DOCUMENT))


def test_documents_come_largest_first_and_what_the_limit_leaves_out_is_one_line(ledger: Settings) -> None:
    found = read(ledger, by=By.DOCUMENT, limit=2)
    assert named(found) == [
        ("document", "legal/a/one.pdf", 1, 1000),
        ("document", "papers/five.pdf", 1, 400),
        ("others", None, 4, 365),
        *SPECIAL,
    ]
    assert [line.lines for line in found.lines][:3] == [1, 1, 4]
    assert found.total == read(ledger, by=By.DOCUMENT).total == Spent(*sums(ledger, "spending_days"))


def test_a_prefix_leaves_out_what_it_does_not_hold(ledger: Settings) -> None:
    found = read(ledger, "legal/a", by=By.DOCUMENT)
    assert named(found) == [("document", "legal/a/one.pdf", 1, 1000), ("document", "legal/a/two.pdf", 1, 300)]
    assert found.total.tokens == 1300
    assert named(read(ledger, "legal/", by=By.DAY))[0][2:] == (4, 1325)
    assert named(read(ledger, "nothing/")) == []


def test_a_prefix_is_no_pattern(ledger: Settings) -> None:
    assert named(read(ledger, "leg%")) == named(read(ledger, "lega_")) == []


def test_an_erased_document_moves_to_the_line_of_those_that_are_gone(ledger: Settings) -> None:
    before = read(ledger).total
    execute(ledger, "DELETE FROM documents WHERE key = 'legal/a/one.pdf'")
    found = read(ledger)
    assert ("prefix", "legal/", 3, 325) in named(found)
    assert ("gone", None, 3, 1078) in named(found)
    assert found.total == before


def test_days_come_newest_first_and_both_ends_are_included(settings: Settings) -> None:
    for day in range(1, 6):
        spend(settings, part(UUID(int=day), day))
        for table in ("spending", "spending_days"):
            execute(settings, f"UPDATE {table} SET day = %s WHERE day > '2026-04-01'", date(2026, 3, day))
        announced(settings, most_tokens=10**day)
        execute(settings, "UPDATE embedding_requests SET day = %s WHERE day > '2026-04-01'", date(2026, 3, day))
    found = read(settings, by=By.DAY, since=date(2026, 3, 2), until=date(2026, 3, 4))
    assert [(line.name, line.spent.tokens) for line in found.lines] == [("2026-03-04", 4), ("2026-03-03", 3), ("2026-03-02", 2)]
    assert found.unconfirmed.most.tokens == 11_100
    assert found.unconfirmed.requests == 3
    assert read(settings, since=date(2026, 3, 2)).total.tokens == 14
    assert read(settings, until=date(2026, 3, 2)).total.tokens == 3
    assert read(settings).unconfirmed.most.tokens == 111_110


@pytest.mark.parametrize(("prices", "provider"), [("words=0", "test"), ("words=0.02", "local")])
def test_a_request_to_a_model_that_costs_nothing_is_never_unconfirmed_money(
    settings: Settings, prices: str, provider: str
) -> None:
    free = dataclasses.replace(settings, prices=Settings.from_environment({"LEX_INGEST_PRICES": prices}).prices)
    announced(free, most_tokens=4_000_000)
    execute(free, "UPDATE embedding_profiles SET provider = %s WHERE id = 1", provider)
    try:
        found = read(free)
        assert found.unconfirmed == found.today.may_be_billed == Unconfirmed(0, Spent())
        # A budget in tokens counts it all the same.
        in_tokens = Settings.from_environment({"LEX_INGEST_BUDGET_PER_DAY": "5000000t"}).budget_per_day
        assert read(dataclasses.replace(free, budget_per_day=in_tokens)).today.used == 4_000_000
    finally:
        execute(free, "UPDATE embedding_profiles SET provider = %s WHERE id = 1", free.embedding_provider)


def test_models_are_named_also_where_the_profile_is_gone(ledger: Settings) -> None:
    execute(ledger, "UPDATE spending SET profile_id = 9999 WHERE tokens = 600")
    name = f"{ledger.embedding_provider} {ledger.embedding_model} ({ledger.embedding_dimensions})"
    assert named(read(ledger, by=By.MODEL)) == [("model", name, 10, 1848), ("model", "profile 9999", 1, 600)]


def test_thousands_of_prefixes_and_documents_are_sums_in_bounded_lines(settings: Settings) -> None:
    execute(
        settings,
        "INSERT INTO documents (bucket, key, status) SELECT %s, n %% 3000 || '/' || n, 'PENDING' FROM generate_series(1, 9000) n",
        settings.buckets[0],
    )
    execute(
        settings,
        "INSERT INTO spending SELECT id, '2026-03-01', %s, 'document', 1, 10, 0.2, 0 FROM documents",
        profile_of(settings).id,
    )
    for by in (By.PREFIX, By.DOCUMENT):
        found = read(settings, by=by, limit=500)
        assert (len(found.lines), found.total) == (501, Spent(9000, 90_000, Decimal(1800), 0))
    assert len(read(settings, limit=100_000).lines) == 3000


def test_the_command_prints_a_table_a_total_and_what_is_not_confirmed(ledger: Settings, tmp_path: Path) -> None:
    announced(ledger, inputs=4, most_tokens=5000)
    lines, complaints = command(tmp_path, LEX_INGEST_PRICES="words=0.02", LEX_INGEST_BUDGET_PER_DAY="5")
    table = [" ".join(line.split()) for line in lines]
    assert table[:8] == [
        "inputs tokens USD prefix",
        "4 1,325 0.000026 legal/",
        "1 400 0.000008 papers/",
        "1 40 0.000001 (no folder)",
        "1 600 0.000012 (documents of other buckets)",
        "2 5 0.000000 (searches and checks)",
        "2 78 0.000002 (documents that are gone)",
        "11 2,448 0.000049 total",
    ]
    assert table[8].startswith("unconfirmed: 1 request, at most 5,000 tokens, 0.000100 USD: on their way, or")
    assert table[9].endswith("with what is unconfirmed 0.000149 USD of the budget of 5.00 USD: 4.999851 USD left")
    assert "2,448 tokens, 0.000049 USD" in table[9]
    assert (len(table), complaints) == (10, "")


def test_the_command_says_unknown_where_there_is_no_price(settings: Settings, tmp_path: Path) -> None:
    spend(settings, part(recorded(settings, "a/\x1b[31mred"), 70), price=None)
    spend(settings, part(recorded(settings, "b/"), 50))
    announced(settings, most_tokens=9)
    lines, _ = command(tmp_path, "--by", "document")
    table = [" ".join(line.split()) for line in lines]
    assert table[1:4] == [r"1 70 unknown $'a/\033[31mred'", "1 50 0.000001 b/", "2 120 0.000001 + unknown total"]
    assert "LEX_INGEST_PRICES" in table[4]
    assert "at most 9 tokens, unknown USD" in table[5]
    assert table[6].endswith("no budget is set (LEX_INGEST_BUDGET_PER_DAY)")


def test_the_command_says_that_a_budget_is_used_up(ledger: Settings, tmp_path: Path) -> None:
    lines, _ = command(tmp_path, "--by", "day", LEX_INGEST_BUDGET_PER_DAY="2448t")
    assert lines[-1].endswith("2,448 tokens of the budget of 2,448 tokens: used up: documents wait until midnight UTC")
    assert lines[-2] == "unconfirmed: nothing; the provider counted just this"


def test_machines_get_an_object_a_line_with_money_to_the_last_decimal(ledger: Settings, tmp_path: Path) -> None:
    announced(ledger, inputs=4, most_tokens=5000)
    spend(ledger, part(None, 1, purpose=Purpose.QUERY), price=Decimal("0.0123456789"))
    lines, complaints = command(
        tmp_path, "--json", "--prefix", "", "--limit", "1", LEX_INGEST_BUDGET_PER_DAY="10000t", LEX_INGEST_PRICES="words=0.02"
    )
    records = [json.loads(line) for line in lines]
    assert records[0] == {
        "kind": "prefix",
        "bucket": ledger.buckets[0],
        "name": "legal/",
        "lines": 1,
        "inputs": 4,
        "tokens": 1325,
        "usd": "0.0000265",
        "unpriced_tokens": 0,
    }
    assert [record["kind"] for record in records] == [
        "prefix",
        "others",
        "elsewhere",
        "queries",
        "gone",
        "total",
        "unconfirmed",
        "today",
    ]
    total = Decimal(records[5]["usd"])
    assert total == sum(Decimal(record["usd"]) for record in records[:5]) == Decimal("0.0000489723456789")
    assert (records[6]["requests"], records[6]["tokens"], records[6]["usd"]) == (1, 5000, "0.0001")
    assert records[7]["budget"] == {"unit": "tokens", "amount": "10000", "used": "7449", "left": "2551"}
    assert records[7]["unconfirmed"]["tokens"] == 5000
    assert complaints == ""


def test_where_nothing_was_spent_the_command_says_nothing_but_zeros(settings: Settings, tmp_path: Path) -> None:
    lines, _ = command(tmp_path, "--json")
    total, unconfirmed, today = (json.loads(line) for line in lines)
    assert (total["kind"], total["inputs"], total["tokens"], total["usd"]) == ("total", 0, 0, None)
    assert (unconfirmed["requests"], today["budget"]) == (0, None)
    assert " ".join(command(tmp_path)[0][1].split()) == "0 0 0.000000 total"


@pytest.mark.parametrize(
    ("arguments", "named_in_the_complaint"),
    [
        (("--by", "colour"), "--by"),
        (("--since", "yesterday"), "--since"),
        (("--until", "2026-02-30"), "--until"),
        (("--since", "2026-03-02", "--until", "2026-03-01"), "--since"),
        (("--by", "day", "--depth", "2"), "--depth"),
        (("--limit", "0"), "--limit"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(
    settings: Settings, tmp_path: Path, arguments: tuple[str, ...], named_in_the_complaint: str
) -> None:
    _, complaints = command(tmp_path, *arguments, expect=2)
    assert named_in_the_complaint in complaints


def test_a_setting_that_can_t_be_read_ends_with_2_and_a_database_that_is_away_with_3(settings: Settings, tmp_path: Path) -> None:
    assert "LEX_INGEST_PRICES" in command(tmp_path, expect=2, LEX_INGEST_PRICES="words")[1]
    away = "postgresql://nobody@127.0.0.1:1/none"
    assert "doctor" in command(tmp_path, expect=3, DATABASE_URL=away)[1]
