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
from worker.domain.spending import Purpose
from worker.domain.vectors import Vectors
from worker.embed.batcher import Batcher, Entry
from worker.embed.long_inputs import embed_all
from worker.embed.rate_limit import Reservation
from worker.services.asking import Asking, Bill
from worker.settings import Settings
from worker.store import vectors
from worker.store.profiles import Profile
from worker.store.session import is_away, transaction

log = telemetry.get_logger(__name__)

# OpenAI's limits of one request are 2048 inputs and 300,000 tokens (API reference, "Create embeddings"). No tokenizer gives more
# tokens than a text has UTF-8 bytes, so a bound in bytes errs on the safe side.
MOST_INPUTS, MOST_BYTES = 2048, 290_000
# Seconds that vectors which are paid for wait for PostgreSQL to come back.
_STORE_PATIENCE = 60.0

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
                min(settings.embedding_batch, MOST_INPUTS),
                MOST_BYTES,
                in_flight,
            )
        return _batchers[key]


def _request(asking: Asking, purpose: Purpose, batch: Sequence[Entry], permit: Reservation) -> Mapping[bytes, Exception]:
    """Ask for the batch, and store what comes. Returns what the provider refuses, by digest."""
    owners = [entry.owner if isinstance(entry.owner, UUID) else None for entry in batch]
    bill = Bill(asking, owners, purpose, permit)
    try:
        found, refused = embed_all([entry.text for entry in batch], bill.ask, asking.settings.embedding_max_tokens)
    except Exception:
        # Some of its requests may have been answered, and are paid for.
        _store(asking, {}, bill)
        raise
    _store(asking, {batch[number].digest: vector for number, vector in found.items()}, bill)
    return {batch[number].digest: error for number, error in refused.items()}


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
