"""The command that says what embedding has cost: cost."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.connection import Bucket, DataDir, chosen_buckets, connect
from infra.cli.documents import Json
from infra.cli.output import json_line, say, visible_key
from worker.domain.plurals import plural

if TYPE_CHECKING:
    from worker.domain.spending import Spent
    from worker.services.cost import Cost
    from worker.store.spending_report import By, Line

_IN_WORDS = {
    "gone": "(documents that are gone)",
    "elsewhere": "(documents of other buckets)",
    "queries": "(searches and checks)",
}


def cost(
    by: Annotated[str, typer.Option("--by", help="prefix (the first folder of the key), document, day or model.")] = "prefix",
    prefix: Annotated[str, typer.Option(help="Only documents whose key begins so.")] = "",
    depth: Annotated[int, typer.Option(min=1, max=20, help="With --by prefix: so many folders of the key.")] = 1,
    since: Annotated[str | None, typer.Option(help="Only from this day on: an ISO date, UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Only until this day; it is included.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many lines; the rest is one line.")] = 1000,
    bucket: Bucket = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show what embedding has cost, in tokens and money, what is not confirmed, and today's budget."""
    kind = _kind(by)
    first, last = _day(since, "--since"), _day(until, "--until")
    if first is not None and last is not None and first > last:
        raise typer.BadParameter("--since must not be later than --until", param_hint="--since")
    if depth != 1 and kind.value != "prefix":
        raise typer.BadParameter("--depth goes with --by prefix", param_hint="--depth")
    settings = connect(data_dir).require("database_url", "buckets")
    from worker.domain.scope import Scope
    from worker.services.cost import cost as read

    buckets = chosen_buckets(settings, bucket)
    scope = Scope.of_buckets(buckets).within(prefix)
    found = read(scope, settings, by=kind, since=first, until=last, depth=depth, limit=limit, only_scope=bool(prefix or bucket))
    if as_json:
        for record in _records(found):
            json_line(record)
    else:
        _print(found, kind, bool(prefix or bucket), len(buckets) > 1)


def _kind(name: str) -> By:
    from worker.store.spending_report import By

    try:
        return By(name.lower())
    except ValueError:
        raise typer.BadParameter(f"one of {', '.join(By)}", param_hint="--by") from None


def _day(value: str | None, option: str) -> date | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise typer.BadParameter(f"{value!r} is no ISO date, such as 2026-03-01", param_hint=option) from None


def _amount(spent: Spent) -> dict[str, Any]:
    """Money as text: dollars to the last decimal, or null where no price is known. No float holds it."""
    money = None if spent.micro_dollars is None else f"{spent.micro_dollars.scaleb(-6).normalize():f}"
    return {"inputs": spent.inputs, "tokens": spent.tokens, "usd": money, "unpriced_tokens": spent.unpriced_tokens}


def _records(found: Cost) -> list[dict[str, Any]]:
    """What --json prints: the lines, then ``total``, ``unconfirmed`` and ``today``."""
    records: list[dict[str, Any]] = [
        {"kind": line.kind, "bucket": line.bucket, "name": line.name, "lines": line.lines, **_amount(line.spent)}
        for line in found.lines
    ]
    records.append({"kind": "total", **_amount(found.total)})
    records.append({"kind": "unconfirmed", "requests": found.unconfirmed.requests, **_amount(found.unconfirmed.most)})
    now = found.today
    unconfirmed = {"requests": now.may_be_billed.requests, **_amount(now.may_be_billed.most)}
    today = {"kind": "today", "day": now.day.isoformat(), **_amount(now.confirmed), "unconfirmed": unconfirmed, "budget": None}
    if now.budget is not None and now.used is not None and now.left is not None:
        amounts = {"amount": f"{now.budget.amount:f}", "used": f"{now.used:f}", "left": f"{now.left:f}"}
        today["budget"] = {"unit": "tokens" if now.budget.in_tokens else "usd", **amounts}
    records.append(today)
    return records


def _money(spent: Spent) -> str:
    """Dollars to the micro-dollar; "unknown", and never 0, where there is no price; "+ unknown" where a part has none."""
    if spent.micro_dollars is None:
        return "unknown" if spent.tokens else f"{Decimal():.6f}"
    return f"{spent.micro_dollars.scaleb(-6):,.6f}{' + unknown' if spent.unpriced_tokens else ''}"


def _print(found: Cost, by: By, is_narrowed: bool, with_bucket: bool) -> None:
    # The name is the last column, so that a long key is printed in full and moves no other column.
    rows = [("inputs", "tokens", "USD", by.value)]
    for name, spent in [*((_name(line, by, with_bucket), line.spent) for line in found.lines), ("total", found.total)]:
        rows.append((f"{spent.inputs:,}", f"{spent.tokens:,}", _money(spent), name))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        numbers = (text.rjust(width) for text, width in zip(row, widths, strict=False))
        say("  ".join([*numbers, row[3]]))
    if is_narrowed and found.lines:
        say("deleted documents have no key any more, so --prefix and --bucket leave them out")
    if any("unknown" in _money(spent) for spent in (found.total, found.unconfirmed.most)):
        say("unknown: no price was known for the model; LEX_INGEST_PRICES sets one for later requests")
    for text in (_unconfirmed(found), _today(found)):
        say(text)


def _name(line: Line, by: By, with_bucket: bool) -> str:
    if line.kind == "others":
        return f"({line.lines:,} more)"
    if line.name is None:
        return _IN_WORDS[line.kind]
    shown = visible_key(line.name) if line.name else "(no folder)"
    return f"{line.bucket}: {shown}" if with_bucket and line.bucket is not None else shown


def _unconfirmed(found: Cost) -> str:
    waiting = found.unconfirmed
    if not waiting.requests:
        return "unconfirmed: nothing; the provider counted just this"
    most = f"{plural(waiting.most.tokens, 'token')}, {_money(waiting.most)} USD"
    return (
        f"unconfirmed: {plural(waiting.requests, 'request')}, at most {most}: on "
        "their way, or their answers were lost or told no usage. This is an estimate by the size of the texts; the provider may "
        "have counted all of that besides the total, or nothing"
    )


def _today(found: Cost) -> str:
    now = found.today
    said = f"today ({now.day}, UTC): {plural(now.confirmed.tokens, 'token')}, {_money(now.confirmed)} USD"
    if now.budget is None or now.used is None or now.left is None:
        return f"{said}; no budget is set (LEX_INGEST_BUDGET_PER_DAY)"
    end = f"{now.budget.say(now.left)} left" if now.left else "used up: documents wait until midnight UTC"
    return f"{said}; with what is unconfirmed {now.budget.say(now.used)} of the budget of {now.budget}: {end}"


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command()(cost)
