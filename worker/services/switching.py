"""Change which profile serves, with nobody noticing: queries before and after are answered, each from a whole profile.

Whoever ends a document relies on the profile that serves until its commit (``worker.store.leases.fence``). The switch takes
the same lock alone, by trying, so that nobody queues behind it; while it is held no document ends, so the last texts that
came meanwhile can be filled, and then the switch is one UPDATE. Documents wait for it for seconds at most, queries never.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, text

from worker.services.fill_reasons import Outcome
from worker.services.filling import fill
from worker.services.models import ModelError
from worker.settings import Settings
from worker.store import fillings, profiles, vector_index
from worker.store.driver import VECTORS_LOCK
from worker.store.profiles import Profile
from worker.store.session import engine, psycopg_below, transaction

# Texts that are filled by the way; more are a backfill's. For the last ones, a request or two, documents wait with their end.
FEW, _LAST = 2000, 128
# Seconds: that a switch tries in all; that it keeps documents from their end for the last texts; between two tries of the lock.
_PATIENCE, _HOLD, _PAUSE = 60.0, 5.0, 0.01


@dataclass(frozen=True, slots=True)
class Switched:
    """``refused``: texts that the new profile's provider refuses; they are found by words only."""

    before: Profile
    serving: Profile
    refused: int


def switch(profile: Profile, settings: Settings, *, incomplete: bool = False) -> Switched:
    """Let this profile serve. Nothing of what is served may lack a vector of it; ``incomplete``: but for refused texts.

    Raises:
        ModelError: ``profile_serves``, ``not_filled``, ``texts_refused``, ``no_index``; ``busy``: documents come in faster than
            the new provider answers, or the filling rests.
    """
    with transaction(settings.database_url) as connection:
        covered = fillings.coverage(connection, profile)
        if covered.lacking > FEW:
            raise ModelError(
                "not_filled",
                f"{covered.lacking:,} of {covered.chunks:,} chunks have no vector of {profile.name}: "
                f"`lex-ingest model backfill {profile.name}` first",
            )
        _check(connection, profile, incomplete)
        whole = fillings.state(connection, profile.id)
        if covered.lacking and whole is not None and fillings.whole_since(connection, profile, whole.filled_until):
            # Somebody took vectors away by hand, say: where filling has been is looked through again.
            fillings.look_again(connection, profile.id)
    return _switch(profile, settings, incomplete)


def rollback(settings: Settings) -> Switched:
    """Let the profile serve again that did before: it was kept filled, so this is immediate.

    Raises:
        ModelError: ``nothing_before``; as ``switch``.
    """
    with transaction(settings.database_url) as connection:
        before = profiles.before(connection)
    if before is None:
        raise ModelError("nothing_before", "no other profile has served, or it was dropped: `lex-ingest model list` shows all")
    if not before.kept_filled:
        return switch(before, settings)
    # What was refused was so when it served first.
    return _switch(before, settings, incomplete=True)


def _check(connection: Connection, profile: Profile, incomplete: bool) -> None:
    serving = profiles.serving(connection)
    if serving is not None and serving.id == profile.id:
        raise ModelError("profile_serves", f"{profile.name} serves already")
    if vector_index.is_needed(psycopg_below(connection), profile.id):
        raise ModelError(
            "no_index", f"{profile.name} has no index yet, and enough vectors for one: `lex-ingest model backfill {profile.name}`"
        )
    refused = fillings.refused(connection, profile.id) if not incomplete else 0
    if refused:
        raise ModelError(
            "texts_refused",
            f"the provider of {profile.name} refuses {refused:,} of the texts: after the switch they are found by their "
            f"words only. If that will do: `lex-ingest model switch {profile.name} --incomplete`",
        )


def _switch(profile: Profile, settings: Settings, incomplete: bool) -> Switched:
    end = time.monotonic() + _PATIENCE
    rested = ""
    while time.monotonic() < end:
        if _lacking(profile, settings) > _LAST:
            rested = _fill(profile, settings, end)
        with _alone(settings, end) as connection:
            if connection is None:
                break
            with connection.begin():
                done = _serve_if_whole(connection, profile, incomplete)
            if done is None:
                rested = _fill(profile, settings, time.monotonic() + _HOLD)
                with connection.begin():
                    done = _serve_if_whole(connection, profile, incomplete)
        if done is not None:
            return done
        if rested:
            break
    raise ModelError(
        "busy",
        f"{profile.name} is not whole: {rested or 'documents come in faster than it is filled'}. {_serves_on(settings)}; "
        "`lex-ingest model list` shows what is missing",
    )


def _lacking(profile: Profile, settings: Settings) -> int:
    with transaction(settings.database_url) as connection:
        state = fillings.state(connection, profile.id)
        return 0 if state is None else fillings.lacking_since(connection, profile, state.filled_until, _LAST + 1)


def _serves_on(settings: Settings) -> str:
    with transaction(settings.database_url) as connection:
        serving = profiles.serving(connection)
    return "nothing was switched" if serving is None else f"{serving.name} serves on"


def _serve_if_whole(connection: Connection, profile: Profile, incomplete: bool) -> Switched | None:
    state, before = fillings.state(connection, profile.id), profiles.serving(connection)
    if state is None or before is None:
        raise ModelError("unknown_profile", f"{profile.name} was dropped meanwhile")
    if not fillings.whole_since(connection, profile, state.filled_until):
        return None
    _check(connection, profile, incomplete)
    profiles.serve(connection, profile)
    return Switched(before, profile, fillings.refused(connection, profile.id))


def _fill(profile: Profile, settings: Settings, end: float) -> str:
    """Fill what is missing now, here or by whoever is at it. Returns why that rests, or nothing."""
    while time.monotonic() < end:
        with transaction(settings.database_url) as connection:
            state = fillings.state(connection, profile.id)
            if state is None or fillings.whole_since(connection, profile, state.filled_until):
                return ""
        turn = fill(profile.id, settings, max(0.1, end - time.monotonic()), unasked=True)
        if turn is None:
            time.sleep(0.1)
        elif turn.outcome is Outcome.RESTING:
            with transaction(settings.database_url) as connection:
                state = fillings.state(connection, profile.id)
            return "" if state is None else str(state.reason)
        else:
            return ""
    return ""


@contextmanager
def _alone(settings: Settings, end: float) -> Iterator[Connection | None]:
    """A connection that holds the vectors' lock alone, by its session: no transaction is open while the last texts are filled.

    None where it is never free until ``end``.
    """
    with engine(settings.database_url).connect() as connection:
        while not _scalar(connection, f"SELECT pg_try_advisory_lock({VECTORS_LOCK})"):
            if time.monotonic() > end:
                yield None
                return
            time.sleep(_PAUSE)
        try:
            # A command that was stopped in the middle keeps nobody waiting for long.
            _scalar(connection, "SELECT set_config('idle_session_timeout', '30s', false)")
            yield connection
        finally:
            _scalar(connection, "SELECT set_config('idle_session_timeout', '0', false)")
            _scalar(connection, f"SELECT pg_advisory_unlock({VECTORS_LOCK})")


def _scalar(connection: Connection, statement: str) -> object:
    with connection.begin():
        return connection.execute(text(statement)).scalar_one()
