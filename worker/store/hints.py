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

A hint is dropped only where the bucket is read later anyway, or was last read with that very ETag. Recognising a
duplicate by its sequencer would not do: an emulator sends the same one with every event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from worker.contract import Stage, WakeUp
from worker.domain.changes import ObjectChange
from worker.domain.document import TERMINAL, Status, check_transition

# The statement below makes a terminal row PENDING again; this fails at import should the table of moves forbid that.
for _status in (*TERMINAL, Status.EXTRACTED):
    check_transition(_status, Status.PENDING)

# Rows that this hint makes PENDING: those nobody works on, and, for a removal, those that wait to be embedded.
_STARTS = "(row.status = ANY (%(startable)s) OR (row.status = %(extracted)s AND excluded.hint_removed))"

_RECORD = f"""
    INSERT INTO documents AS row
        (bucket, key, status, desired_generation, generation, queued, due_at, hint_etag, hint_sequencer, hint_removed)
    SELECT hint.bucket, hint.key, %(pending)s, 1, 0, true, now() + make_interval(secs => %(requeue_after)s),
           hint.etag, hint.sequencer, hint.removed
    FROM unnest(%(buckets)s::text[], %(keys)s::text[], %(removed)s::boolean[], %(etags)s::text[], %(sequencers)s::text[])
         AS hint (bucket, key, removed, etag, sequencer)
    WHERE NOT hint.removed
       OR EXISTS (SELECT FROM documents known WHERE known.bucket = hint.bucket AND known.key = hint.key)
    -- Every batch locks its rows in the same order, so that two batches can't wait for each other.
    ORDER BY hint.bucket COLLATE "C", hint.key COLLATE "C"
    ON CONFLICT (bucket, key) DO UPDATE SET
        -- Of several differing hints without an order, none is known to be the last: what the holder reads then satisfies
        -- none of them (worker.store.leases.hand_on).
        hint_etag = CASE
            WHEN row.desired_generation > row.generation AND row.status <> %(pending)s
                 AND coalesce(excluded.hint_sequencer = row.hint_sequencer, true)
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
    WHERE NOT coalesce(
            -- Sequencers of one key compare as hexadecimal text, the shorter one padded with zeros (Amazon S3 User Guide,
            -- "Event message structure").
            rpad(excluded.hint_sequencer, greatest(length(excluded.hint_sequencer), length(row.hint_sequencer)), '0')
                COLLATE "C"
            < rpad(row.hint_sequencer, greatest(length(excluded.hint_sequencer), length(row.hint_sequencer)), '0')
                COLLATE "C",
            false)
      AND NOT coalesce(
            NOT excluded.hint_removed AND NOT row.hint_removed
            AND coalesce(excluded.hint_sequencer, row.hint_sequencer) IS NOT DISTINCT FROM row.hint_sequencer
            AND ((row.status = %(pending)s AND excluded.hint_etag = row.hint_etag)
                 OR (row.status = ANY (%(read)s) AND row.generation = row.desired_generation
                     AND excluded.hint_etag = row.etag)),
            false)
    RETURNING bucket, key, id, desired_generation, status
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


def record(connection: Connection[Any], changes: Sequence[ObjectChange], requeue_after: float) -> list[RecordedHint]:
    """Record the changes, at most one for each (bucket, key), in one statement and one round trip.

    ``requeue_after`` is in seconds: after them the dispatcher sends a wake-up that was lost again. A change that brought
    nothing new has no entry in the answer.

    Raises:
        psycopg.DataError, UnicodeEncodeError: PostgreSQL can't hold a value of one of the changes; none is recorded.
        psycopg.OperationalError: the database is away, or did not answer in time.
    """
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
        },
    ).fetchall()
    return [
        RecordedHint(bucket, key, str(identity), generation, wake=status == Status.PENDING)
        for bucket, key, identity, generation, status in rows
    ]
