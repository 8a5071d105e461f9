"""``lex-ingest model`` as people and machines run it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.support import embedding_load as load
from tests.support.documents import count, execute
from tests.support.models import begin, covered, made, remove, served, serving, state_of
from tests.support.provider import Provider
from worker.services.fill_reasons import Outcome
from worker.services.filling import fill
from worker.settings import Settings
from worker.store import profiles
from worker.store.profiles import Profile
from worker.store.session import transaction

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_left(settings: Settings) -> Iterator[None]:
    remove(settings)
    yield
    execute(settings, "UPDATE embedding_profiles SET serving = false")
    execute(settings, "UPDATE embedding_profiles SET serving = true WHERE id = 1")
    remove(settings)


def started(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """``lex-ingest model …`` where no stack is, with this environment."""
    whole = [sys.executable, "-P", "-m", "infra.cli.main", "model", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        whole, cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def command(folder: Path, *arguments: str, expect: int = 0, **variables: str) -> tuple[str, str]:
    process = started(folder, *arguments, **variables)
    out, complaints = process.communicate(timeout=60)
    assert process.returncode == expect, out + complaints
    assert "Traceback" not in complaints
    return out, complaints


def found(settings: Settings, model: str = "other") -> Profile | None:
    with transaction(settings.database_url) as connection:
        return next((profile for profile in profiles.every(connection) if profile.model == model), None)


def test_another_model_is_added_filled_switched_to_and_back_and_dropped(
    settings: Settings, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    served(settings, load.make(10, [60]))
    name = "test/other/128"
    out, _ = command(tmp_path, "add", "other", "--dimensions", "128", "--send-dimensions")
    assert out == f"added {name}: it answers, and has no vectors yet. Next: `lex-ingest model backfill {name}`\n"
    out, _ = command(tmp_path, "backfill", "other", "--yes", LEX_INGEST_PRICES="other=2")
    first, *_, last = out.splitlines()
    assert first == (
        f"{name}: 10 texts without a vector, about 150 tokens (0.250 per byte, as test/words/384 counted), about 0.0003 USD; "
        "no limits are set: how long it takes is known once it runs"
    )
    assert last.startswith("whole: 10 texts in ")
    assert last.endswith(f"Next: `lex-ingest model switch {name}`")
    out, _ = command(tmp_path, "switch", "other")
    assert out == f"{name} serves; test/words/384 is kept filled: `lex-ingest model rollback` goes back at once\n"
    assert serving(settings).name == name
    _, complaints = command(tmp_path, "drop", "other", expect=1)
    assert complaints == f"lex-ingest: {name} serves: `lex-ingest model switch` to another one first\n"
    out, _ = command(tmp_path, "rollback", "--json")
    assert json.loads(out) == {"serving": "test/words/384", "before": name, "refused": 0}
    out, _ = command(tmp_path, "drop", "other")
    assert out == f"dropped {name}; `lex-ingest cost --by model` goes on telling what it cost\n"
    spent = subprocess.run(
        [sys.executable, "-P", "-m", "infra.cli.main", "cost", "--by", "model", "--json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = {line["name"]: line["inputs"] for line in map(json.loads, spent.stdout.splitlines()) if line["kind"] == "model"}
    assert lines["test other (128, dropped)"] == 11  # and the request that looked whether it answers


def test_the_list_says_what_each_profile_has(settings: Settings, provider: Provider, tmp_path: Path) -> None:
    served(settings, [["One text."], ["Something poisonous."], ["A third text."]])
    other = made(settings)
    made(settings, dimensions=64)
    provider.behave(poison="poisonous")
    begin(settings, other)
    fill(other.id, settings)
    records = {record["name"]: record for record in map(json.loads, command(tmp_path, "list", "--json")[0].splitlines())}

    def facts(name: str) -> tuple[Any, ...]:
        record = records[name]
        return tuple(
            record[key] for key in ("state", "vectors", "chunks", "with_vector", "refused", "percent", "index", "filling")
        )

    assert facts("test/words/384") == ("serving", 3, 3, 3, 0, 100.0, "not needed", None)
    assert facts("test/other/384") == ("kept filled", 2, 3, 2, 1, pytest.approx(66.67), "not needed", "whole")
    assert facts("test/other/64") == ("idle", 0, 3, 0, 0, 0.0, "not needed", None)
    assert records["test/other/384"]["size"] > 8000
    out, _ = command(tmp_path, "list")
    assert [line.split()[:5] for line in out.splitlines() if line.startswith(("test/words", "test/other/384"))] == [
        ["test/words/384", "serving", "3", "100.0%", "not"],
        ["test/other/384", "kept", "filled", "2", "66.7%"],
    ]
    assert "whole, 1 chunk refused" in out


def test_an_add_that_its_provider_does_not_answer_adds_nothing(settings: Settings, provider: Provider, tmp_path: Path) -> None:
    _, complaints = command(tmp_path, "add", "other", "--dimensions", "100", expect=1)
    assert (
        complaints
        == "lex-ingest: other gave vectors of 384 dimensions, not of 100: say so with --dimensions; nothing was added\n"
    )
    assert found(settings) is None
    _, complaints = command(tmp_path, "add", "other", "--dimensions", "384", "--provider", "elsewhere", expect=1)
    assert "nobody knows where elsewhere answers: add --base-url" in complaints
    there = ("add", "other", "--dimensions", "384", "--provider", "elsewhere", "--base-url", provider.base_url)
    _, complaints = command(tmp_path, *there, expect=1)
    assert "LEX_INGEST_PROVIDERS (elsewhere=…) is not set" in complaints
    assert "nothing was added" in complaints
    assert found(settings) is None
    out, _ = command(tmp_path, *there, "--json", LEX_INGEST_PROVIDERS="elsewhere=key")
    assert json.loads(out)["name"] == "elsewhere/other/384"
    _, complaints = command(tmp_path, *there, expect=1, LEX_INGEST_PROVIDERS="elsewhere=key")
    assert "is there already: `lex-ingest model backfill elsewhere/other/384` fills it" in complaints
    _, complaints = command(tmp_path, "add", "other", "--dimensions", "3000", "--type", "vector", expect=2)
    assert "pgvector indexes a vector of at most 2000" in " ".join(complaints.replace("│", " ").split())


def test_a_backfill_asks_first(settings: Settings, tmp_path: Path) -> None:
    served(settings, [["One text."]])
    other = made(settings)
    out, _ = command(tmp_path, "backfill", "other", expect=1)
    assert "1 text without a vector" in out
    assert not state_of(settings, other).wanted
    command(tmp_path, "backfill", "other", "--json", expect=2)
    _, complaints = command(tmp_path, "backfill", "other", "--yes", "--budget", "5.00", expect=1)
    assert "the budget is in money (5.00 USD), and the price of other is not known" in complaints
    _, complaints = command(tmp_path, "backfill", "words", "--yes", expect=1)
    assert "serves: every document has its vectors already" in complaints
    _, complaints = command(tmp_path, "backfill", "nothing", "--yes", expect=1)
    assert "there is no profile 'nothing'; there are: test/words/384" in complaints
    assert not state_of(settings, other).wanted


def test_the_estimate_is_assumed_where_nothing_was_counted_and_limits_give_a_time(settings: Settings, tmp_path: Path) -> None:
    served(settings, load.make(4, [1000]))
    execute(settings, "DELETE FROM spending")
    other = made(settings)
    out, _ = command(tmp_path, "backfill", "other", "--json", "--yes", "--detach", LEX_INGEST_TOKENS_PER_MINUTE="500")
    plan, begun = map(json.loads, out.splitlines())
    assert plan == {
        "profile": "test/other/384", "texts": 4, "bytes": 4000, "tokens": 1000, "tokens_per_byte": 0.25, "measured_by": None,
        "usd": None, "seconds": 120.0,
    }  # fmt: skip
    assert begun["state"] == "begun"
    assert state_of(settings, other).wanted


def test_a_budget_that_is_used_up_ends_the_command_and_documents_go_on(
    settings: Settings, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    served(settings, load.make(4, [4000] * 40))  # the first request takes four of them
    other = made(settings)
    out, _ = command(tmp_path, "backfill", "other", "--yes", "--budget", "3000t", expect=1)
    assert re.search(
        r"not whole: the budget of this backfill, 3,000 tokens, is used up: \d+,000 tokens; `lex-ingest model back", out
    )
    assert 0 < covered(settings, other).with_vector <= 72
    assert "parked (budget_run): the budget of this backfill" in command(tmp_path, "list")[0]
    status = subprocess.run(
        [sys.executable, "-P", "-m", "infra.cli.main", "status"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"filling of {other.name}: parked (budget_run)" in status.stdout
    load.insert(settings, [["Another text."]], prefix="new/")
    wait_until(lambda: load.outcome(settings, "new/").statuses == {"INDEXED": 1}, 20, "a document is indexed")


def test_ctrl_c_leaves_it_going_and_stop_ends_it(settings: Settings, provider: Provider, tmp_path: Path) -> None:
    served(settings, load.make(10, [60]))
    other = made(settings)
    process = started(tmp_path, "backfill", "other", "--yes")
    try:
        wait_until(lambda: state_of(settings, other).wanted, 20, "it has begun")
        process.send_signal(signal.SIGINT)
        out, complaints = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, out + complaints
    assert "it goes on in the background" in complaints
    turn = fill(other.id, settings)
    assert turn is not None
    assert turn.outcome is Outcome.WHOLE
    out, _ = command(tmp_path, "backfill", "other", "--stop")
    assert out == "test/other/384 is no longer filled; its vectors stay\n"
    assert (covered(settings, other).with_vector, count(settings, other.table)) == (10, 10)
    command(tmp_path, "backfill", "other", "--stop", expect=1)
