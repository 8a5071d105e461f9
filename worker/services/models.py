"""Embedding profiles for operators: what there is, adding one and dropping one. The switch: ``worker.services.switching``."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from worker.domain.errors import IngestError, PermanentError, TransientError
from worker.domain.plurals import plural
from worker.domain.spending import Purpose
from worker.settings import Settings
from worker.store import fill_calls, fillings, profiles, vector_index, vectors
from worker.store.driver import connect
from worker.store.fillings import Coverage, State
from worker.store.profiles import Profile
from worker.store.session import psycopg_below, transaction

# OpenAI's own address: with another provider's in OPENAI_BASE_URL the client would go there.
_ADDRESSES = {"openai": "https://api.openai.com/v1"}
# Seconds that a drop waits for the filler to let go, and for those who still read the table; and how often it tries.
_LET_GO, _LOCK_TIMEOUT, _TRIES = 20.0, "2s", 3


class ModelError(IngestError):
    """What was asked for can't be done with this profile: ``unknown_profile``, ``profile_serves``, ``not_filled`` …"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A profile as `model list` shows it. ``index``: built, wanted (there are enough vectors) or not needed.

    ``filling`` is in words how its filling stands, None where it is not filled; ``size`` is in bytes, with the indexes.
    """

    profile: Profile
    state: str
    vectors: int
    coverage: Coverage
    index: str
    size: int
    filling: str | None

    @property
    def percent(self) -> float:
        """Of the served chunks, those that have a vector; 100 only where all have one."""
        if not self.coverage.chunks:
            return 100.0
        share = 100.0 * self.coverage.with_vector / self.coverage.chunks
        return min(share, 99.9) if self.coverage.with_vector < self.coverage.chunks else share


def listed(settings: Settings) -> list[Listed]:
    """Every profile, the oldest first. It counts all that is served: about a second for a million chunks and profile."""
    with transaction(settings.database_url) as connection:
        return [_listed(connection, profile) for profile in profiles.every(connection)]


def serving(settings: Settings) -> Profile | None:
    """The profile that searches are answered from."""
    with transaction(settings.database_url) as connection:
        return profiles.serving(connection)


def _listed(connection: Connection, profile: Profile) -> Listed:
    number, size = connection.execute(
        text(f"SELECT (SELECT count(*) FROM {profile.table}), pg_total_relation_size('{profile.table}')")
    ).one()
    covered = fillings.coverage(connection, profile)
    stands = fillings.state(connection, profile.id)
    filled = profile.kept_filled and not profile.serving
    return Listed(
        profile,
        "serving" if profile.serving else "kept filled" if filled else "idle",
        number,
        covered,
        _index(connection, profile),
        size,
        in_words(stands, covered.lacking) if filled and stands is not None else None,
    )


def _index(connection: Connection, profile: Profile) -> str:
    built = connection.execute(
        text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:index)"), {"index": profile.index}
    ).scalar()
    if built:
        return "built"
    return "wanted" if vector_index.is_needed(psycopg_below(connection), profile.id) else "not needed"


def in_words(state: State, lacking: int) -> str:
    """How a filling stands, on one line."""
    if state.code == fill_calls.RUN_SPENT:
        return f"parked ({state.code}): {state.reason}"
    if state.rest_until is not None and state.code is not None:
        return f"rests until {state.rest_until.astimezone():%H:%M:%S} ({state.code}): {state.reason}"
    return f"{plural(lacking, 'chunk')} to go" if lacking else "whole"


def resting(settings: Settings) -> list[tuple[Profile, str]]:
    """Profiles whose filling rests, and why. Cheap: nothing is counted."""
    with transaction(settings.database_url) as connection:
        found = [(profile, fillings.state(connection, profile.id)) for profile in profiles.every(connection)]
    return [
        (profile, in_words(state, 1))
        for profile, state in found
        if state is not None and state.wanted and (state.code == fill_calls.RUN_SPENT or (state.rest_until and state.code))
    ]


def find(name: str, settings: Settings) -> Profile:
    """The profile of this name: ``provider/model/dimensions``, ``provider/model`` or ``model``.

    Raises:
        ModelError: ``unknown_profile``, ``ambiguous_profile``.
    """
    with transaction(settings.database_url) as connection:
        every = profiles.every(connection)
    found = [profile for profile in every if name == profile.name] or [
        profile for profile in every if name in (profile.model, f"{profile.provider}/{profile.model}")
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(profile.name for profile in found or every) or "none"
    if found:
        raise ModelError("ambiguous_profile", f"{name!r} may be {names}: name one of them in full")
    raise ModelError("unknown_profile", f"there is no profile {name!r}; there are: {names}. `lex-ingest model add` makes one")


def add(
    model: str,
    dimensions: int,
    settings: Settings,
    *,
    provider: str | None = None,
    base_url: str | None = None,
    send_dimensions: bool = False,
    storage: str | None = None,
) -> Profile:
    """Make a profile and its table, after one tiny request that its provider answers. Nothing is filled yet.

    Raises:
        ModelError: ``profile_exists``, ``no_address``; or what is wrong with the provider's answer.
        TransientError: the provider can't be reached.
    """
    name = provider or settings.embedding_provider
    known = dict(settings.providers).get(name)
    address = base_url or (None if name == settings.embedding_provider or (known and known.base_url) else _ADDRESSES.get(name))
    if address is None and name != settings.embedding_provider and not (known and known.base_url):
        raise ModelError("no_address", f"nobody knows where {name} answers: add --base-url https://…/v1")
    with transaction(settings.database_url) as connection:
        if profiles.find(connection, name, model, dimensions) is not None:
            raise ModelError(
                "profile_exists",
                f"{name}/{model}/{dimensions} is there already: `lex-ingest model backfill {name}/{model}/{dimensions}` fills it",
            )
        kind = storage or settings.vector_type
        profile = profiles.ensure(connection, name, model, dimensions, kind, address, send_dimensions)
    # The command line asks this module for much more, and without the provider's client, which takes a second to import.
    from worker.services import asking

    try:
        # It was announced under the profile's number, so the profile goes first.
        asking.embed_query("Is the provider there?", profile, settings, Purpose.CHECK, asking.FOR_NEW_MODELS)
    except BaseException as error:
        with transaction(settings.database_url) as connection:
            profiles.drop(connection, profile)
        if isinstance(error, TransientError) and error.code in ("provider_key", "provider_model", "provider_quota"):
            raise ModelError(error.code, f"{error}; nothing was added") from error
        if isinstance(error, TransientError) and error.code == "provider_dimensions":
            said = str(error).partition(", and")[0]
            raise ModelError(error.code, f"{said}, not of {dimensions}: say so with --dimensions; nothing was added") from error
        if isinstance(error, PermanentError):
            advice = "does the model take --send-dimensions?" if send_dimensions else "is it a model for embeddings?"
            raise ModelError("provider_refuses", f"{name} refuses the request for {model}: {advice} Nothing was added") from error
        raise
    return profile


def drop(profile: Profile, settings: Settings) -> None:
    """Drop the profile's vectors and its row. Searches that still read them end first; what it cost stays on the ledger.

    Raises:
        ModelError: ``profile_serves``; ``profile_busy``: somebody works with its table all the time.
    """
    with connect(settings.database_url, "lex-ingest-drop") as session:
        session.autocommit = True
        with transaction(settings.database_url) as connection:
            _refuse_serving(connection, profile)
            fillings.stop(connection, profile.id)
        end = time.monotonic() + _LET_GO
        while not fill_calls.hold(session, profile.id):
            if time.monotonic() > end:
                raise ModelError("profile_busy", f"{profile.name} is still being filled; it was told to stop: drop it again")
            time.sleep(0.1)
        for _ in range(_TRIES):
            try:
                with transaction(settings.database_url) as connection:
                    if not vectors.hold(connection):
                        continue
                    _refuse_serving(connection, profile)
                    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
                    profiles.drop(connection, profile)
                    return
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                    raise
    raise ModelError("profile_busy", f"somebody works with the table of {profile.name} (an index being built?): drop it later")


def _refuse_serving(connection: Connection, profile: Profile) -> None:
    serving = profiles.serving(connection)
    if serving is not None and serving.id == profile.id:
        raise ModelError("profile_serves", f"{profile.name} serves: `lex-ingest model switch` to another one first")
