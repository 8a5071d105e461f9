"""Ask a profile's provider: within the account's limits and the budget, and with every request on the ledger.

A throttled or failed request is repeated here for a while, at the cost of nobody's attempt; what lasts longer is the caller's to
raise, and the document's row to schedule.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from worker.domain.errors import Throttled, Unavailable
from worker.domain.vectors import Vectors
from worker.embed import openai
from worker.embed.openai import Answer, Model
from worker.settings import Settings
from worker.store.profiles import Profile

# Seconds that a request may wait for its turn and be repeated: documents are held meanwhile, and their leases renewed.
_PATIENCE, _QUERY_PATIENCE = 90.0, 5.0
# Answers that never came, or a 5xx, in a row. Pauses in seconds, doubled each time.
_MOST_FAILURES, _PAUSE = 4, 0.5


def model_of(profile: Profile, settings: Settings) -> Model:
    """Whom to ask for vectors of this profile: as the settings say of their own provider, and as the profile says of another."""
    own = profile.provider == settings.embedding_provider
    first = own and (profile.model, profile.dimensions) == (settings.embedding_model, settings.embedding_dimensions)
    return Model(
        name=profile.model,
        dimensions=profile.dimensions,
        base_url=profile.base_url or (settings.openai_base_url if own else None),
        api_key=settings.openai_api_key if own else dict(settings.provider_keys).get(profile.provider, ""),
        key_variable="OPENAI_API_KEY" if own else f"LEX_INGEST_PROVIDER_KEYS ({profile.provider})",
        send_dimensions=settings.embedding_send_dimensions if first else profile.send_dimensions,
        timeout=settings.embedding_timeout,
    )


class Asking:
    """The way to one profile's provider. Used by many threads at once."""

    def __init__(self, profile: Profile, settings: Settings, patience: float = _PATIENCE) -> None:
        self._profile, self._settings, self._patience = profile, settings, patience
        self._model = model_of(profile, settings)

    def bill(self, owners: Sequence[UUID | None]) -> Bill:
        """For texts of these documents, in their order; None for a query's."""
        return Bill(self, owners)

    def ask(self, texts: Sequence[str]) -> Answer:
        """One request that is answered.

        Raises:
            IngestError: as ``worker.embed.openai.embed``, once repeating it has not helped.
        """
        end, failures = time.monotonic() + self._patience, 0
        while True:
            try:
                return openai.embed(texts, self._model)
            except (Throttled, Unavailable) as error:
                failures += 1
                if time.monotonic() > end or (isinstance(error, Unavailable) and failures >= _MOST_FAILURES):
                    raise
                time.sleep(_PAUSE * 2**failures * (0.5 + random.random() / 2))  # noqa: S311 - jitter, not a secret


def embed_query(query: str, profile: Profile, settings: Settings) -> Vectors:
    """The vector of a query, float32 of shape (dimensions,).

    Raises:
        TransientError: the provider can't embed it now.
    """
    asking = Asking(profile, settings, patience=_QUERY_PATIENCE)
    vector: Vectors = asking.ask([query]).vectors[0]
    return vector


class Bill:
    def __init__(self, asking: Asking, owners: Sequence[UUID | None]) -> None:
        self._asking, self._owners = asking, owners

    def ask(self, texts: Sequence[str], numbers: Sequence[int]) -> Vectors:
        return self._asking.ask(texts).vectors

    def settle(self, connection: Connection) -> None:
        pass
