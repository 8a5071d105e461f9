"""What a profile lacks of what is served, a page of texts at a time, in the order in which documents were served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from worker.domain.errors import Rejected, TextFailed
from worker.embed.batcher import Ticket
from worker.settings import Settings
from worker.store import fillings, vectors
from worker.store.fillings import Candidate
from worker.store.profiles import Profile
from worker.store.session import transaction

# Texts of a page, at most twice as many; documents that are looked at in one statement.
PAGE, _DOCUMENTS = 512, 200

NOTHING = vectors.Page([], 0, -1, more=False)


class Looked(NamedTuple):
    """A document that was looked at, and texts that it lacks. It comes again for each page of them."""

    since: datetime
    document_id: UUID
    texts: list[vectors.Text]


@dataclass(slots=True, eq=False)
class Part:
    """Texts of a document that is served since ``since``; no ticket where it lacks none. ``cut``: some were not asked for."""

    since: datetime
    ticket: Ticket | None = None
    cut: bool = False

    @property
    def done(self) -> bool:
        return not self.cut and (self.ticket is None or not (self.ticket.open or self.trouble))

    @property
    def trouble(self) -> Exception | None:
        """What went wrong, and is not for its texts."""
        failures = self.ticket.failures.values() if self.ticket is not None else ()
        return next((error for error in failures if not isinstance(error, Rejected | TextFailed)), None)


def lacking_pages(profile: Profile, settings: Settings, since: datetime | None) -> Iterator[list[Looked]]:
    """Documents that are served since after ``since``, whether they lack something or not. A page is read when it is asked for.

    Texts of many short documents come in one page, so that they are submitted together and fill requests.
    """
    pending: deque[Candidate] = deque()
    behind: UUID | None = None
    after, more = -1, True
    while more or pending:
        page: list[Looked] = []
        number = 0
        with transaction(settings.database_url) as connection:
            if not pending:
                pending.extend(fillings.candidates(connection, profile, since, behind, _DOCUMENTS))
                more = len(pending) == _DOCUMENTS
                if pending:
                    since, behind = pending[-1].since, pending[-1].document_id
            while pending and number < PAGE:
                first = pending[0]
                part = NOTHING
                if first.lacks:
                    part = vectors.missing(
                        connection, profile, first.document_id, first.generation, after, PAGE, with_refused=False
                    )
                page.append(Looked(first.since, first.document_id, part.texts))
                number, after = number + len(part.texts), part.last
                if not part.more:
                    pending.popleft()
                    after = -1
        if page:
            yield page
