"""Commands that read documents: status, show."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.connection import Bucket, DataDir, chosen_buckets, connect
from infra.cli.output import STATUS_STYLE, console, heading, json_line, say, tell, visible_key, visible_line, visible_text
from worker.domain.plurals import plural

if TYPE_CHECKING:
    from rich.console import RenderableType

    from worker.domain.scope import Scope
    from worker.services.documents import DocumentDetail, DocumentStatus
    from worker.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]

# The first columns of a line: the longest status, a generation, and chunks such as 12345/12345.
_COLUMNS = "{:<11} {:>4} {:>11}  "


def status(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="One document's key.")] = None,
    only: Annotated[str | None, typer.Option("--status", help="Only documents in this status.")] = None,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    bucket: Bucket = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew until no document waits.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="With --json: end with one object of counts, which the text output always has.")
    ] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show every document's status, how much of it is embedded, and what it waits for."""
    chosen = parse_status(only)
    if watch and as_json:
        raise typer.BadParameter("--watch has no JSON form: run `status --json` repeatedly instead.", param_hint="--watch")
    settings = connect(data_dir).require("database_url", "buckets")
    from worker.domain.scope import Scope
    from worker.services.documents import statuses

    scope = Scope.of_buckets(chosen_buckets(settings, bucket)).within(prefix)

    def rows() -> Iterator[DocumentStatus]:
        return statuses(scope, settings, key=key, status=chosen, with_progress=True)

    if watch:
        _watch(rows, scope, settings)
        return
    counted = _Summary(settings)
    for row in rows():
        if as_json:
            json_line(row)
        else:
            if not counted.documents:
                say((_COLUMNS + "{}").format("status", "gen", "chunks", "key").rstrip())
            _print_row(row, len(scope.buckets) > 1)
        counted.add(row)
    if as_json and summary:
        json_line(counted.record())
    if key is not None and not counted.documents:
        if not as_json:
            tell(f"no document has the key {visible_key(key)}")
        raise typer.Exit(1)
    if not as_json:
        for line in counted.lines():
            say(line)


def parse_status(name: str | None) -> Any:
    """The status of that name, in any case, or None."""
    from worker.domain.document import Status

    if name is None:
        return None
    try:
        return Status(name.upper())
    except ValueError:
        raise typer.BadParameter(f"one of {', '.join(Status)}", param_hint="--status") from None


class _Summary:
    """Counts the documents that are listed. There may be millions, so it keeps counts and no rows."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._statuses: Counter[str] = Counter()
        self._embedded = self._total = 0

    @property
    def documents(self) -> int:
        return self._statuses.total()

    def add(self, row: DocumentStatus) -> None:
        self._statuses[row.status.value] += 1
        if row.chunks_embedded is not None and row.chunks_total is not None:
            self._embedded += row.chunks_embedded
            self._total += row.chunks_total

    def record(self) -> dict[str, Any]:
        """The object that ends ``--json --summary``."""
        load = self._load()
        return {
            "kind": "summary",
            "documents": self.documents,
            "statuses": dict(sorted(self._statuses.items())),
            "chunks_embedded": self._embedded,
            "chunks_total": self._total,
            "queues": self._queues(),
            "local_model": None if load is None else dataclasses.asdict(load),
            "fillings": [{"profile": profile, "state": state} for profile, state in self._fillings()],
        }

    def lines(self) -> Iterator[str]:
        counts = ", ".join(f"{number:,} {name}" for name, number in sorted(self._statuses.items())) or "no documents"
        queues = self._queues()
        if queues is None:
            waiting = "REDIS_URL is not set" if not self._settings.redis_url else "Redis does not answer"
        else:
            waiting = ", ".join(f"{name} {length}" for name, length in queues.items())
        yield f"\n{counts}" if self.documents else counts
        yield f"queues: {waiting}"
        load = self._load()
        busy = None if load is None else load.sentence(self._total - self._embedded)
        if busy is not None:
            yield busy
        for profile, state in self._fillings():
            yield f"filling of {profile}: {state}"

    def _queues(self) -> dict[str, int] | None:
        from redis import RedisError

        from worker import producer

        if not self._settings.redis_url:
            return None
        try:
            return producer.queue_lengths(self._settings)
        except RedisError:
            return None

    def _load(self) -> Any:
        from infra.cli import local_model

        return local_model.load(self._settings) if self._total > self._embedded else None

    def _fillings(self) -> list[tuple[str, str]]:
        from worker.services.models import resting

        return [(profile.name, state) for profile, state in resting(self._settings)]


def _print_row(row: DocumentStatus, with_bucket: bool) -> None:
    """Print a document on one line; on a terminal, the reason goes on a second line if it does not fit on the first.

    The key is printed in full and quoted for a shell, so that it can be pasted after `lex-ingest show`.
    """
    first = _COLUMNS.format(row.status, row.generation, chunks_of(row))
    where = f"{row.bucket}  " if with_bucket else ""
    key, why = visible_key(row.key), _why(row)
    if not console.is_terminal:
        sys.stdout.write(f"{first}{where}{key}{'  ' if why else ''}{why}\n")
        return
    from rich.cells import cell_len
    from rich.text import Text

    line = Text(first)
    line.stylize(STATUS_STYLE.get(row.status, "cyan"), 0, len(row.status))
    line.append(where + key)
    fits = line.cell_len + 2 + cell_len(why) <= console.width
    line.append(("  " if fits else "\n    ") + why if why else "")
    console.print(line, soft_wrap=True)


def chunks_of(row: DocumentStatus) -> str:
    """The number of chunks that are served; for a version that is being embedded, how many of all have a vector: 3/12."""
    if row.chunks_total is None:
        return str(row.chunks)
    return f"{'?' if row.chunks_embedded is None else row.chunks_embedded}/{row.chunks_total}"


def _why(row: DocumentStatus) -> str:
    """What the document waits for and until when, and why it failed, at an end or the last time."""
    why = visible_line(f"{row.error_code}: {row.error}") if row.error_code else ""
    if row.waits_for and row.due_at is not None:
        when = row.due_at.astimezone()
        return f"{visible_line(row.waits_for)}, looked at again at {when:%H:%M:%S}{' — last: ' + why if why else ''}"
    if row.error_code and row.active_generation is not None:
        return f"{why} (generation {row.active_generation} is still served)"
    return why


def _watch(rows: Any, scope: Scope, settings: Settings) -> None:
    from rich.live import Live

    from infra.cli.progress import ChunkProgress
    from worker.domain.document import TERMINAL

    progress = ChunkProgress(settings)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = list(rows())
            progress.look(found)
            sentence = progress.sentence() if found else "no documents yet; Ctrl-C ends the waiting for some"
            live.update(_screenful(found, sentence, len(scope.buckets) > 1), refresh=True)
            if found and all(row.status in TERMINAL for row in found):
                break
            time.sleep(1)
    counted = _Summary(settings)
    for row in found:
        counted.add(row)
    for line in counted.lines():
        say(line)


def _screenful(rows: list[DocumentStatus], sentence: str | None, with_bucket: bool) -> RenderableType:
    """As many rows as fit on the screen: documents that wait first, then failed ones; the last lines count the others."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from worker.domain.document import TERMINAL, Status

    def urgency(row: DocumentStatus) -> int:
        return 0 if row.status not in TERMINAL else 1 if row.status is Status.FAILED else 2

    table = Table(box=None, pad_edge=False)
    for title in ("status", "gen", "chunks", "key", "why / waits for"):
        right = title in ("gen", "chunks")
        table.add_column(title, overflow="ellipsis", no_wrap=True, justify="right" if right else "left")
    # The width that the narrow columns and the gaps leave to each of the other two. A row must not wrap, so long keys are cut.
    room = max(8, (console.width - len("UNSUPPORTED  gen  12345/12345") - 8) // 2)
    shown = sorted(rows, key=urgency)[: max(1, console.height - 4)]
    for row in shown:
        key = Text(f"{row.bucket}: {visible_key(row.key)}" if with_bucket else visible_key(row.key))
        why = Text(_why(row))
        for text in (key, why):
            text.truncate(room, overflow="ellipsis")
        table.add_row(Text(row.status, STATUS_STYLE.get(row.status, "cyan")), str(row.generation), chunks_of(row), key, why)
    below = [f"… {len(rows) - len(shown):,} more"] if len(shown) < len(rows) else []
    return Group(table, *(Text(line, no_wrap=True, overflow="ellipsis") for line in [*below, *([sentence] if sentence else [])]))


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The document's key.")],
    bucket: Bucket = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show one document: its pages or sections, and its chunks with their text and where it comes from."""
    settings = connect(data_dir).require("database_url", "buckets")
    from worker.domain.errors import PermanentError
    from worker.domain.scope import Scope
    from worker.services import documents

    try:
        detail = documents.show(Scope.of_buckets(chosen_buckets(settings, bucket)), key, settings)
    except PermanentError as error:
        raise typer.BadParameter(str(error), param_hint="--bucket") from None
    if detail is None:
        tell(f"no document has the key {visible_key(key)}")
        raise typer.Exit(1)
    if as_json:
        fields = dataclasses.asdict(detail)
        row = fields.pop("status")
        row.pop("chunks")
        json_line({**row, **fields})
        return
    _print_detail(detail, len(settings.buckets) > 1)


def _print_detail(detail: DocumentDetail, with_bucket: bool) -> None:
    row = detail.status
    say((_COLUMNS + "{}").format("status", "gen", "chunks", "key"))
    _print_row(row, with_bucket)
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
            say(f"{name:>10}  {visible_line(str(value))}")
    for warning in detail.warnings:
        say(f"warning     {visible_line(warning)}")
    say(f"\n{plural(len(detail.sections), 'section')}")
    for section in detail.sections:
        where = f"page {section['page']}" if section["page"] else ""
        name = visible_line(section["heading"] or "")
        say(f"  {section['char_start']:>7}-{section['char_end']:<7} {where:<9} {name}".rstrip())
    for piece in detail.chunks:
        heading(f"chunk {piece['ordinal']} · {piece['char_start']}–{piece['char_end']}{_pages(piece)}")
        say(visible_text(piece["text"]))


def _pages(piece: dict[str, Any]) -> str:
    first, last = piece["page_start"], piece["page_end"]
    if first is None:
        return ""
    return f", page {first}" if first == last else f", pages {first}–{last}"


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (status, show):
        app.command()(command)
