"""The command that fills another model's table: model backfill."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.connection import DataDir, connect
from infra.cli.documents import Json
from infra.cli.output import console, json_line, say, tell
from worker.domain.plurals import plural

if TYPE_CHECKING:
    from worker.budget import Budget
    from worker.services.backfilling import Plan, Progress
    from worker.settings import Settings
    from worker.store.profiles import Profile

# Seconds: between two looks, between two lines where no terminal shows one that changes, and until somebody is missed.
_EVERY, _LINE_EVERY, _MISSED_AFTER = 0.5, 5.0, 30.0


def backfill(
    name: Annotated[str, typer.Argument(metavar="PROFILE", help="As `model list` names it, or the model's name alone.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    budget: Annotated[str | None, typer.Option(help="What this may cost: 5.00 (USD) or 2000000t (tokens).")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Begin it, and return.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Fill it no longer; its vectors stay.")] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Give everything that is served a vector of this profile too, in the background, and what comes later as well."""
    if as_json and not (yes or stop):
        raise typer.BadParameter("--json asks nothing: add --yes", param_hint="--json")
    most = _budget(budget)
    settings = connect(data_dir).require("database_url")
    from worker.services import backfilling, models

    profile = models.find(name, settings)
    if stop:
        stopped = backfilling.stop(profile, settings)
        _tell(as_json, {"profile": profile.name, "stopped": stopped},
              f"{profile.name} is {'no longer filled' if stopped else 'not being filled'}; its vectors stay")  # fmt: skip
        if not stopped:
            raise typer.Exit(1)
        return
    expected = backfilling.plan(profile, settings)
    _tell(as_json, _record(profile, expected), _in_words(profile, expected))
    if not yes and expected.texts and not typer.confirm("Begin?"):
        raise typer.Exit(1)
    try:
        backfilling.start(profile, most, settings)
        if detach:
            begun = "begun; `lex-ingest model list` shows how far it is"
            _tell(as_json, {"profile": profile.name, "state": "begun"}, begun)
            return
        _follow(profile, expected, settings, as_json)
    except KeyboardInterrupt:
        tell(
            f"it goes on in the background: `lex-ingest model list` shows how far it is, "
            f"`lex-ingest model backfill {profile.name} --stop` ends it"
        )
        raise typer.Exit(130) from None


def _budget(value: str | None) -> Budget | None:
    from worker.budget import read_budget

    if value is None:
        return None
    try:
        return read_budget(value)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from None


def _tell(as_json: bool, record: dict[str, Any], sentence: str) -> None:
    if as_json:
        json_line(record)
    else:
        say(sentence)


def _record(profile: Profile, plan: Plan) -> dict[str, Any]:
    return {
        "profile": profile.name, "texts": plan.texts, "bytes": plan.size, "tokens": plan.tokens,
        "tokens_per_byte": round(plan.tokens_per_byte, 4), "measured_by": plan.measured,
        "usd": None if plan.dollars is None else f"{plan.dollars:f}", "seconds": plan.seconds,
    }  # fmt: skip


def _in_words(profile: Profile, plan: Plan) -> str:
    from worker.budget import dollars

    if not plan.texts:
        return f"{profile.name} has a vector of every text that is served"
    known = f"as {plan.measured} counted" if plan.measured else "assumed: nothing was counted yet"
    price = "price unknown (LEX_INGEST_PRICES)" if plan.dollars is None else f"about {dollars(plan.dollars)}"
    limits = "no limits are set: how long it takes is known once it runs"
    if plan.seconds is not None:
        limits = f"at least {_span(plan.seconds)} by the limits that are set"
    return (
        f"{profile.name}: {plural(plan.texts, 'text')} without a vector, about {plural(plan.tokens, 'token')} "
        f"({plan.tokens_per_byte:.3f} per byte, {known}), {price}; {limits}"
    )


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole / 3600:.1f} h"


def _follow(profile: Profile, plan: Plan, settings: Settings, as_json: bool) -> None:
    """Show how far it is until nothing is missing, then have its index built."""
    from worker.services import backfilling

    begun = time.monotonic()
    first = now = backfilling.progress(profile, settings)
    show = _shown(as_json)
    while not (now.whole or now.spent) and now.wanted:
        show(_how_far(first, now, plan, time.monotonic() - begun))
        time.sleep(_EVERY)
        now = backfilling.progress(profile, settings)
    if not now.whole:
        reason = now.reason if now.spent else "somebody ended it"
        _tell(as_json, {"profile": profile.name, "state": "parked" if now.spent else "stopped", "reason": reason},
              f"not whole: {reason}")  # fmt: skip
        raise typer.Exit(1)
    while not backfilling.build_index(profile, settings):
        show("another process builds an index")
        time.sleep(_EVERY)
    seconds = time.monotonic() - begun
    texts = now.inputs - first.inputs
    rate = f"{plural(texts, 'text')} in {_span(seconds)} ({texts / seconds:,.0f} per second)" if texts else "nothing was missing"
    refused = f"; {plural(now.refused, 'text')} refused" if now.refused else ""
    _tell(
        as_json,
        {"profile": profile.name, "state": "whole", "texts": texts, "refused": now.refused, "seconds": round(seconds, 1)},
        f"whole: {rate}{refused}. Next: `lex-ingest model switch {profile.name}`",
    )


def _how_far(first: Progress, now: Progress, plan: Plan, seconds: float) -> str:
    if now.reason is not None:
        return f"rests: {now.reason}"
    done = min(now.inputs - first.inputs, plan.texts)
    if not done:
        missed = seconds > _MISSED_AFTER and not now.running
        return "no worker has taken it: see that one runs (`lex-ingest doctor`)" if missed else "waits for a worker"
    rate = done / seconds
    return f"{done:,} of {plural(plan.texts, 'text')}, {rate:,.0f} per second, {_span((plan.texts - done) / rate)} to go"


def _shown(as_json: bool) -> Callable[[str], None]:
    """How progress is shown: a line that changes on a terminal, else a line now and then; nothing for a machine."""
    last = [-_LINE_EVERY]

    def show(sentence: str) -> None:
        if as_json or time.monotonic() < last[0] + (_EVERY if console.is_terminal else _LINE_EVERY):
            return
        last[0] = time.monotonic()
        end = "\r" if console.is_terminal else "\n"
        console.print(sentence.ljust(console.width - 1 if console.is_terminal else 0), end=end, highlight=False, markup=False)

    return show


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command()(backfill)
