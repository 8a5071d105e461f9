"""How a turn of filling ends, and what keeps one from going on: nobody wants it, it rests, or documents are held up too."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import Connection

from worker.store import fill_calls, fillings, gates, profiles
from worker.store.profiles import Profile

# A gate that is closed for one of these concerns this provider too, where it is the one that serves; a budget concerns all.
_OF_THE_ACCOUNT = frozenset({"throttled", "provider_key", "provider_quota"})


class Outcome(StrEnum):
    """How a turn ended: nothing is missing; there is more; it rests for a reason; nobody wants it filled."""

    WHOLE = "whole"
    MORE = "more"
    RESTING = "resting"
    UNWANTED = "unwanted"


def reason_to_end(connection: Connection, profile: Profile, unasked: bool) -> Outcome | None:
    """Why nothing more of the profile should be asked now; None where there is no reason.

    Where documents wait for the account or for a budget, the filling rests for as long. A model that is gone, say, is none: it
    may be why another one is filled. ``unasked``: also one that is not kept filled.
    """
    state = fillings.state(connection, profile.id)
    if state is None or not (state.wanted or unasked):
        return Outcome.UNWANTED
    if state.rest_until is not None or state.code == fill_calls.RUN_SPENT:
        return Outcome.RESTING
    serving = profiles.serving(connection)
    same = serving is not None and serving.provider == profile.provider
    for gate in gates.closed(connection):
        if gate.code.startswith("budget_") or (same and gate.code in _OF_THE_ACCOUNT):
            seconds = max(1.0, (gate.closed_until - datetime.now(UTC)).total_seconds())
            fillings.rest(connection, profile.id, seconds, gate.code, gate.reason)
            return Outcome.RESTING
    return None
