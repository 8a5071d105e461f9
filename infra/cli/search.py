"""The command that searches, and how hits are printed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.connection import Bucket, DataDir, chosen_buckets, connect, option_of
from infra.cli.documents import Json
from infra.cli.output import console, json_line, say, tell, visible_key, visible_text

if TYPE_CHECKING:
    from worker.domain.filters import Filters
    from worker.domain.scope import Scope
    from worker.services.search import Hit, Mode
    from worker.settings import Settings


def search(
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY", help='What you look for, in your own words. A phrase in "double quotes" must occur exactly.'
        ),
    ],
    limit: Annotated[int, typer.Option("-k", min=1, max=200, help="How many hits.")] = 5,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    mode: Annotated[str, typer.Option(help="vector (meaning), text (words) or hybrid (both).")] = "hybrid",
    key: Annotated[str | None, typer.Option(help="Only this document.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--type", help="Only files of this kind: pdf, docx … or a media type.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Only objects written at this ISO date or time (UTC), or later.")] = None,
    before: Annotated[str | None, typer.Option(help="Only objects written before it.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only files that say so: author=Ada, language=de.")] = None,
    bucket: Bucket = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Find passages by meaning, by words, or by both."""
    if not query.strip():
        raise typer.BadParameter("say what you look for", param_hint="QUERY")
    filters = parse_filters(key, kind, after, before, where)
    way = _mode(mode)
    settings = connect(data_dir).require("database_url", "buckets")
    from worker.domain.scope import Scope
    from worker.services.search import search as find

    scope = Scope.of_buckets(chosen_buckets(settings, bucket)).within(prefix)
    hits = find(query, scope, limit, settings, mode=way, filters=filters)
    if as_json:
        for hit in hits:
            json_line(hit)
    elif hits:
        print_hits(hits, with_bucket=len(scope.buckets) > 1)
    else:
        _say_why(scope, settings, filters, option_of(data_dir))


def _mode(name: str) -> Mode:
    from worker.services.search import Mode

    try:
        return Mode(name.lower())
    except ValueError:
        raise typer.BadParameter(f"one of {', '.join(Mode)}", param_hint="--mode") from None


def parse_filters(
    key: str | None, kinds: list[str] | None, after: str | None, before: str | None, where: list[str] | None
) -> Filters:
    """The filters that the options say; an option that can't be read is wrong usage."""
    from worker.domain.filters import Filters

    since, until = _time(after, "--after"), _time(before, "--before")
    if since is not None and until is not None and since >= until:
        raise typer.BadParameter("--after must be earlier than --before", param_hint="--after")
    return Filters(
        key=key,
        media_types=tuple(_media_type(kind) for kind in kinds or ()),
        metadata=tuple(_fact(fact) for fact in where or ()),
        after=since,
        before=until,
    )


def _media_type(kind: str) -> str:
    from worker.extract.registry import FORMATS

    if "/" in kind:
        return kind.lower()
    names = {format.name: format.media_type for format in FORMATS}
    if kind.lower() not in names:
        raise typer.BadParameter(f"one of {', '.join(names)}, or a media type", param_hint="--type")
    return names[kind.lower()]


def _fact(fact: str) -> tuple[str, str]:
    from dataclasses import fields

    from worker.domain.text import Metadata

    name, equals, value = fact.partition("=")
    names = [field.name for field in fields(Metadata)]
    if not equals or not value or name not in names:
        raise typer.BadParameter(f"{fact!r} is not NAME=VALUE with a name of {', '.join(names)}", param_hint="--where")
    return name, value


def _time(value: str | None, option: str) -> datetime | None:
    """An ISO 8601 date (its beginning) or time; of UTC, unless it says otherwise."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise typer.BadParameter(f"{value!r} is no ISO date, such as 2026-03-01 or 2026-03-01T12:00", param_hint=option) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _say_why(scope: Scope, settings: Settings, filters: Filters, option: str) -> None:
    """What to do about an empty answer."""
    from worker.services.documents import statuses

    if filters.key is not None and not any(statuses(scope, settings, key=filters.key)):
        tell(f"no document has the key {visible_key(filters.key)}")
        raise typer.Exit(1)
    say(f"nothing found: `lex-ingest status{option}` shows what is in the index")


def print_hits(hits: list[Hit], with_bucket: bool = False) -> None:
    """Each hit in two or three lines: score, key and page, then the passage."""
    from rich.padding import Padding
    from rich.text import Text

    for rank, hit in enumerate(hits, 1):
        line = Text.assemble(f"{rank}. ", (f"{hit.score:.3f}", "bold"), f" {f'{hit.bucket}: ' if with_bucket else ''}")
        line.append(visible_key(hit.key))
        if hit.page is not None:
            line.append(f" page {hit.page}", "cyan")
        console.print(line, soft_wrap=True)
        passage = Text(f"{visible_text(' '.join(hit.snippet.split()))} …", "dim")
        console.print(Padding(passage, (0, 0, 0, 3), expand=False))


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command()(search)
