"""What a profile lacks of what is served, and how far its filling is.

Documents are looked through in the order in which they were served, and ``filled_until`` follows; so what came since is found
by an index, and a filler that was killed goes on where the last one was. A page is a few hundred documents, a row each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from worker.store.profiles import Profile

# A document's version carries the time at which its transaction began. Of those that are still open the oldest is known, and
# what roles other than ours do is given this many seconds.
_OVERLAP = 30.0
_HORIZON = text("""
SELECT least(now() - make_interval(secs => :overlap),
             (SELECT min(xact_start) FROM pg_stat_activity
              WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()))
""")

_STATE = text("""
SELECT profile.kept_filled AND NOT profile.serving, filled_until, filled_at, code, reason, budget, tokens_before,
       CASE WHEN rest_until > now() THEN rest_until END
FROM embedding_profiles profile LEFT JOIN embedding_fillings filling ON filling.profile_id = profile.id
WHERE profile.id = :id
""")

_SET = """
INSERT INTO embedding_fillings (profile_id, {columns}) VALUES (:id, {values})
ON CONFLICT (profile_id) DO UPDATE SET ({columns}) = ROW ({excluded})
"""

# What the provider counted for the profile, and what it may have counted besides. While a profile is filled nothing else but
# checks is asked of it, so the days' rows tell of the filling.
_TOKENS = text("""
SELECT (coalesce((SELECT sum(tokens + unanswered_most_tokens) FROM spending_days WHERE profile_id = :id), 0)
        + coalesce((SELECT sum(most_tokens) FROM embedding_requests WHERE profile_id = :id), 0))::bigint
""")

_SERVED = "coalesce(d.indexed_at, d.created_at)"
_REFUSED = "EXISTS (SELECT FROM refused_texts r WHERE r.profile_id = :id AND r.text_sha256 = c.text_sha256)"


def _lacks(profile: Profile) -> str:
    return f"NOT EXISTS (SELECT FROM {profile.table} e WHERE e.text_sha256 = c.text_sha256) AND NOT {_REFUSED}"


@dataclass(frozen=True, slots=True)
class State:
    """``wanted``: it is kept filled and does not serve. ``rest_until`` is None where the filling does not rest."""

    wanted: bool
    filled_until: datetime | None
    filled_at: datetime | None
    code: str | None
    reason: str | None
    budget: str | None
    tokens_before: int | None
    rest_until: datetime | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that is served since ``since``. ``lacks``: one of its chunks has no vector and is not refused."""

    document_id: UUID
    generation: int
    since: datetime
    lacks: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """Chunks that are served; of them, those that have a vector of the profile, and those whose text is refused."""

    chunks: int
    with_vector: int
    refused: int

    @property
    def lacking(self) -> int:
        return self.chunks - self.with_vector - self.refused


def state(connection: Connection, profile_id: int) -> State | None:
    """How its filling stands; None where the profile is gone."""
    row = connection.execute(_STATE, {"id": profile_id}).one_or_none()
    return None if row is None else State(*row)


def begin(connection: Connection, profile_id: int, budget: str | None) -> None:
    """Keep the profile filled from now on, looking through everything; what was refused is asked again."""
    connection.execute(text("UPDATE embedding_profiles SET kept_filled = true WHERE id = :id"), {"id": profile_id})
    connection.execute(text("DELETE FROM refused_texts WHERE profile_id = :id"), {"id": profile_id})
    _set(
        connection, profile_id, filled_until=None, filled_at=None, rest_until=None, code=None, reason=None,
        budget=budget, tokens_before=tokens(connection, profile_id),
    )  # fmt: skip


def look_again(connection: Connection, profile_id: int) -> None:
    """Let the next filling look through everything that is served."""
    _set(connection, profile_id, filled_until=None, filled_at=None)


def refused(connection: Connection, profile_id: int) -> int:
    """How many texts its provider refuses."""
    statement = text("SELECT count(*) FROM refused_texts WHERE profile_id = :id")
    return int(connection.execute(statement, {"id": profile_id}).scalar_one())


def inputs(connection: Connection, profile_id: int) -> int:
    """How many texts the provider has answered for, ever."""
    statement = text("SELECT coalesce(sum(inputs), 0)::bigint FROM spending_days WHERE profile_id = :id")
    return int(connection.execute(statement, {"id": profile_id}).scalar_one())


def stop(connection: Connection, profile_id: int) -> bool:
    """Fill it no longer; its vectors stay. False where it was not filled."""
    _set(connection, profile_id, rest_until=None, code=None, reason=None, budget=None)
    statement = text("UPDATE embedding_profiles SET kept_filled = false WHERE id = :id AND kept_filled")
    return connection.execute(statement, {"id": profile_id}).rowcount > 0


def horizon(connection: Connection) -> datetime:
    """Whatever is served since before this moment can be seen by any statement that begins later."""
    moment: datetime = connection.execute(_HORIZON, {"overlap": _OVERLAP}).scalar_one()
    return moment


def candidates(
    connection: Connection, profile: Profile, since: datetime | None, behind: UUID | None, limit: int
) -> list[Candidate]:
    """The next served documents: those behind the document ``behind``, or, where that is None, since after ``since``."""
    place = "" if since is None else f"AND {_SERVED} > :since" if behind is None else f"AND ({_SERVED}, d.id) > (:since, :behind)"
    rows = connection.execute(
        text(f"""
        WITH page AS (
            SELECT d.id, d.active_generation AS generation, {_SERVED} AS since FROM documents d
            WHERE d.active_generation IS NOT NULL {place} ORDER BY {_SERVED}, d.id LIMIT :limit
        )
        SELECT id, generation, since, EXISTS (
            SELECT FROM document_chunks c
            WHERE c.document_id = page.id AND c.generation = page.generation AND {_lacks(profile)}
        ) FROM page ORDER BY since, id
        """),
        {"id": profile.id, "since": since, "behind": behind, "limit": limit},
    )
    return [Candidate(*row) for row in rows]


def whole_since(connection: Connection, profile: Profile, since: datetime | None) -> bool:
    """Whether nothing that is served since then (None: ever) lacks a vector, but for what is refused."""
    return lacking_since(connection, profile, since, 1) == 0


def lacking_since(connection: Connection, profile: Profile, since: datetime | None, most: int) -> int:
    """How many chunks that are served since then (None: ever) lack a vector and are not refused, counted up to ``most``."""
    place = "" if since is None else f"AND {_SERVED} > :since"
    statement = f"""
        SELECT count(*) FROM (
            SELECT FROM documents d JOIN document_chunks c ON c.document_id = d.id AND c.generation = d.active_generation
            WHERE d.active_generation IS NOT NULL {place} AND {_lacks(profile)} LIMIT :most
        ) AS lacking"""
    return int(connection.execute(text(statement), {"id": profile.id, "since": since, "most": most}).scalar_one())


def coverage(connection: Connection, profile: Profile) -> Coverage:
    """Counted over everything that is served: about a second for a million chunks."""
    statement = f"""
        SELECT count(*), count(e.text_sha256), count(*) FILTER (WHERE e.text_sha256 IS NULL AND {_REFUSED})
        FROM documents d JOIN document_chunks c ON c.document_id = d.id AND c.generation = d.active_generation
        LEFT JOIN {profile.table} e ON e.text_sha256 = c.text_sha256
        WHERE d.active_generation IS NOT NULL"""
    return Coverage(*connection.execute(text(statement), {"id": profile.id}).one())


def lacking_texts(connection: Connection, profile: Profile) -> tuple[int, int]:
    """(different texts that have no vector, their UTF-8 bytes). What was refused counts: the next filling asks again."""
    statement = f"""
        SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM (
            SELECT c.text_sha256, min(octet_length(c.text)) AS bytes
            FROM documents d JOIN document_chunks c ON c.document_id = d.id AND c.generation = d.active_generation
            WHERE d.active_generation IS NOT NULL
              AND NOT EXISTS (SELECT FROM {profile.table} e WHERE e.text_sha256 = c.text_sha256)
            GROUP BY c.text_sha256
        ) AS texts"""
    number, size = connection.execute(text(statement)).one()
    return number, size


def advance(connection: Connection, profile_id: int, until: datetime | None, whole: bool) -> None:
    """Everything that is served until then is filled; ``whole``: and whatever else there is."""
    values: dict[str, Any] = {} if until is None else {"filled_until": until}
    if whole:
        values |= {"filled_at": "now"}
    if values:
        _set(connection, profile_id, **values)


def rest(connection: Connection, profile_id: int, seconds: float, code: str | None, reason: str | None) -> None:
    """Let nobody fill it for ``seconds``. Without a ``code`` it goes on: whatever was the matter is over."""
    values = {"id": profile_id, "seconds": seconds}
    _set(connection, profile_id, code=code, reason=reason)
    statement = "UPDATE embedding_fillings SET rest_until = now() + make_interval(secs => :seconds) WHERE profile_id = :id"
    connection.execute(text(statement), values)


def refuse(connection: Connection, profile_id: int, digests: Sequence[bytes]) -> None:
    """These texts are not asked for again, as long as they stand. Nothing is kept of texts that are gone by now."""
    connection.execute(
        text(
            "INSERT INTO refused_texts (profile_id, text_sha256) "
            "SELECT :id, digest FROM unnest(CAST(:digests AS bytea[])) digest "
            "WHERE EXISTS (SELECT FROM document_chunks c WHERE c.text_sha256 = digest) ON CONFLICT DO NOTHING"
        ),
        {"id": profile_id, "digests": list(digests)},
    )


def tokens(connection: Connection, profile_id: int) -> int:
    """All that the profile has cost: confirmed, and at most what is not confirmed. A run's are those since ``tokens_before``."""
    return int(connection.execute(_TOKENS, {"id": profile_id}).scalar_one())


def _set(connection: Connection, profile_id: int, **values: Any) -> None:
    columns = ", ".join(values)
    excluded = ", ".join(f"excluded.{name}" for name in values)
    given = ", ".join(f"CAST(:{name} AS timestamptz)" if name.endswith(("_until", "_at")) else f":{name}" for name in values)
    connection.execute(text(_SET.format(columns=columns, values=given, excluded=excluded)), {"id": profile_id, **values})
