"""Commands that read documents: status, show."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.connection import DataDir, connect
from infra.cli.output import STATUS_STYLE, console, errors, heading, json_line, visible_key

if TYPE_CHECKING:
    from rich.table import Table

    from worker.services.documents import DocumentDetail, DocumentStatus
    from worker.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def status(
    key: Annotated[str | None, typer.Argument(help="One document's key.")] = None,
    only: Annotated[str | None, typer.Option("--status", help="Only documents in this status.")] = None,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew until no document waits.")] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show every document's status and what it waits for."""
    settings = connect(data_dir).require("buckets")
    from worker.domain.document import TERMINAL
    from worker.domain.scope import Scope
    from worker.services.documents import statuses

    scope = Scope.of_buckets(settings.buckets).within(prefix)
    chosen = parse_status(only)
    if as_json:
        found = False
        for row in statuses(scope, settings, key=key, status=chosen):
            found = True
            json_line(row)
        if key is not None and not found:
            raise typer.Exit(1)
        return
    if watch:
        from rich.live import Live

        with Live(console=console, auto_refresh=False) as live:
            while True:
                rows = list(statuses(scope, settings, key=key, status=chosen))
                live.update(_screenful(rows), refresh=True)
                if rows and all(row.status in TERMINAL for row in rows):
                    break
                time.sleep(1)
    else:
        rows = list(statuses(scope, settings, key=key, status=chosen))
        if key is not None and not rows:
            errors.print(f"no document has the key {visible_key(key)!r}", soft_wrap=True)
            raise typer.Exit(1)
        console.print(_table(rows))
    _summary(settings, rows)


def _screenful(rows: list[DocumentStatus]) -> Table:
    """As many rows as the screen holds: what is on its way first, then what failed; the last line counts the others."""
    from worker.domain.document import TERMINAL, Status

    def urgency(row: DocumentStatus) -> int:
        return 0 if row.status not in TERMINAL else 1 if row.status is Status.FAILED else 2

    shown = sorted(rows, key=urgency)[: max(1, console.height - 3)]
    table = _table(shown, console.width)
    if len(shown) < len(rows):
        table.add_row(f"… {len(rows) - len(shown)} more")
    return table


def parse_status(name: str | None) -> Any:
    """The status of that name, in any case, or None."""
    from worker.domain.document import Status

    if name is None:
        return None
    try:
        return Status(name.upper())
    except ValueError:
        raise typer.BadParameter(f"one of {', '.join(Status)}", param_hint="--status") from None


def _table(rows: list[DocumentStatus], width: int | None = None) -> Table:
    """A row a document. In a screen of ``width`` columns, what is too long for one line is cut; else it is folded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("key", "status", "gen", "chunks", "why / waits for"):
        table.add_column(title, overflow="fold", justify="right" if title in ("gen", "chunks") else "left")
    # What the three narrow columns and the gaps between all five leave to the other two.
    room = None if width is None else (width - len("UNSUPPORTED  gen  chunks") - 6) // 2
    for row in rows:
        key, why = Text(visible_key(row.key)), Text(_why(row))
        if room is not None:
            key.truncate(room, overflow="ellipsis")
            why.truncate(room, overflow="ellipsis")
        status = Text(row.status, STATUS_STYLE.get(row.status, "cyan"))
        table.add_row(key, status, str(row.generation), str(row.chunks), why)
    return table


def _why(row: DocumentStatus) -> str:
    """What the document waits for and until when, and why it failed, at an end or the last time."""
    why = f"{row.error_code}: {row.error}" if row.error_code else ""
    if row.waits_for and row.due_at is not None:
        when = row.due_at.astimezone()
        return f"{row.waits_for}, looked at again at {when:%H:%M:%S}{' — last: ' + why if why else ''}"
    if row.error_code and row.active_generation is not None:
        return f"{why} (generation {row.active_generation} is still served)"
    return why


def _summary(settings: Settings, rows: list[DocumentStatus]) -> None:
    from collections import Counter

    from redis import RedisError

    from worker import producer
    from worker.services.models import resting

    numbers = Counter(row.status.value for row in rows)
    line = ", ".join(f"{number} {name}" for name, number in sorted(numbers.items())) or "no documents"
    try:
        queues = ", ".join(f"{name} {length}" for name, length in producer.queue_lengths(settings).items())
    except RedisError:
        queues = "Redis does not answer"
    console.print(f"\n{line}\nqueues: {queues}", highlight=False)
    for profile, why in resting(settings):
        console.print(f"filling of {profile.name}: {why}", highlight=False, soft_wrap=True, markup=False)


def show(
    key: Annotated[str, typer.Argument(help="The document's key.")], as_json: Json = False, data_dir: DataDir = None
) -> None:
    """Show one document: its pages or sections, and its chunks with their text and where it comes from."""
    settings = connect(data_dir).require("buckets")
    from worker.domain.scope import Scope
    from worker.services import documents

    detail = documents.show(Scope.of_buckets(settings.buckets), key, settings)
    if detail is None:
        errors.print(f"no document has the key {visible_key(key)!r}", soft_wrap=True)
        raise typer.Exit(1)
    if as_json:
        import dataclasses

        fields = dataclasses.asdict(detail)
        summary = fields.pop("status")
        summary.pop("chunks")
        json_line({**summary, **fields})
        return
    _print_detail(detail)


def _print_detail(detail: DocumentDetail) -> None:
    from rich.markup import escape

    row = detail.status
    console.print(_table([row]))
    facts = {
        "id": row.document_id,
        "title": detail.title,
        "type": detail.media_type,
        "read by": detail.extractor,
        "pages": detail.page_count,
        **detail.metadata,
        "characters": row.text_length,
        "etag": row.etag,
        "version": row.version_id,
    }
    for name, value in facts.items():
        if value is not None:
            console.print(f"{name:>10}  {escape(str(value))}", highlight=False)
    for warning in detail.warnings:
        console.print(f"[yellow]warning[/]     {escape(warning)}", highlight=False)
    console.print(f"\nsections: {len(detail.sections)}")
    for section in detail.sections:
        where = f"page {section['page']}" if section["page"] else ""
        console.print(
            f"  {section['char_start']:>7}-{section['char_end']:<7} {where:<9} {escape(section['heading'] or '')}",
            highlight=False,
        )
    for piece in detail.chunks:
        pages = "" if piece["page_start"] is None else f", page {piece['page_start']}–{piece['page_end']}"
        heading(f"chunk {piece['ordinal']} · {piece['char_start']}–{piece['char_end']}{pages}")
        console.print(escape(piece["text"]), highlight=False)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (status, show):
        app.command()(command)
