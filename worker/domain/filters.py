"""What a search is narrowed to, below the scope: a document, kinds of files, what files say of themselves, a range of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


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


NOTHING = Filters()
