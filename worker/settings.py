"""One frozen Settings object: the only place that reads the environment. Standard library only.

Names that a whole field knows (``DATABASE_URL``, ``OPENAI_API_KEY``, ``AWS_ENDPOINT_URL`` …) keep them; ours begin with
``LEX_INGEST_``. The AWS ones are read by boto3 itself. The README's table of settings is tested against ``VARIABLES``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from decimal import Decimal
from functools import lru_cache
from typing import Any

from worker import setting_values as forms
from worker.budget import Budget
from worker.setting_values import MOST_DIMENSIONS, ChunkLimits, Form, Provider, number, whole_number


class SettingsError(ValueError):
    """A variable is missing or has a value that can't be used. The message names the variable."""


# A year, in seconds.
_YEAR = 31_536_000


def _variable(name: str, default: Any, help: str, form: Form, secret: bool = False) -> Any:
    """A setting: the variable that sets it, and the form that its value must have.

    ``secret`` values are left out of the repr and of messages; of a secret URL a message shows all but the password.
    """
    return field(default=default, metadata={"variable": name, "help": help, "form": form}, repr=not secret)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an operator may set. Durations are in seconds, sizes in bytes or characters as named."""

    database_url: str = _variable(
        "DATABASE_URL", "", "PostgreSQL, as `postgresql://user:password@host:5432/name`", forms.DATABASE_URL, True
    )
    redis_url: str = _variable("REDIS_URL", "", "Redis or Valkey: Celery's broker and result backend", forms.REDIS_URL, True)
    buckets: tuple[str, ...] = _variable("BUCKET", (), "the bucket, or several with commas: no other is read", forms.BUCKETS)
    openai_api_key: str = _variable("OPENAI_API_KEY", "", "key of the embedding provider", forms.KEY, True)
    openai_base_url: str | None = _variable("OPENAI_BASE_URL", None, "another OpenAI-compatible provider", forms.HTTP_URL)
    embedding_provider: str = _variable(
        "LEX_INGEST_EMBEDDING_PROVIDER", "openai", "name under which vectors are kept apart", forms.PROVIDER
    )
    embedding_model: str = _variable(
        "LEX_INGEST_EMBEDDING_MODEL", "text-embedding-3-small", "model name sent to the provider", forms.MODEL
    )
    embedding_dimensions: int = _variable(
        "LEX_INGEST_EMBEDDING_DIMENSIONS",
        1536,
        "length of its vectors, at most 4000 (`vector`: 2000)",
        whole_number(1, MOST_DIMENSIONS["halfvec"], "numbers in a vector"),
    )
    vector_type: str = _variable(
        "LEX_INGEST_VECTOR_TYPE",
        "halfvec",
        "how new tables keep a number: `halfvec` in 2 bytes, `vector` in 4",
        forms.choice(*MOST_DIMENSIONS),
    )
    embedding_send_dimensions: bool = _variable(
        "LEX_INGEST_EMBEDDING_SEND_DIMENSIONS", False, "`1` to ask the provider for that length", forms.SWITCH
    )
    embedding_batch: int = _variable(
        "LEX_INGEST_EMBEDDING_BATCH",
        128,
        "chunks in one provider request, at most",
        whole_number(1, 2048, "chunks"),  # OpenAI API reference, "Create embeddings"
    )
    embedding_in_flight: int = _variable(
        "LEX_INGEST_EMBEDDING_IN_FLIGHT",
        16,
        "provider requests on their way at a time in each process",
        whole_number(1, 256, "requests, each with a thread"),
    )
    embedding_max_tokens: int = _variable(
        "LEX_INGEST_EMBEDDING_MAX_TOKENS",
        8192,
        "tokens in the longest text that the model takes; a longer one is embedded in parts",
        whole_number(16, 1_000_000, "tokens"),
    )
    embedding_timeout: float = _variable(
        "LEX_INGEST_EMBEDDING_TIMEOUT", 60.0, "seconds that one provider request may take", number(0.1, 600, "seconds")
    )
    providers: tuple[tuple[str, Provider], ...] = _variable(
        "LEX_INGEST_PROVIDERS",
        (),
        "keys of other providers, for `lex-ingest model`: `name=key`, `name=key@URL`",
        forms.PROVIDERS,
        True,
    )
    tenants: tuple[str, ...] = _variable(
        "LEX_INGEST_TENANTS", (), "key prefixes that share no stored vector: `acme/,globex/`", forms.PREFIXES
    )
    # The ranges of these two are pgvector's own (its README, "Index Options").
    hnsw_m: int = _variable(
        "LEX_INGEST_HNSW_M", 16, "neighbours of a vector in a new index (pgvector's `m`)", whole_number(2, 100, "neighbours")
    )
    hnsw_ef_construction: int = _variable(
        "LEX_INGEST_HNSW_EF_CONSTRUCTION",
        64,
        "candidates while an index is built (pgvector's `ef_construction`)",
        whole_number(4, 1000, "candidates, at least twice LEX_INGEST_HNSW_M"),
    )
    requests_per_minute: int | None = _variable(
        "LEX_INGEST_REQUESTS_PER_MINUTE",
        None,
        "the provider account's limit, which all workers keep together",
        whole_number(1, 10_000_000, "requests"),
    )
    tokens_per_minute: int | None = _variable(
        "LEX_INGEST_TOKENS_PER_MINUTE",
        None,
        "the same in tokens; none is set: no limit of ours",
        whole_number(1, 100_000_000_000, "tokens"),
    )
    embedding_processes: int = _variable(
        "LEX_INGEST_EMBEDDING_PROCESSES",
        4,
        "processes that embed, of all workers together: with Redis away each keeps to such a part of both limits",
        whole_number(1, 10_000, "processes"),
    )
    budget_per_day: Budget | None = _variable(  # noqa: RUF009 - a Budget is a tuple, so it can't change
        "LEX_INGEST_BUDGET_PER_DAY",
        None,
        "what a day (UTC) of embedding may cost: `5.00` (USD) or `2000000t` (tokens); then documents wait",
        forms.BUDGET,
    )
    prices: tuple[tuple[str, Decimal], ...] = _variable(
        "LEX_INGEST_PRICES", (), "USD for a million tokens, over the known ones: `my-model=0.05,other=0`", forms.PRICES
    )
    text_search: str = _variable(
        "LEX_INGEST_TEXT_SEARCH",
        "english",
        "language of full text search: a configuration of PostgreSQL's, or `simple`",
        forms.TEXT_SEARCH,
    )
    chunk_size: int = _variable("LEX_INGEST_CHUNK_SIZE", 4000, "characters in a chunk, at most", forms.CHUNK_SIZE)
    chunk_overlap: int = _variable(
        "LEX_INGEST_CHUNK_OVERLAP", 400, "characters that neighbouring chunks share", forms.CHUNK_OVERLAP
    )
    chunk_sizes: tuple[tuple[str, ChunkLimits], ...] = _variable(
        "LEX_INGEST_CHUNK_SIZES",
        (),
        "size/overlap by key prefix, the longest wins: `legal/=2000/200,code/=1500/0`",
        forms.CHUNK_SIZES,
    )
    max_object_bytes: int = _variable(
        "LEX_INGEST_MAX_OBJECT_BYTES",
        200_000_000,
        "larger objects end FAILED `too_large`",
        whole_number(1, 50_000_000_000_000, "bytes"),  # an object in S3 has 50 TB at most
    )
    max_text_chars: int = _variable(
        "LEX_INGEST_MAX_TEXT_CHARS",
        20_000_000,
        "longer texts end FAILED `too_large`",
        whole_number(1, 250_000_000, "characters"),  # of up to 4 bytes: PostgreSQL keeps 1 GB in a field
    )
    pdf_engine: str = _variable(
        "LEX_INGEST_PDF_ENGINE",
        "auto",
        "what reads PDFs: `auto`, `pdfium` or `pdfminer` alone",
        forms.choice("auto", "pdfium", "pdfminer"),
    )
    extract_timeout: float = _variable(
        "LEX_INGEST_EXTRACT_TIMEOUT",
        300.0,
        "seconds of CPU time that reading one file may take, at most; four times that of wall time, 23 minutes at most",
        number(1, 1200, "seconds"),
    )
    extract_memory: int = _variable(
        "LEX_INGEST_EXTRACT_MEMORY",
        640_000_000,
        "bytes that a process may take for reading one file",
        whole_number(64_000_000, 1_000_000_000_000, "bytes"),  # an interpreter with the parsers takes the least of these
    )
    lease: float = _variable(
        "LEX_INGEST_LEASE", 30.0, "seconds after which a silent worker has lost its document", number(1, 3600, "seconds")
    )
    tick: float = _variable("LEX_INGEST_TICK", 5.0, "seconds between two ticks of the dispatcher", number(0.1, 3600, "seconds"))
    requeue_after: float = _variable(
        "LEX_INGEST_REQUEUE_AFTER", 8.0, "seconds after which an unanswered wake-up is sent again", number(0.1, 86_400, "seconds")
    )
    low_water: int = _variable(
        "LEX_INGEST_LOW_WATER",
        200,
        "messages in a queue above which the dispatcher waits",
        whole_number(1, 100_000, "messages"),
    )
    shutdown_grace: float = _variable(
        "LEX_INGEST_SHUTDOWN_GRACE",
        20.0,
        "seconds that documents may go on after SIGTERM before they are handed back",
        number(0.1, 1800, "seconds"),  # by then a task has been ended by its own limit (worker.celery_config)
    )
    erase_after: float = _variable(
        "LEX_INGEST_ERASE_AFTER",
        72_000.0,
        "seconds after a removal until its key and its texts' vectors are erased too",
        number(1, _YEAR, "seconds"),
    )
    ledger_days: int = _variable(
        "LEX_INGEST_LEDGER_DAYS",
        14,
        "days that received events are kept in the ledger",
        whole_number(1, 3650, "days, each a partition of a table"),
    )
    log_level: str = _variable(
        "LEX_INGEST_LOG_LEVEL",
        "INFO",
        "level of the JSON logs",
        forms.choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", upper=True),
    )

    def __post_init__(self) -> None:
        if not ChunkLimits(self.chunk_size, self.chunk_overlap).usable:
            raise SettingsError(
                f"LEX_INGEST_CHUNK_OVERLAP={self.chunk_overlap} can't be used: it must be from 0 to half of"
                f" LEX_INGEST_CHUNK_SIZE={self.chunk_size}"
            )
        most = MOST_DIMENSIONS[self.vector_type]
        if self.embedding_dimensions > most:
            raise SettingsError(
                f"LEX_INGEST_EMBEDDING_DIMENSIONS={self.embedding_dimensions} can't be used: pgvector indexes a"
                f" {self.vector_type} (LEX_INGEST_VECTOR_TYPE) of at most {most} dimensions"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the variables. An empty value counts as not set.

        Raises:
            SettingsError: a value can't be read; the message names its variable.
        """
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = item.metadata["variable"]
            raw = environment.get(name, "").strip()
            if not raw:
                continue
            try:
                raw.encode()
            except UnicodeEncodeError:
                raise SettingsError(f"{name} can't be used: its value is not UTF-8") from None
            form: Form = item.metadata["form"]
            try:
                values[item.name] = form.read(raw)
            except ValueError as error:
                reason = f"{error}; " if str(error) else ""
                raise SettingsError(f"{name}={_shown(raw, item)} can't be used: {reason}it must be {form.allowed}") from None
        settings = cls(**values)
        _check_combinations(settings)
        return settings

    def chunk_limits(self, key: str) -> ChunkLimits:
        """The limits of the longest prefix in ``chunk_sizes`` that ``key`` begins with, else the common ones."""
        common = ChunkLimits(self.chunk_size, self.chunk_overlap)
        return next((limits for prefix, limits in self.chunk_sizes if key.startswith(prefix)), common)

    def tenant(self, key: str) -> str:
        """The longest of ``tenants`` that ``key`` begins with, else nothing."""
        return max((prefix for prefix in self.tenants if key.startswith(prefix)), key=len, default="")

    def require(self, *names: str) -> Settings:
        """Return self if each named setting has a value.

        Raises:
            SettingsError: one is empty; the message says what it is and which variable sets it.
        """
        for item in fields(self):
            if item.name in names and not getattr(self, item.name):
                variable, purpose = item.metadata["variable"], item.metadata["help"]
                raise SettingsError(f"{variable} is not set ({purpose})")
        return self


def _check_combinations(settings: Settings) -> None:
    """Return if the settings go together.

    Raises:
        SettingsError: two of them contradict each other; the message names both.
    """
    if settings.hnsw_ef_construction < 2 * settings.hnsw_m:
        raise SettingsError(
            f"LEX_INGEST_HNSW_EF_CONSTRUCTION={settings.hnsw_ef_construction} can't be used: pgvector needs at least twice"
            f" LEX_INGEST_HNSW_M={settings.hnsw_m}"
        )
    if settings.lease < settings.tick:
        raise SettingsError(
            f"LEX_INGEST_LEASE={settings.lease:g} can't be used: it must be at least LEX_INGEST_TICK={settings.tick:g} (seconds),"
            " because a tick finds the documents of lost workers"
        )


def _shown(raw: str, item: Field[Any]) -> str:
    """The value as a message may show it."""
    if item.repr:
        return forms.quoted(forms.without_password(raw) if "://" in raw else raw)
    return forms.quoted(forms.without_password(raw)) if item.metadata["variable"].endswith("_URL") else "…"


VARIABLES: dict[str, str] = {item.metadata["variable"]: item.metadata["help"] for item in fields(Settings)}


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings.from_environment(os.environ)
