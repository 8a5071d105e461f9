"""Write down what events said: one statement for a batch. Plain psycopg, because a Lambda function's start pays for imports.

What a hint does to the row of its key:

==============================================  ==================================================================
no row, created                                 a PENDING row that wants generation 1
no row, removed                                 nothing
older than the hint that is stored              nothing
created, and its ETag was read, or will be      nothing
row waits in PENDING, or is terminal            PENDING with fresh attempts, and a wake-up
removed, and the row waits to be embedded       the same: nothing more is paid for an object that may be gone
row is worked on, or waits to be embedded       noted only: its holder finishes, then the row is due again
==============================================  ==================================================================

Whatever is not "nothing" asks for one more generation, unless one is wanted already that nobody has taken on.

Each event is kept in the ledger (``events``) by the same statement, with what became of it: ``recorded``; ``nothing_new``;
``stale``, an older sequencer than the one known; ``unknown_key``, a removal of what is not known; or what its reader said
(``ignored``, ``bucket_not_allowed``, ``malformed``).

A hint is dropped only where the bucket is read later anyway, or was last read with that very ETag. Recognising a
duplicate by its sequencer would not do: an emulator sends the same one with every event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from worker.contract import Stage, WakeUp
from worker.domain.changes import ReceivedEvent, fold
from worker.domain.document import TERMINAL, Status, check_transition

# The statement below makes a terminal row PENDING again; this fails at import should the table of moves forbid that.
for _status in (*TERMINAL, Status.EXTRACTED):
    check_transition(_status, Status.PENDING)

# Rows that this hint makes PENDING: those nobody works on, and, for a removal, those that wait to be embedded.
_STARTS = "(row.status = ANY (%(startable)s) OR (row.status = %(extracted)s AND excluded.hint_removed))"

# Sequencers of one key compare as hexadecimal text, the shorter one padded with zeros (Amazon S3 User Guide, "Event message
# structure").
_OLDER = """
    coalesce(rpad({one}, greatest(length({one}), length({other})), '0') COLLATE "C"
             < rpad({other}, greatest(length({one}), length({other})), '0') COLLATE "C", false)
"""

_RECORD = f"""
WITH hint AS (
    SELECT * FROM unnest(%(buckets)s::text[], %(keys)s::text[], %(removed)s::boolean[], %(etags)s::text[],
                         %(sequencers)s::text[])
         AS hint (bucket, key, removed, etag, sequencer)
), before AS MATERIALIZED (
    SELECT known.bucket, known.key, known.id, known.hint_sequencer
    FROM documents known JOIN hint ON known.bucket = hint.bucket AND known.key = hint.key
), taken AS (
    INSERT INTO documents AS row
        (bucket, key, status, desired_generation, generation, queued, due_at, hint_etag, hint_sequencer, hint_removed)
    SELECT hint.bucket, hint.key, %(pending)s, 1, 0, true, now() + make_interval(secs => %(requeue_after)s),
           hint.etag, hint.sequencer, hint.removed
    FROM hint
    WHERE NOT hint.removed
       OR EXISTS (SELECT FROM documents known WHERE known.bucket = hint.bucket AND known.key = hint.key)
    -- Every batch locks its rows in the same order, so that two batches can't wait for each other.
    ORDER BY hint.bucket COLLATE "C", hint.key COLLATE "C"
    ON CONFLICT (bucket, key) DO UPDATE SET
        -- Of several differing hints that wait, what the holder reads satisfies none (worker.store.leases.hand_on): a sequencer
        -- orders only those events that have one, and a removal without may be the newest.
        hint_etag = CASE
            WHEN row.desired_generation > row.generation AND row.status <> %(pending)s
                 AND (excluded.hint_etag, excluded.hint_removed) IS DISTINCT FROM (row.hint_etag, row.hint_removed)
            THEN NULL ELSE excluded.hint_etag END,
        hint_sequencer = coalesce(excluded.hint_sequencer, row.hint_sequencer),
        hint_removed = excluded.hint_removed,
        desired_generation = row.desired_generation + (row.generation = row.desired_generation)::int,
        status = CASE WHEN {_STARTS} THEN %(pending)s ELSE row.status END,
        queued = row.queued OR {_STARTS},
        due_at = CASE WHEN {_STARTS} THEN least(row.due_at, excluded.due_at) ELSE row.due_at END,
        attempts = CASE WHEN {_STARTS} THEN 0 ELSE row.attempts END,
        lease_losses = CASE WHEN {_STARTS} THEN 0 ELSE row.lease_losses END,
        error_code = CASE WHEN {_STARTS} THEN NULL ELSE row.error_code END,
        error = CASE WHEN {_STARTS} THEN NULL ELSE row.error END,
        updated_at = now()
    WHERE NOT {_OLDER.format(one="excluded.hint_sequencer", other="row.hint_sequencer")}
      AND NOT coalesce(
            NOT excluded.hint_removed AND NOT row.hint_removed
            AND coalesce(excluded.hint_sequencer, row.hint_sequencer) IS NOT DISTINCT FROM row.hint_sequencer
            AND ((row.status = %(pending)s AND excluded.hint_etag = row.hint_etag)
                 OR (row.status = ANY (%(read)s) AND row.generation = row.desired_generation
                     AND excluded.hint_etag = row.etag)),
            false)
    RETURNING bucket, key, id, desired_generation, status
), ledger AS (
    INSERT INTO events (bucket, key, kind, raw, message_id, outcome, document_id, generation)
    SELECT event.bucket, event.key, event.kind, event.raw::json, event.message_id,
           CASE WHEN event.outcome IS NOT NULL THEN event.outcome
                WHEN taken.id IS NOT NULL THEN 'recorded'
                WHEN before.id IS NULL THEN 'unknown_key'
                WHEN {_OLDER.format(one="event.sequencer", other="before.hint_sequencer")} THEN 'stale'
                ELSE 'nothing_new' END,
           coalesce(taken.id, before.id), taken.desired_generation
    FROM unnest(%(event_buckets)s::text[], %(event_keys)s::text[], %(event_sequencers)s::text[], %(kinds)s::text[],
                %(raws)s::text[], %(message_ids)s::text[], %(outcomes)s::text[])
         WITH ORDINALITY AS event (bucket, key, sequencer, kind, raw, message_id, outcome, number)
    LEFT JOIN taken ON event.outcome IS NULL AND taken.bucket = event.bucket AND taken.key = event.key
    LEFT JOIN before ON event.outcome IS NULL AND before.bucket = event.bucket AND before.key = event.key
    ORDER BY event.number
)
SELECT bucket, key, id, desired_generation, status FROM taken
"""

_STARTABLE = sorted(TERMINAL | {Status.PENDING})
# Statuses in which ``etag`` is surely that of the generation at hand: the stage that read the object has stored its text.
_READ = sorted({Status.EXTRACTED, Status.EMBEDDING, Status.INDEXED})


@dataclass(frozen=True, slots=True)
class RecordedHint:
    """A row that took the hint. ``generation`` is the one now wanted; ``wake`` is False where a holder is at work."""

    bucket: str
    key: str
    document_id: str
    generation: int
    wake: bool

    @property
    def wake_up(self) -> WakeUp | None:
        return WakeUp(self.document_id, self.generation, Stage.PROCESS) if self.wake else None


def record(connection: Connection[Any], events: Sequence[ReceivedEvent], requeue_after: float) -> list[RecordedHint]:
    """Keep the events in the ledger and take their hints, one for each (bucket, key): one statement, one round trip.

    An event with an outcome of its own, or without a change, is kept only. ``requeue_after`` is in seconds: after them the
    dispatcher sends a wake-up that was lost again. A change that brought nothing new has no entry in the answer.

    Raises:
        psycopg.DataError, UnicodeEncodeError: PostgreSQL can't hold a value of one of the changes; none is recorded.
        psycopg.OperationalError: the database is away, or did not answer in time.
    """
    changes = fold(event.change for event in events if event.change is not None and event.outcome is None)
    rows = connection.execute(
        _RECORD,
        {
            "pending": Status.PENDING.value,
            "extracted": Status.EXTRACTED.value,
            "startable": [status.value for status in _STARTABLE],
            "read": [status.value for status in _READ],
            "requeue_after": requeue_after,
            "buckets": [change.bucket for change in changes],
            "keys": [change.key for change in changes],
            "removed": [change.removed for change in changes],
            "etags": [change.etag for change in changes],
            "sequencers": [change.sequencer for change in changes],
            "event_buckets": [event.change and event.change.bucket for event in events],
            "event_keys": [event.change and event.change.key for event in events],
            "event_sequencers": [event.change and event.change.sequencer for event in events],
            "kinds": [event.kind for event in events],
            "raws": [event.raw for event in events],
            "message_ids": [event.message_id for event in events],
            "outcomes": [event.outcome for event in events],
        },
    ).fetchall()
    return [
        RecordedHint(bucket, key, str(identity), generation, wake=status == Status.PENDING)
        for bucket, key, identity, generation, status in rows
    ]
