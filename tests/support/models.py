"""Short forms for the tests that change the embedding model."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support import embedding_load as load
from tests.support.provider import vector_of
from worker.domain.scope import Scope
from worker.domain.vectors import Vectors
from worker.services.embedding import embed_document
from worker.services.fill_reasons import Outcome
from worker.services.filling import fill
from worker.services.search import Hit, Mode, search
from worker.settings import Settings
from worker.store import fillings, profiles
from worker.store.fillings import Coverage, State
from worker.store.profiles import Profile
from worker.store.session import transaction


def made(settings: Settings, model: str = "other", dimensions: int = 384, base_url: str | None = None) -> Profile:
    """Another profile, idle and empty."""
    with transaction(settings.database_url) as connection:
        return profiles.ensure(connection, settings.embedding_provider, model, dimensions, "halfvec", base_url, True)


def remove(settings: Settings, model: str = "other") -> None:
    """Drop what is left of the profiles of this model, whatever a test has done with them."""
    with transaction(settings.database_url) as connection:
        for profile in profiles.every(connection):
            if profile.model == model:
                profiles.drop(connection, profile)


def served(settings: Settings, documents: Sequence[Sequence[str]], prefix: str = "load/") -> load.Load:
    """Documents of these chunks, embedded by the stage and served."""
    loaded = load.insert(settings, documents, prefix, queued=True)
    for identity in loaded.ids:
        assert embed_document(identity, settings) is not None
    return loaded


def begin(settings: Settings, profile: Profile, budget: str | None = None) -> None:
    with transaction(settings.database_url) as connection:
        fillings.begin(connection, profile.id, budget)


def state_of(settings: Settings, profile: Profile) -> State:
    with transaction(settings.database_url) as connection:
        found = fillings.state(connection, profile.id)
    assert found is not None
    return found


def covered(settings: Settings, profile: Profile) -> Coverage:
    with transaction(settings.database_url) as connection:
        return fillings.coverage(connection, profile)


def serving(settings: Settings) -> Profile:
    with transaction(settings.database_url) as connection:
        found = profiles.serving(connection)
    assert found is not None
    return found


def without_provider(query: str, profile: Profile, _: Settings) -> Vectors:
    """The vector that the tests' provider gives, computed here."""
    return vector_of(query, profile.dimensions)


def search_vectors(settings: Settings, query: str, limit: int = 3) -> list[Hit]:
    """A search by meaning alone, for which no provider is asked."""
    return search(query, Scope.of_buckets(settings.buckets), limit, settings, mode=Mode.VECTOR, embed=without_provider)


def filled(settings: Settings, profile: Profile) -> None:
    """Fill it, to its end."""
    begin(settings, profile)
    turn = fill(profile.id, settings)
    assert turn is not None
    assert turn.outcome is Outcome.WHOLE
