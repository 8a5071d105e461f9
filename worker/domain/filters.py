"""What a search is narrowed to, below the scope: a document, kinds of files, what files say of themselves, a range of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from worker.domain.text import storable


@dataclass(frozen=True, slots=True)
class Filters:
    """All that is given must hold. ``metadata`` are names and values that a file has exactly so (``lex-ingest show`` lists them).

    ``after`` (included) and ``before`` (excluded) bound the time at which the object was last written.
    """

    key: str | None = None
    document_id: UUID | None = None
    media_types: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    after: datetime | None = None
    before: datetime | None = None

    def __post_init__(self) -> None:
        # PostgreSQL raises a DataError for a parameter with NUL or a lone surrogate.
        object.__setattr__(self, "key", None if self.key is None else storable(self.key))
        object.__setattr__(self, "media_types", tuple(storable(kind) for kind in self.media_types))
        object.__setattr__(self, "metadata", tuple((storable(name), storable(value)) for name, value in self.metadata))


NOTHING = Filters()
