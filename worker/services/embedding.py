"""The embedding stage: chunks without a vector get one, then the generation is served in one step."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from uuid import UUID

from worker.contract import Stage
from worker.domain.document import Status
from worker.domain.errors import ProviderUnusable, Rejected, Unavailable
from worker.embed.batcher import Ticket
from worker.extract.blocks import clean
from worker.services import requesting
from worker.services.heartbeat import Heartbeat
from worker.services.holding import held, take
from worker.settings import Settings
from worker.store import chunks, leases, profiles, vectors
from worker.store.leases import Lease
from worker.store.profiles import Profile
from worker.store.session import statements, transaction
from worker.store.vectors import Page

# Chunks that are read at a time, and texts that may be on their way: what a document of any length takes of memory.
_PAGE, _MOST_OPEN = 512, 1024
# Seconds that a document may take in one turn. In a pool of threads no time limit of Celery's applies; in a pool of processes
# this ends before the soft one (worker.celery_config).
LONGEST_TURN = 20 * 60.0
# Nearly every text has one of these characters, and finding one is cheaper than ``is_visible``.
_PLAIN = re.compile("[0-9A-Za-z]")


@dataclass(frozen=True, slots=True)
class Result:
    """``embeddings_generated`` counts the chunks of the version, each with a vector now; ``provider_inputs`` those texts that the
    provider was asked for, by this document or by another one that has them too."""

    status: Status
    wake_generation: int | None
    embeddings_generated: int
    provider_inputs: int


def embed_document(document_id: UUID, settings: Settings) -> Result | None:
    """Run the stage for one document, or return None where there is nothing to do.

    Vectors are stored request by request, whichever documents' texts are in it: a crash repeats what was on its way.

    Raises:
        StageFailed: the row says what follows.
        LeaseLost: somebody else has the document, or its object is gone.
    """
    lease = take(document_id, Stage.EMBED, settings)
    if lease is None:
        return None
    with held(lease, settings) as heartbeat:
        deadline = time.monotonic() + LONGEST_TURN
        asked = 0
        while True:
            profile, first = _begin(lease, settings)
            if blank := [item.digest for item in first.texts if is_blank(item.text)]:
                _leave_out(lease, blank, settings)
                continue
            asked += _fill(lease, profile, first, settings, heartbeat, deadline)
            heartbeat.check()
            with transaction(settings.database_url) as connection:
                leases.fence(connection, lease, relying=True)
                # Not whole: a text's vector was erased since it was looked for, or another profile serves by now.
                if served := vectors.whole(connection, profile, lease.document_id, lease.generation):
                    ended = leases.finish(
                        connection,
                        lease,
                        Status.INDEXED,
                        settings.requeue_after,
                        indexed=True,
                        active_generation=lease.generation,
                        attempts=0,
                        error_code=None,
                        error=None,
                    )
                    # Extraction has left no other generation than this one and the one that was served.
                    if lease.active_generation is not None:
                        chunks.replace_unserved(connection, lease.document_id, lease.generation)
                    return Result(ended.status, ended.wake_generation, served, asked)


def is_blank(text: str) -> bool:
    """Whether the text has no visible character. Its vector would mean nothing, and some providers refuse it."""
    return not _PLAIN.search(text) and not clean(text)


def _leave_out(lease: Lease, blank: list[bytes], settings: Settings) -> None:
    """Remove chunks without a visible character, which an earlier version has stored and no search can find.

    Raises:
        Rejected: no other chunk is left.
    """
    with transaction(settings.database_url) as connection:
        leases.fence(connection, lease)
        left = chunks.remove_texts(connection, lease.document_id, lease.generation, blank)
    if not left:
        raise Rejected("empty", "no chunk of the document has a visible character; replay the document to read it again")


def _begin(lease: Lease, settings: Settings) -> tuple[Profile, Page]:
    """The profile that serves, and the first texts that have no vector of it."""
    with statements(settings.database_url) as connection:
        profile = profiles.serving(connection)
        if profile is None:
            raise ProviderUnusable("profile_missing", "no table holds vectors: run `lex-ingest migrate`")
        return profile, vectors.missing(connection, profile, lease.document_id, lease.generation, -1, _PAGE)


def _fill(lease: Lease, profile: Profile, first: Page, settings: Settings, heartbeat: Heartbeat, deadline: float) -> int:
    """Give every text of the generation its vector. Returns how many had none.

    Raises:
        Unavailable: ``turn_over``: there was no more time; what has a vector keeps it.
    """
    batcher = requesting.batcher(profile, settings)
    tickets: deque[Ticket] = deque()
    woken = threading.Event()
    page, asked = first, len(first.texts)
    try:
        if page.texts:
            tickets.append(batcher.submit(lease.document_id, [(item.digest, item.text) for item in page.texts], woken))
        while page.more or tickets:
            heartbeat.check()
            if time.monotonic() > deadline:
                raise Unavailable("turn_over", f"{asked} texts were taken in this turn, and the rest follows in another")
            while tickets and not tickets[0].left():
                tickets.popleft()
            if page.more and sum(ticket.left() for ticket in tickets) <= _MOST_OPEN - _PAGE:
                with statements(settings.database_url) as connection:
                    page = vectors.missing(connection, profile, lease.document_id, lease.generation, page.last, _PAGE)
                # A blank one is found missing when all others have vectors, and left out then.
                texts = [(item.digest, item.text) for item in page.texts if not is_blank(item.text)]
                asked += len(texts)
                if texts:
                    tickets.append(batcher.submit(lease.document_id, texts, woken))
            elif tickets:
                tickets[0].wait(1.0)
    finally:
        for ticket in tickets:
            batcher.cancel(ticket)
    return asked
