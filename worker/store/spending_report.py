"""The cost ledger, read: sums by prefix, document, day or model. Every line of it is in one of the lines that are given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Text,
    case,
    cast,
    func,
    literal,
    null,
    select,
    true,
)
from sqlalchemy.sql.elements import ColumnElement

from worker.domain.scope import Scope
from worker.domain.spending import Purpose, Spent
from worker.store.filling_models import DroppedProfile
from worker.store.models import Document, EmbeddingProfile
from worker.store.scoping import visible
from worker.store.spending_models import Spending


class By(StrEnum):
    """What a line is about."""

    PREFIX = "prefix"
    DOCUMENT = "document"
    DAY = "day"
    MODEL = "model"


# Lines that are about none of these: documents whose row is gone (so is their key), documents that the scope does not hold, texts
# that were embedded for no document, and what the limit left out.
GONE, ELSEWHERE, QUERIES, OTHERS = "gone", "elsewhere", "queries", "others"
_SUMS = ("inputs", "tokens", "micro_dollars", "unpriced_tokens")
_KINDS = (*By, OTHERS, ELSEWHERE, QUERIES, GONE)


@dataclass(frozen=True, slots=True)
class Line:
    """A sum. ``kind`` says of what; ``name`` is the prefix ("" for keys without a folder), the key, the day or the model."""

    kind: str
    bucket: str | None
    name: str | None
    lines: int
    spent: Spent


def lines(
    connection: Connection,
    scope: Scope,
    by: By,
    *,
    since: date | None = None,
    until: date | None = None,
    depth: int = 1,
    limit: int = 1000,
    only_scope: bool = False,
) -> list[Line]:
    """At most ``limit`` lines of what is asked for, most tokens first (days: newest first), and any of ``_KINDS`` that there are.

    Args:
        since, until: days in UTC, both included; None for no bound.
        depth: how many folders of the key make a prefix.
        only_scope: only what was spent for documents that the scope holds now.
    """
    bucket, name = _names(by, depth)
    of_documents = by in (By.PREFIX, By.DOCUMENT)
    kind: Any = literal(by.value)
    if of_documents:
        kind = case(
            (Spending.purpose.in_([Purpose.QUERY.value, Purpose.CHECK.value]), QUERIES),
            (Document.id.is_(None), GONE),
            (visible(scope), by.value),
            else_=ELSEWHERE,
        )
    found = (
        select(
            kind.label("kind"),
            case((kind == by.value, bucket), else_=null()).label("bucket"),
            case((kind == by.value, name), else_=null()).label("name"),
            Spending.inputs,
            Spending.tokens,
            Spending.micro_dollars,
            Spending.unpriced_tokens,
        )
        .select_from(Spending)
        .outerjoin(Document, Document.id == Spending.document_id)
        .outerjoin(EmbeddingProfile, EmbeddingProfile.id == Spending.profile_id)
        .outerjoin(DroppedProfile, DroppedProfile.profile_id == Spending.profile_id)
        .where(
            Spending.day >= since if since is not None else true(),
            Spending.day <= until if until is not None else true(),
            visible(scope) if only_scope else true(),
        )
        .subquery()
    )
    place = (found.c.kind, found.c.bucket, found.c.name)
    grouped = select(*place, *_sums(found.c)).group_by(*place).subquery()
    first: ColumnElement[Any] = grouped.c.name.desc() if by is By.DAY else grouped.c.tokens.desc()
    rank = func.row_number().over(partition_by=grouped.c.kind, order_by=(first, grouped.c.bucket, grouped.c.name))
    ranked = select(grouped, func.least(rank, limit + 1).label("rank")).subquery()
    kept = ranked.c.rank <= limit
    shown = select(
        case((kept, ranked.c.kind), else_=OTHERS).label("kind"),
        case((kept, ranked.c.bucket), else_=null()).label("bucket"),
        case((kept, ranked.c.name), else_=null()).label("name"),
        *(ranked.c[name] for name in ("rank", *_SUMS)),
    ).subquery()
    line = (shown.c.rank, shown.c.kind, shown.c.bucket, shown.c.name)
    rows = connection.execute(
        select(*line, cast(func.count(), Integer).label("lines"), *_sums(shown.c)).group_by(*line).order_by(shown.c.rank)
    ).all()
    sums = [
        Line(
            row.kind,
            row.bucket,
            row.name,
            row.lines,
            Spent(int(row.inputs), int(row.tokens), row.micro_dollars, int(row.unpriced_tokens)),
        )
        for row in rows
    ]
    return sorted(sums, key=lambda line: _KINDS.index(line.kind))


def _names(by: By, depth: int) -> tuple[Any, Any]:
    """The bucket and the name of a line, as columns."""
    match by:
        case By.PREFIX:
            folders = func.substring(Document.key, f"^(?:[^/]*/){{1,{depth:d}}}")
            return Document.bucket, func.coalesce(folders, "")
        case By.DOCUMENT:
            return Document.bucket, Document.key
        case By.DAY:
            return null(), cast(Spending.day, Text)
        case By.MODEL:

            def named(profile: type[EmbeddingProfile] | type[DroppedProfile], end: str) -> Any:
                return func.concat(profile.provider, " ", profile.model, " (", profile.dimensions, end)

            gone = func.concat("profile ", Spending.profile_id)
            return null(), case(
                (EmbeddingProfile.id.is_not(None), named(EmbeddingProfile, ")")),
                (DroppedProfile.profile_id.is_not(None), named(DroppedProfile, ", dropped)")),
                else_=gone,
            )


def _sums(columns: Any) -> tuple[Any, ...]:
    return tuple(func.sum(columns[name]).label(name) for name in _SUMS)
