"""The commands that change the embedding model: model list, add, switch, rollback, drop (and ``infra.cli.backfill``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli import backfill
from infra.cli.connection import DataDir, connect
from infra.cli.documents import Json
from infra.cli.output import console, json_line, say, tell
from worker.domain.plurals import plural

if TYPE_CHECKING:
    from worker.services.models import Listed
    from worker.services.switching import Switched

model = typer.Typer(
    name="model",
    help="Change the embedding model without a moment in which searches fail: add, backfill, switch.",
    no_args_is_help=True,
    add_completion=False,
    epilog="Example: lex-ingest model add text-embedding-3-large --dimensions 3072",
)
Name = Annotated[
    str, typer.Argument(metavar="PROFILE", help="As `model list` names it; the model's name alone will do where one has it.")
]
# What pgvector's HNSW index takes of each type.
_MOST = {"halfvec": 4000, "vector": 2000}


@model.command("list")
def list_profiles(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Show each embedding profile: whether it serves, how much of what is served it has, and its index."""
    settings = connect(data_dir).require("database_url")
    from worker.services.models import listed

    found = listed(settings)
    if as_json:
        for item in found:
            json_line(_record(item))
        return
    if not found:
        tell("there is no profile yet: run `lex-ingest migrate`")
        raise typer.Exit(1)
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("profile", "state", "vectors", "of chunks", "index", "MB", "filling"):
        table.add_column(title, overflow="fold", justify="right" if title in ("vectors", "of chunks", "MB") else "left")
    for item in found:
        filling = item.filling or ""
        if item.coverage.refused:
            filling = f"{filling}{', ' if filling else ''}{plural(item.coverage.refused, 'chunk')} refused"
        table.add_row(
            Text(item.profile.name), Text(item.state, "green" if item.profile.serving else ""), f"{item.vectors:,}",
            f"{item.percent:.1f}%", item.index, f"{item.size / 1e6:,.1f}", Text(filling),
        )  # fmt: skip
    console.print(table)


def _record(item: Listed) -> dict[str, Any]:
    profile, covered = item.profile, item.coverage
    return {
        "id": profile.id, "name": profile.name, "provider": profile.provider, "model": profile.model,
        "dimensions": profile.dimensions, "storage": profile.storage, "base_url": profile.base_url, "state": item.state,
        "vectors": item.vectors, "chunks": covered.chunks, "with_vector": covered.with_vector, "refused": covered.refused,
        "percent": round(item.percent, 2), "index": item.index, "size": item.size, "filling": item.filling,
    }  # fmt: skip


@model.command()
def add(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="As its provider names it.")],
    dimensions: Annotated[int, typer.Option(min=1, max=max(_MOST.values()), help="Length of its vectors.")],
    provider: Annotated[str | None, typer.Option(help="Whose; LEX_INGEST_EMBEDDING_PROVIDER unless told.")] = None,
    base_url: Annotated[str | None, typer.Option("--base-url", help="Where another provider answers: https://…/v1.")] = None,
    send_dimensions: Annotated[bool, typer.Option("--send-dimensions", help="Ask the provider for that length.")] = False,
    storage: Annotated[str | None, typer.Option("--type", help="halfvec or vector; LEX_INGEST_VECTOR_TYPE unless told.")] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Make the table of another model, once its provider answers; nothing is filled yet."""
    if storage is not None and storage not in _MOST:
        raise typer.BadParameter(f"one of {', '.join(_MOST)}", param_hint="--type")
    settings = connect(data_dir).require("database_url")
    kind = storage or settings.vector_type
    if dimensions > _MOST[kind]:
        raise typer.BadParameter(f"pgvector indexes a {kind} of at most {_MOST[kind]}", param_hint="--dimensions")
    from worker.services import models

    made = models.add(
        name, dimensions, settings, provider=provider, base_url=base_url, send_dimensions=send_dimensions, storage=kind
    )
    if as_json:
        json_line({"id": made.id, "name": made.name, "table": made.table, "storage": made.storage})
    else:
        say(f"added {made.name}: it answers, and has no vectors yet. Next: `lex-ingest model backfill {made.name}`")


@model.command()
def switch(
    name: Name,
    incomplete: Annotated[bool, typer.Option("--incomplete", help="Even if its provider refuses some of the texts.")] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Answer queries from this profile from now on; the one before is kept filled, for the way back."""
    settings = connect(data_dir).require("database_url")
    from worker.services import models, switching

    _switched(switching.switch(models.find(name, settings), settings, incomplete=incomplete), as_json)


@model.command()
def rollback(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Answer queries from the profile that served before: at once."""
    settings = connect(data_dir).require("database_url")
    from worker.services import switching

    _switched(switching.rollback(settings), as_json)


def _switched(done: Switched, as_json: bool) -> None:
    if as_json:
        json_line({"serving": done.serving.name, "before": done.before.name, "refused": done.refused})
        return
    say(f"{done.serving.name} serves; {done.before.name} is kept filled: `lex-ingest model rollback` goes back at once")
    if done.refused:
        verb = "is" if done.refused == 1 else "are"
        say(f"{plural(done.refused, 'text')}, which its provider refuses, {verb} found by words only")


@model.command()
def drop(name: Name, as_json: Json = False, data_dir: DataDir = None) -> None:
    """Drop a profile's vectors; what they cost stays readable in `lex-ingest cost`."""
    settings = connect(data_dir).require("database_url")
    from worker.services import models

    gone = models.find(name, settings)
    models.drop(gone, settings)
    if as_json:
        json_line({"dropped": gone.name})
    else:
        say(f"dropped {gone.name}; `lex-ingest cost --by model` goes on telling what it cost")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    backfill.register(model)
    app.add_typer(model)
