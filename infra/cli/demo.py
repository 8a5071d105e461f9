"""``lex-ingest demo``: the whole way in a minute, on a stack of its own that is gone afterwards."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.output import STATUS_STYLE, console, heading, visible_key
from worker.domain.plurals import plural

if TYPE_CHECKING:
    from infra.local.stack import Stack
    from worker.services.documents import DocumentStatus
    from worker.settings import Settings

SAMPLES = Path(__file__).parent.parent / "samples"


def demo(keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running in its folder.")] = False) -> None:
    """Start a stack, ingest the sample documents, search them, and stop everything."""
    from infra.local import stack

    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=".lex-ingest-demo-", dir=Path.cwd()))
    good = is_interrupted = False
    try:
        heading("1. a local stack: PostgreSQL + pgvector, Valkey, S3 and SQS, an embedding model, a Celery worker")
        running = stack.up(
            folder,
            # The samples stay on this machine, even if OPENAI_API_KEY is set.
            provider="local",
            detach=keep,
            on_progress=lambda line: console.print(f"   {line}", highlight=False, markup=False),
        )
        good = _run(running)
        heading(f"done in {time.monotonic() - started:.0f} s")
    except KeyboardInterrupt:
        is_interrupted = True
        raise
    finally:
        if not keep:
            stack.down(folder)
            # After a failure the logs stay.
            if good or is_interrupted:
                shutil.rmtree(folder, ignore_errors=True)
    _say_how_to_go_on(folder if keep else None)
    if not good:
        console.print(f"[red]The demo did not go as it should[/]; logs: {folder / 'log'}", soft_wrap=True)
        raise typer.Exit(1)


def _run(running: Stack) -> bool:
    os.environ.update(running.environment)
    from worker.settings import Settings

    settings = Settings.from_environment(os.environ)
    indexed = _ingest(settings)
    return _search(settings) and indexed


def _ingest(settings: Settings) -> bool:
    """Upload the samples and show how each comes along; whether all were indexed."""
    from rich.live import Live

    from infra.cli import uploads
    from worker.domain.document import Status
    from worker.domain.scope import Scope

    planned, _ = uploads.plan([SAMPLES / "documents"], "")
    heading(f"2. {len(planned)} documents go into the bucket {settings.buckets[0]!r} through the S3 API")
    etags = {item.key: etag for item, etag in uploads.upload_all(planned, settings.buckets[0]) if isinstance(etag, str)}
    seen: dict[str, Status] = {}
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(rows: dict[str, DocumentStatus], done: int) -> None:
            for key, row in sorted(rows.items()):
                # One line that stays for each that is through, and below it how many are where.
                if row.due_at is None and key not in seen:
                    seen[key] = row.status
                    console.print(_line(row), highlight=False, soft_wrap=True)
            on_their_way = Counter(row.status.value for row in rows.values() if row.due_at is not None)
            stages = ", ".join(f"{number} {name}" for name, number in sorted(on_their_way.items()))
            live.update(f"   {done} of {len(etags)} done; {stages or 'waiting for events'}", refresh=True)

        rows = uploads.wait_for(etags, {}, Scope.of_buckets(settings.buckets), settings, 120, show)
    return len(rows) == len(etags) and all(row.status is Status.INDEXED for row in rows.values())


def _line(row: DocumentStatus) -> str:
    from rich.markup import escape

    facts = f"{row.text_length or 0:>6} characters {plural(row.chunks, 'chunk'):>9}" if row.error is None else escape(row.error)
    return f"   [{STATUS_STYLE.get(row.status, 'cyan')}]{row.status:<9}[/] {facts}  {escape(visible_key(row.key))}"


def _search(settings: Settings) -> bool:
    """Run the three sample searches; whether each best hit is the document that it should be."""
    from infra.cli.search import print_hits
    from worker.domain.scope import Scope
    from worker.services.search import search

    heading("3. three searches by meaning: other words than the documents use")
    right = True
    for wanted in json.loads((SAMPLES / "searches.json").read_text(encoding="utf-8")):
        console.print(f"\n[bold]lex-ingest search[/] {wanted['query']!r}", highlight=False)
        hits = search(wanted["query"], Scope.of_buckets(settings.buckets), 3, settings)
        print_hits(hits)
        if not hits or hits[0].key != wanted["key"]:
            console.print(f"   [red]the best hit should be {wanted['key']}[/]", highlight=False)
            right = False
    return right


def _say_how_to_go_on(folder: Path | None) -> None:
    option = f" --data-dir {folder}" if folder else ""
    start = "" if folder else "  .venv/bin/lex-ingest up --detach    # the same stack, to keep\n"
    console.print(
        "\nGo on with your own documents:\n"
        f"{start}"
        f"  .venv/bin/lex-ingest put ~/Documents --wait{option}\n"
        f"  .venv/bin/lex-ingest search 'what you look for'{option}\n"
        f"  .venv/bin/lex-ingest down{option}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command()(demo)
