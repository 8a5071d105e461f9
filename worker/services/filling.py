"""Fill a further profile: what is served gets vectors of it too, in the background, by one filler at a time for each profile.

A turn takes seconds, and another one follows while there is more: documents wait for none longer than that. Vectors are stored
request by request, and what has one is not asked again: a filler that is killed repeats what was on its way. Trouble with the
provider or a budget makes the filling rest; that is no document's attempt, and no gate is closed for documents.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError

from worker import telemetry
from worker.domain.errors import IngestError, RunSpent
from worker.domain.retrying import GiveUp, decide
from worker.domain.spending import Purpose
from worker.services import requesting
from worker.services.embedding import is_blank
from worker.services.fill_pages import PAGE, Looked, Part, lacking_pages
from worker.services.fill_reasons import Outcome, reason_to_end
from worker.services.settling import frames
from worker.services.spending import refuse_if_run_spent
from worker.settings import Settings
from worker.store import fill_calls, fillings, profiles
from worker.store.driver import connect
from worker.store.profiles import Profile
from worker.store.session import is_away, is_gone, transaction

log = telemetry.get_logger(__name__)

# Seconds that a turn hands out texts: less than a worker's grace after SIGTERM (LEX_INGEST_SHUTDOWN_GRACE).
LONGEST_TURN = 15.0
# Texts that may be on their way: what a filling of any length takes of memory.
_MOST_OPEN = 1024
# Seconds between two looks at whether the filling is still wanted, and until what is on its way is given up.
_LOOK_EVERY, _DRAIN = 1.0, 120.0
_UNEXPECTED_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Turn:
    """``texts`` got a vector in this turn; ``refused`` are those that the provider takes from nobody."""

    outcome: Outcome
    texts: int
    refused: int


def fill(profile_id: int, settings: Settings, seconds: float = LONGEST_TURN, unasked: bool = False) -> Turn | None:
    """One turn of the profile; None where another filler is at it. ``unasked``: also one that is not kept filled.

    Raises:
        psycopg.OperationalError, sqlalchemy.exc.DBAPIError: the database is away.
    """
    with connect(settings.database_url, "lex-ingest-fill") as session:
        session.autocommit = True
        if not fill_calls.hold(session, profile_id):
            return None
        with transaction(settings.database_url) as connection:
            profile = next((each for each in profiles.every(connection) if each.id == profile_id), None)
        if profile is None:
            return Turn(Outcome.UNWANTED, 0, 0)
        return _Filler(profile, settings, session, time.monotonic() + seconds, unasked).run()


class _Filler:
    def __init__(
        self, profile: Profile, settings: Settings, session: psycopg.Connection[Any], deadline: float, unasked: bool
    ) -> None:
        self._profile, self._settings, self._session = profile, settings, session
        self._deadline, self._unasked = deadline, unasked
        self._batcher = requesting.batcher(profile, settings, Purpose.BACKFILL)
        self._parts: deque[Part] = deque()
        self._woken = threading.Event()
        self._asked: set[bytes] = set()  # of this pass: some ten thousand, for it takes seconds
        self._exhausted = False
        self._seen: datetime | None = None  # since when the last document is served that was looked at
        self._stored: datetime | None = None  # filled_until
        self._texts = self._refused = 0

    def run(self) -> Turn:
        try:
            while True:
                outcome = self._attempt()
                if outcome is not None:
                    self._end_parts()
                    return Turn(outcome, self._texts, self._refused)
        finally:
            self._end_parts()

    def _attempt(self) -> Outcome | None:
        """One pass, and what follows its end; None: another pass."""
        horizon = self._horizon()
        try:
            outcome = self._pass(horizon)
            self._drain()
            self._advance(horizon, whole=outcome is Outcome.WHOLE)
            return outcome
        except (DBAPIError, psycopg.Error) as error:
            if is_gone(error):
                return Outcome.UNWANTED
            if is_away(error):
                raise
            return self._rest(horizon, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the filling rests and says so
            return self._rest(horizon, error)

    def _pass(self, horizon: datetime) -> Outcome:
        pages = lacking_pages(self._profile, self._settings, self._stored)
        looked = 0.0
        while True:
            if time.monotonic() > looked + _LOOK_EVERY:
                fill_calls.alive(self._session)
                with transaction(self._settings.database_url) as connection:
                    if (ended := reason_to_end(connection, self._profile, self._unasked)) is not None:
                        return ended
                self._advance(horizon)
                looked = time.monotonic()
            self._settle()
            if self._exhausted and not self._parts:
                return Outcome.WHOLE
            if time.monotonic() > self._deadline:
                return Outcome.MORE
            if not self._exhausted and self._open() <= _MOST_OPEN - PAGE:
                page = next(pages, None)
                self._exhausted = page is None
                for document in page or ():
                    self._submit(document)
            else:
                self._wait()

    def _submit(self, looked: Looked) -> None:
        # A text that was asked for since the page was read is an earlier part's: this one is not let go of before.
        new = [item for item in looked.texts if item.digest not in self._asked]
        self._asked.update(item.digest for item in new)
        if blank := [item.digest for item in new if is_blank(item.text)]:
            with transaction(self._settings.database_url) as connection:
                fillings.refuse(connection, self._profile.id, blank)
        texts = [(item.digest, item.text) for item in new if not is_blank(item.text)]
        self._parts.append(Part(looked.since, self._batcher.submit(looked.document_id, texts, self._woken) if texts else None))
        self._seen = looked.since

    def _horizon(self) -> datetime:
        """Begin a pass: from where the last one got to."""
        self._exhausted, self._seen = False, None
        self._asked.clear()
        with transaction(self._settings.database_url) as connection:
            state = fillings.state(connection, self._profile.id)
            self._stored = state.filled_until if state is not None else None
            return fillings.horizon(connection)

    def _wait(self) -> None:
        """Until some texts are settled, or it is time to look again."""
        self._woken.wait(_LOOK_EVERY)
        self._woken.clear()

    def _open(self) -> int:
        return sum(part.ticket.open for part in self._parts if part.ticket is not None)

    def _settle(self) -> None:
        """Let go of documents that are done, in their order, and write down what is refused.

        Raises:
            Exception: a request failed, and not for its texts.
        """
        refused: list[bytes] = []
        while self._parts and self._parts[0].done:
            ticket = self._parts.popleft().ticket
            if ticket is not None:
                self._texts += ticket.submitted - len(ticket.failures)
                refused += ticket.failures
        if refused:
            self._refused += len(refused)
            with transaction(self._settings.database_url) as connection:
                fillings.refuse(connection, self._profile.id, refused)
        for part in self._parts:
            if (trouble := part.trouble) is not None:
                raise trouble

    def _end_parts(self) -> None:
        """Wait for none of them any more; of those behind one that failed, some have their vectors."""
        for ticket in [part.ticket for part in self._parts if part.ticket is not None]:
            self._texts += ticket.submitted - ticket.open - len(ticket.failures)
            self._batcher.cancel(ticket)
        self._parts.clear()

    def _drain(self) -> None:
        """Ask for nothing more, and wait for what is on its way: another filler would ask for it again."""
        for part in self._parts:
            if part.ticket is not None and self._batcher.withdraw(part.ticket):
                part.cut = True
        end = time.monotonic() + _DRAIN
        while self._open() and time.monotonic() < end:
            fill_calls.alive(self._session)
            self._wait()
        self._settle()

    def _advance(self, horizon: datetime, whole: bool = False) -> None:
        """Write down how far it is: all before the first document that is not done, or all that there was at the beginning."""
        if self._parts or not self._exhausted:
            first = self._parts[0].since if self._parts else self._seen
            until = None if first is None else min(horizon, first - timedelta(microseconds=1))
        else:
            until = horizon
        if until is not None and self._stored is not None and until <= self._stored:
            until = None
        with transaction(self._settings.database_url) as connection:
            fillings.advance(connection, self._profile.id, until, whole)
        self._stored = until or self._stored

    def _rest(self, horizon: datetime, error: Exception) -> Outcome | None:
        """Let the filling rest for as long as a document would, and say why; None: it may go on at once."""
        with suppress(Exception):
            self._drain()
        self._advance(horizon)
        decision = decide(error, 0, random.random())  # noqa: S311 - jitter, not a secret
        seconds = _UNEXPECTED_AFTER if isinstance(decision, GiveUp) else decision.after
        with transaction(self._settings.database_url) as connection:
            if isinstance(error, RunSpent):
                try:
                    # What was on its way counted with its bound, and is known now.
                    refuse_if_run_spent(connection, self._settings, self._profile)
                except RunSpent as spent:
                    fillings.rest(connection, self._profile.id, 0.0, spent.code, spent.message)
                    return Outcome.RESTING
                self._end_parts()
                return None if time.monotonic() < self._deadline else Outcome.MORE
            fillings.rest(connection, self._profile.id, seconds, decision.code, decision.reason)
        where = None if isinstance(error, IngestError) else frames(error)
        log.warning(
            "filling rests", extra={"profile": self._profile.id, "code": decision.code, "seconds": seconds, "frames": where}
        )
        return Outcome.RESTING
