"""What is kept, and for how long: the SQL of every pruning rule. Plain psycopg, because a Lambda function runs it too.

======================================  =============================================================================
what                                    goes
======================================  =============================================================================
text, chunks                            in the transaction that marks the document DELETED, or that swaps generations
vector of a text                        ``erase_after`` seconds after the last chunk with that text went, through which alone
                                        a search reaches it: until then the text costs nothing if it comes back (a rename)
row of a DELETED document               ``erase_after`` seconds after it was marked
its keys and events in the ledger       in the same transaction: kind, time and outcome stay
event that was about no document        its key and text ``erase_after`` seconds after it came
ledger                                  ``ledger_days`` days after the event came
request that was never answered         after two days it is a figure of its day (``spending_days.unanswered_*``)
what was spent for an erased document   kept: it is added to the day's line of documents that are gone, with the erasure
other sums of the cost ledger           stay: a row for each document and day that something was embedded, about 170 bytes
======================================  =============================================================================

Every statement here is short and limited; the caller repeats it while it finds something.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection, sql

from worker.domain.document import Status
from worker.store.driver import VECTORS_LOCK

_DAYS_AHEAD = 7
# Seconds to wait for a lock that stops the handler's inserts: rather later than now.
_LOCK_TIMEOUT = "1s"

_CLAIM = """
INSERT INTO chores (name, due_at) VALUES (%(name)s, now() + make_interval(secs => %(every)s))
ON CONFLICT (name) DO UPDATE SET due_at = excluded.due_at WHERE chores.due_at <= now()
RETURNING name
"""

_FORGET = """
UPDATE events SET bucket = NULL, key = NULL, raw = NULL
FROM unnest(%(buckets)s::text[], %(keys)s::text[]) AS gone (bucket, key)
WHERE events.bucket = gone.bucket AND events.key = gone.key
"""

_TOMBSTONES = f"""
DELETE FROM documents WHERE id IN (
    SELECT id FROM documents WHERE status = '{Status.DELETED}' AND updated_at < now() - make_interval(secs => %(after)s)
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING bucket, key, id
"""

_OF_NO_DOCUMENT = """
WITH old AS (
    SELECT received_at, id FROM events
    WHERE document_id IS NULL AND raw IS NOT NULL AND received_at < now() - make_interval(secs => %(after)s)
    ORDER BY received_at LIMIT %(limit)s
)
UPDATE events SET bucket = NULL, key = NULL, raw = NULL FROM old
WHERE events.received_at = old.received_at AND events.id = old.id
"""

_RELEASED = """
WITH taken AS (
    DELETE FROM released_texts WHERE text_sha256 IN (
        SELECT text_sha256 FROM released_texts WHERE released_at <= now() - make_interval(secs => %(after)s)
        ORDER BY released_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    RETURNING text_sha256
)
SELECT text_sha256, NOT EXISTS (SELECT FROM document_chunks kept WHERE kept.text_sha256 = taken.text_sha256) FROM taken
"""
# A transaction that relies on vectors takes milliseconds; behind a waiter, every document that is about to end would wait too.
_LOCK_TRIES, _LOCK_PAUSE = 40, 0.025

# No answer comes that late (``LEX_INGEST_EMBEDDING_TIMEOUT``); one that did would not be counted twice, but stay unconfirmed.
_ANNOUNCEMENTS = """
WITH old AS (
    DELETE FROM embedding_requests WHERE id IN (
        SELECT id FROM embedding_requests WHERE sent_at < now() - interval '2 days'
        ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    RETURNING day, profile_id, inputs, most_tokens
), days AS (
    INSERT INTO spending_days (day, profile_id, unanswered_requests, unanswered_inputs, unanswered_most_tokens)
    SELECT day, profile_id, count(*), sum(inputs), sum(most_tokens) FROM old GROUP BY day, profile_id ORDER BY day, profile_id
    ON CONFLICT (day, profile_id) DO UPDATE SET
        unanswered_requests = spending_days.unanswered_requests + excluded.unanswered_requests,
        unanswered_inputs = spending_days.unanswered_inputs + excluded.unanswered_inputs,
        unanswered_most_tokens = spending_days.unanswered_most_tokens + excluded.unanswered_most_tokens
)
SELECT count(*) FROM old
"""

# Locked in the order of whoever confirms (worker.store.spending). The last UUID stands for no document: spending_models.NOBODY.
_SPENT = """
WITH held AS (
    SELECT document_id, day, profile_id, purpose FROM spending WHERE document_id = ANY (%(ids)s::uuid[])
    ORDER BY document_id, day, profile_id, purpose FOR UPDATE
), gone AS (
    DELETE FROM spending USING held
    WHERE spending.document_id = held.document_id AND spending.day = held.day
      AND spending.profile_id = held.profile_id AND spending.purpose = held.purpose
    RETURNING spending.*
)
INSERT INTO spending (document_id, day, profile_id, purpose, inputs, tokens, micro_dollars, unpriced_tokens)
SELECT 'ffffffff-ffff-ffff-ffff-ffffffffffff', day, profile_id, purpose,
       sum(inputs), sum(tokens), sum(micro_dollars), sum(unpriced_tokens)
FROM gone GROUP BY day, profile_id, purpose ORDER BY day, profile_id, purpose
ON CONFLICT (document_id, day, profile_id, purpose) DO UPDATE SET
    inputs = spending.inputs + excluded.inputs,
    tokens = spending.tokens + excluded.tokens,
    micro_dollars = coalesce(spending.micro_dollars + excluded.micro_dollars, spending.micro_dollars, excluded.micro_dollars),
    unpriced_tokens = spending.unpriced_tokens + excluded.unpriced_tokens
"""

_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'events'::regclass AND c.relname <> 'events_default'
"""


def claim_chore(connection: Connection[Any], name: str, every: float) -> bool:
    """True for one process in ``every`` seconds, however many ask."""
    return connection.execute(_CLAIM, {"name": name, "every": every}).fetchone() is not None


def erase_tombstones(connection: Connection[Any], after: float, limit: int) -> int:
    """Remove rows of documents that were DELETED ``after`` seconds ago, and their keys from the ledger. Returns how many."""
    rows = connection.execute(_TOMBSTONES, {"after": after, "limit": limit}).fetchall()
    forget_keys(connection, [row[:2] for row in rows])
    _keep_sums(connection, [row[2] for row in rows])
    return len(rows)


def forget_keys(connection: Connection[Any], places: Sequence[Sequence[str]]) -> int:
    """Erase key and text of every event about these (bucket, key)s. Returns how many events."""
    if not places:
        return 0
    return connection.execute(_FORGET, {"buckets": [row[0] for row in places], "keys": [row[1] for row in places]}).rowcount


def erase_events_of_no_document(connection: Connection[Any], after: float, limit: int) -> int:
    """Erase key and text of events that no document took, ``after`` seconds after they came. Returns how many."""
    return connection.execute(_OF_NO_DOCUMENT, {"after": after, "limit": limit}).rowcount


def erase_vectors(connection: Connection[Any], after: float, limit: int) -> int | None:
    """Forget the vectors of texts that stand nowhere, ``after`` seconds after they left, in every profile. Returns how many
    texts were looked at; None where others rely on vectors all the time, and nothing was done."""
    for _ in range(_LOCK_TRIES):
        row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (VECTORS_LOCK,)).fetchone()
        if row and row[0]:
            break
        time.sleep(_LOCK_PAUSE)
    else:
        return None
    rows = connection.execute(_RELEASED, {"after": after, "limit": limit}).fetchall()
    gone = [digest for digest, nowhere in rows if nowhere]
    if gone:
        for (profile,) in connection.execute("SELECT id FROM embedding_profiles").fetchall():
            table = sql.Identifier(f"embeddings_{profile}")
            connection.execute(sql.SQL("DELETE FROM {} WHERE text_sha256 = ANY(%s)").format(table), (gone,))
        connection.execute("DELETE FROM refused_texts WHERE text_sha256 = ANY(%s)", (gone,))
    return len(rows)


def remove_document(connection: Connection[Any], bucket: str, key: str) -> UUID | None:
    """Remove the row of this key with its text, chunks and vectors, whoever holds it: a holder can't write any more."""
    row = connection.execute("DELETE FROM documents WHERE bucket = %s AND key = %s RETURNING id", (bucket, key)).fetchone()
    if row is None:
        return None
    _keep_sums(connection, [row[0]])
    return row[0]  # type: ignore[no-any-return]  # a row of psycopg's has no types


def _keep_sums(connection: Connection[Any], ids: Sequence[UUID]) -> None:
    """What was spent for these documents stands among what was spent for documents that are gone, without their ids."""
    if ids:
        connection.execute(_SPENT, {"ids": list(ids)})


def give_up_announcements(connection: Connection[Any], limit: int) -> int:
    """Make old requests that were never answered a figure of their day: they stay unconfirmed. Returns how many."""
    row = connection.execute(_ANNOUNCEMENTS, {"limit": limit}).fetchone()
    return int(row[0]) if row else 0


def keep_partitions(connection: Connection[Any], today: date, days: int) -> tuple[int, int]:
    """Make the ledger's partitions of the next days, and drop those that are older than ``days``.

    Days are UTC. A day that the default partition already has events of gets none: they are deleted by their age there.
    Returns how many partitions were made and dropped.
    """
    connection.execute("SET LOCAL TIME ZONE 'UTC'")
    connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    have = {row[0] for row in connection.execute(_PARTITIONS)}
    oldest = today - timedelta(days=days)
    made = 0
    for number in range(_DAYS_AHEAD + 1):
        day = today + timedelta(days=number)
        name = f"events_{day:%Y%m%d}"
        bounds = (day, day + timedelta(days=1))
        if (
            name in have
            or connection.execute(
                "SELECT 1 FROM events_default WHERE received_at >= %s AND received_at < %s LIMIT 1", bounds
            ).fetchone()
        ):
            continue
        table, limits = sql.Identifier(name), [sql.Literal(bound.isoformat()) for bound in bounds]
        # Attached, because CREATE TABLE … PARTITION OF would lock the ledger against the handler's inserts.
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE events INCLUDING DEFAULTS INCLUDING STORAGE)").format(table))
        connection.execute(sql.SQL("ALTER TABLE events ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(table, *limits))
        made += 1
    old = sorted(name for name in have if name < f"events_{oldest:%Y%m%d}")
    for name in old:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
    connection.execute("DELETE FROM events_default WHERE received_at < %s", (oldest,))
    return made, len(old)
