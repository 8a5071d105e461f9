"""The error tree. Each error has a stable ``code`` that users see in ``status`` and may alert on.

::

    IngestError                 anything that this project raises on purpose
    ├── PermanentError          a verdict about the document: trying again gives the same answer
    │   ├── Unsupported         no extractor for this kind of file      -> status UNSUPPORTED
    │   ├── NoText              the file is sound and holds no text     -> status NO_TEXT
    │   └── Rejected            damaged, encrypted, too large, a bomb … -> status FAILED
    └── TransientError          try again later; counts as one of the document's attempts
        ├── Unavailable         a service around the document is down; costs the document nothing
        ├── Throttled           a provider asks to wait; costs the document nothing
        ├── ProviderUnusable    bad key, no quota: wait for a person; costs the document nothing
        ├── BudgetSpent         the day's budget is used up: wait for the next day; costs the document nothing
        ├── TextFailed          a provider fails with one of this document's texts, and not with others
        ├── RunSpent            what the filling of another profile may cost is used up; about no document
        └── LeaseLost           somebody else works on the document now: stop, and write nothing more

Messages never hold document text or secrets: they are stored, logged and shown.
"""

from __future__ import annotations


class IngestError(Exception):
    """Base of every expected failure.

    ``code`` is a short snake_case name, stable across releases; ``str(error)`` is one sentence for the user. ``args``
    are what the constructor takes, so that Celery's JSON results can rebuild the error.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class PermanentError(IngestError):
    """The same input will fail the same way; the document ends in a terminal status."""


class Unsupported(PermanentError):
    """No extractor reads this kind of file. ``code`` is ``unsupported_type`` unless told."""

    def __init__(self, message: str, code: str = "unsupported_type") -> None:
        super().__init__(code, message)
        self.args = (message, code)


class NoText(PermanentError):
    """The file was read to its end and has no text: ``empty`` or ``needs_ocr``."""


class Rejected(PermanentError):
    """The file cannot or must not be read: ``damaged``, ``encrypted``, ``too_large``, ``timeout``, ``memory`` …"""


class TransientError(IngestError):
    """Another attempt may succeed."""


class Unavailable(TransientError):
    """A service that every document needs does not answer (S3, the provider): no verdict about this document."""


class Throttled(TransientError):
    """A provider asked to wait (HTTP 429). ``retry_after`` is in seconds, or None where it did not say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__("throttled", message)
        self.retry_after = retry_after
        self.args = (message, retry_after)


class ProviderUnusable(TransientError):
    """The provider refuses every request (bad key, exhausted quota) until a person acts."""


class BudgetSpent(TransientError):
    """What a day may cost (``LEX_INGEST_BUDGET_PER_DAY``) is used up. ``seconds_left`` is how long that day still lasts."""

    def __init__(self, message: str, seconds_left: float) -> None:
        super().__init__("budget_day", message)
        self.seconds_left = seconds_left
        self.args = (message, seconds_left)


class RunSpent(TransientError):
    """What one filling of a profile may cost (`lex-ingest model backfill --budget`) is used up."""

    def __init__(self, message: str) -> None:
        super().__init__("budget_run", message)
        self.args = (message,)


class TextFailed(TransientError):
    """A provider gives no usable vector for one text of a document: ``embedding_unusable``, ``embedding_failed`` or
    ``embedding_timeout``. That document loses one attempt; other documents lose none."""


class LeaseLost(TransientError):
    """The row no longer carries this holder's generation and lease token, so this holder may not write."""

    def __init__(self, message: str = "another worker has taken this document over") -> None:
        super().__init__("lease_lost", message)
        self.args = (message,)
