"""What a process asks of the embedding provider: one batcher a profile, whose requests are stored as they are answered."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID

import numpy as np
import psycopg
from sqlalchemy.exc import DBAPIError

from worker import telemetry
from worker.domain.errors import TextFailed, Unavailable
from worker.domain.spending import Purpose
from worker.domain.vectors import Vectors
from worker.embed.batcher import Again, Batcher, Entry
from worker.embed.decoding import VectorsMissing
from worker.embed.long_inputs import Outcome, embed_all
from worker.embed.openai import TimedOut
from worker.embed.rate_limit import Reservation
from worker.services.asking import Asking, Bill
from worker.settings import Settings
from worker.store import vectors
from worker.store.profiles import Profile
from worker.store.session import is_away, transaction

log = telemetry.get_logger(__name__)

# Seconds that vectors which are paid for wait for PostgreSQL to come back.
_STORE_PATIENCE = 60.0
# Failed requests with one text alone, after which that text counts as the cause. Each of them may be billed.
_STRIKES = 2

_batchers: dict[tuple[int, int, Purpose, Settings], Batcher[Reservation]] = {}
_making = threading.Lock()


def batcher(profile: Profile, settings: Settings, purpose: Purpose = Purpose.DOCUMENT) -> Batcher[Reservation]:
    """This process' batcher of the profile, whose owners are documents that pay for ``purpose``. A forked child gets its own:
    threads are not forked."""
    key = (os.getpid(), profile.id, purpose, settings)
    # Documents and queries go before a backfill, which has the same machine, database and account.
    in_flight = settings.embedding_in_flight if purpose is Purpose.DOCUMENT else max(1, settings.embedding_in_flight // 3)
    with _making:
        if key not in _batchers:
            asking = Asking(profile, settings)
            _batchers[key] = Batcher(
                asking.admit,
                partial(_request, asking, purpose),
                asking.sizer.limits,
                in_flight,
            )
        return _batchers[key]


def _request(asking: Asking, purpose: Purpose, batch: Sequence[Entry], permit: Reservation) -> Mapping[bytes, Exception | Again]:
    """Ask for the batch, and store what comes. Returns by digest what is wrong with a text, or ``Again``."""
    owners = [entry.owner if isinstance(entry.owner, UUID) else None for entry in batch]
    suspect = any(entry.most_beside is not None for entry in batch)
    bill = Bill(asking, owners, purpose, permit, suspect)
    begun = time.monotonic()
    try:
        outcome = embed_all([entry.text for entry in batch], bill.ask, asking.settings.embedding_max_tokens, asking.sizer)
    except Exception:
        # Some of its requests may have been answered, and are paid for.
        _store(asking, {}, bill)
        raise
    _store(asking, {batch[number].digest: vector for number, vector in outcome.vectors.items()}, bill)
    results: dict[int, Exception | Again] = {**outcome.refusals}
    for number, fault in outcome.unusable.items():
        results[number] = _unusable(batch[number], fault)
    if outcome.failure is not None:
        results |= _failed(asking, batch, outcome, outcome.failure, begun)
    return {batch[number].digest: result for number, result in results.items()}


def _unusable(entry: Entry, fault: str) -> Exception | Again:
    entry.strikes += 1
    if entry.strikes < _STRIKES:
        return Again(entry.most_beside)
    return TextFailed("embedding_unusable", f"the provider's vector for a text of this document can't be used: {fault}")


def _failed(
    asking: Asking, batch: Sequence[Entry], outcome: Outcome, error: Exception, begun: float
) -> dict[int, Exception | Again]:
    """Decide about the texts of a failed request, and about those that were not sent because of it.

    Requests that fail are halved, which isolates a text that causes the failure. The failure counts as that text's own only if
    the text fails alone, repeatedly, while the provider answers for another one; else all texts get the error, as in an outage.
    """
    unasked: dict[int, Exception | Again] = {number: Again(batch[number].most_beside) for number in outcome.unasked}
    if isinstance(error, TextFailed) and not isinstance(error, VectorsMissing):
        return dict.fromkeys(outcome.failed, error) | unasked
    for_all: dict[int, Exception | Again] = dict.fromkeys([*outcome.failed, *outcome.unasked], error)
    many = len(outcome.failed) > 1
    if isinstance(error, TimedOut):
        away = asking.sizer.timed_out(len(outcome.failed))
        if many and away:
            return for_all
        found_out = many
    elif isinstance(error, VectorsMissing):
        found_out = True
    elif isinstance(error, Unavailable) and error.code == "provider_unavailable":
        found_out = many and asking.sizer.answered_since(begun)
    else:
        return for_all
    if not found_out and not asking.is_answering():
        return for_all
    if many:
        results: dict[int, Exception | Again] = dict.fromkeys(outcome.failed, Again(len(outcome.failed) // 2))
    else:
        results = {number: _failed_alone(batch[number], error) for number in outcome.failed}
    return results | unasked


def _failed_alone(entry: Entry, error: Exception) -> Exception | Again:
    entry.strikes += 1
    if entry.strikes < _STRIKES:
        return Again(1)
    if isinstance(error, VectorsMissing):
        return error
    if isinstance(error, TimedOut):
        return TextFailed("embedding_timeout", f"{error} for one text of this document, and answers for others")
    return TextFailed("embedding_failed", f"{error} for one text of this document, and works for others")


def _store(asking: Asking, found: Mapping[bytes, Vectors], bill: Bill) -> None:
    """Write the vectors and confirm what they cost, in one transaction; it waits where PostgreSQL is away, for they are paid."""
    end, careful = time.monotonic() + _STORE_PATIENCE, False
    while True:
        try:
            with transaction(asking.settings.database_url) as connection:
                if found:
                    vectors.write(connection, asking.profile, list(found), np.stack(list(found.values())), careful)
                bill.commit(connection)
            return
        except vectors.StandsAlready:
            careful = True
        except (DBAPIError, psycopg.Error) as error:
            if not is_away(error) or time.monotonic() > end:
                raise
            log.warning("vectors wait for PostgreSQL", extra={"vectors": len(found), "reason": type(error).__name__})
            time.sleep(0.5)
