"""One frozen Settings object: the only place that reads the environment. Standard library only.

Names that a whole field knows (``DATABASE_URL``, ``OPENAI_API_KEY``, ``AWS_ENDPOINT_URL`` …) keep them; ours begin with
``LEX_INGEST_``. The AWS ones are read by boto3 itself. The README's table of settings is tested against ``VARIABLES``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import lru_cache
from typing import Any

from worker.budget import Budget, read_budget, read_prices
from worker.setting_values import (
    MOST_DIMENSIONS,
    ChunkLimits,
    Provider,
    read_chunk_sizes,
    read_names,
    read_pdf_engine,
    read_positive,
    read_providers,
    read_seconds,
    read_vector_type,
)


class SettingsError(ValueError):
    """A variable is missing or has a value that can't be used. The message names the variable."""


def _variable(name: str, default: Any, help: str, read: Callable[[str], Any] = str, secret: bool = False) -> Any:
    return field(default=default, metadata={"variable": name, "help": help, "read": read}, repr=not secret)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an operator may set. Durations are in seconds, sizes in bytes or characters as named."""

    database_url: str = _variable("DATABASE_URL", "", "PostgreSQL, as `postgresql://user:password@host:5432/name`", secret=True)
    redis_url: str = _variable("REDIS_URL", "", "Redis or Valkey: Celery's broker and result backend", secret=True)
    buckets: tuple[str, ...] = _variable("BUCKET", (), "the bucket, or several with commas: no other is read", read_names)
    openai_api_key: str = _variable("OPENAI_API_KEY", "", "key of the embedding provider", secret=True)
    openai_base_url: str | None = _variable("OPENAI_BASE_URL", None, "another OpenAI-compatible provider")
    embedding_provider: str = _variable("LEX_INGEST_EMBEDDING_PROVIDER", "openai", "name under which vectors are kept apart")
    embedding_model: str = _variable("LEX_INGEST_EMBEDDING_MODEL", "text-embedding-3-small", "model name sent to the provider")
    embedding_dimensions: int = _variable(
        "LEX_INGEST_EMBEDDING_DIMENSIONS", 1536, "length of its vectors, at most 4000 (`vector`: 2000)", read_positive
    )
    vector_type: str = _variable(
        "LEX_INGEST_VECTOR_TYPE", "halfvec", "how new tables keep a number: `halfvec` in 2 bytes, `vector` in 4", read_vector_type
    )
    embedding_send_dimensions: bool = _variable(
        "LEX_INGEST_EMBEDDING_SEND_DIMENSIONS", False, "`1` to ask the provider for that length", lambda value: value == "1"
    )
    embedding_batch: int = _variable("LEX_INGEST_EMBEDDING_BATCH", 128, "chunks in one provider request, at most", read_positive)
    embedding_in_flight: int = _variable(
        "LEX_INGEST_EMBEDDING_IN_FLIGHT", 16, "provider requests on their way at a time in each process", read_positive
    )
    embedding_max_tokens: int = _variable(
        "LEX_INGEST_EMBEDDING_MAX_TOKENS",
        8192,
        "tokens in the longest text that the model takes; a longer one is embedded in parts",
        read_positive,
    )
    embedding_timeout: float = _variable(
        "LEX_INGEST_EMBEDDING_TIMEOUT", 60.0, "seconds that one provider request may take", read_seconds
    )
    providers: tuple[tuple[str, Provider], ...] = _variable(
        "LEX_INGEST_PROVIDERS",
        (),
        "keys of other providers, for `lex-ingest model`: `name=key`, `name=key@URL`",
        read_providers,
        True,
    )
    tenants: tuple[str, ...] = _variable(
        "LEX_INGEST_TENANTS", (), "key prefixes that share no stored vector: `acme/,globex/`", read_names
    )
    hnsw_m: int = _variable("LEX_INGEST_HNSW_M", 16, "neighbours of a vector in a new index (pgvector's `m`)", read_positive)
    hnsw_ef_construction: int = _variable(
        "LEX_INGEST_HNSW_EF_CONSTRUCTION", 64, "candidates while an index is built (pgvector's `ef_construction`)", read_positive
    )
    requests_per_minute: int | None = _variable(
        "LEX_INGEST_REQUESTS_PER_MINUTE", None, "the provider account's limit, which all workers keep together", read_positive
    )
    tokens_per_minute: int | None = _variable(
        "LEX_INGEST_TOKENS_PER_MINUTE", None, "the same in tokens; none is set: no limit of ours", read_positive
    )
    embedding_processes: int = _variable(
        "LEX_INGEST_EMBEDDING_PROCESSES",
        4,
        "processes that embed, of all workers together: with Redis away each keeps to such a part of both limits",
        read_positive,
    )
    budget_per_day: Budget | None = _variable(  # noqa: RUF009 - a Budget is a tuple, so it can't change
        "LEX_INGEST_BUDGET_PER_DAY",
        None,
        "what a day (UTC) of embedding may cost: `5.00` (USD) or `2000000t` (tokens); then documents wait",
        read_budget,
    )
    prices: tuple[tuple[str, Decimal], ...] = _variable(
        "LEX_INGEST_PRICES", (), "USD for a million tokens, over the known ones: `my-model=0.05,other=0`", read_prices
    )
    text_search: str = _variable(
        "LEX_INGEST_TEXT_SEARCH", "english", "language of full text search: a configuration of PostgreSQL's, or `simple`"
    )
    chunk_size: int = _variable("LEX_INGEST_CHUNK_SIZE", 4000, "characters in a chunk, at most", read_positive)
    chunk_overlap: int = _variable("LEX_INGEST_CHUNK_OVERLAP", 400, "characters that neighbouring chunks share", int)
    chunk_sizes: tuple[tuple[str, ChunkLimits], ...] = _variable(
        "LEX_INGEST_CHUNK_SIZES",
        (),
        "size/overlap by key prefix, the longest wins: `legal/=2000/200,code/=1500/0`",
        read_chunk_sizes,
    )
    max_object_bytes: int = _variable(
        "LEX_INGEST_MAX_OBJECT_BYTES", 200_000_000, "larger objects end FAILED `too_large`", read_positive
    )
    max_text_chars: int = _variable("LEX_INGEST_MAX_TEXT_CHARS", 20_000_000, "longer texts end FAILED `too_large`", read_positive)
    pdf_engine: str = _variable(
        "LEX_INGEST_PDF_ENGINE", "auto", "what reads PDFs: `auto`, `pdfium` or `pdfminer` alone", read_pdf_engine
    )
    extract_timeout: float = _variable(
        "LEX_INGEST_EXTRACT_TIMEOUT", 300.0, "seconds that reading one file may take, at most", read_seconds
    )
    extract_memory: int = _variable(
        "LEX_INGEST_EXTRACT_MEMORY", 640_000_000, "bytes that a process may take for reading one file", read_positive
    )
    lease: float = _variable("LEX_INGEST_LEASE", 30.0, "seconds after which a silent worker has lost its document", read_seconds)
    tick: float = _variable("LEX_INGEST_TICK", 5.0, "seconds between two ticks of the dispatcher", read_seconds)
    requeue_after: float = _variable(
        "LEX_INGEST_REQUEUE_AFTER", 8.0, "seconds after which an unanswered wake-up is sent again", read_seconds
    )
    low_water: int = _variable("LEX_INGEST_LOW_WATER", 200, "messages in a queue above which the dispatcher waits", read_positive)
    shutdown_grace: float = _variable(
        "LEX_INGEST_SHUTDOWN_GRACE",
        20.0,
        "seconds that documents may go on after SIGTERM before they are handed back",
        read_seconds,
    )
    erase_after: float = _variable(
        "LEX_INGEST_ERASE_AFTER",
        72_000.0,
        "seconds after a removal until its key and its texts' vectors are erased too",
        read_seconds,
    )
    ledger_days: int = _variable("LEX_INGEST_LEDGER_DAYS", 14, "days that received events are kept in the ledger", read_positive)
    log_level: str = _variable("LEX_INGEST_LOG_LEVEL", "INFO", "level of the JSON logs")

    def __post_init__(self) -> None:
        if not ChunkLimits(self.chunk_size, self.chunk_overlap).usable:
            raise SettingsError("LEX_INGEST_CHUNK_OVERLAP must be from 0 to half of LEX_INGEST_CHUNK_SIZE")
        most = MOST_DIMENSIONS[self.vector_type]
        if self.embedding_dimensions > most:
            raise SettingsError(
                f"LEX_INGEST_EMBEDDING_DIMENSIONS: pgvector indexes a {self.vector_type} of at most {most} dimensions"
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
                values[item.name] = item.metadata["read"](raw)
            except ValueError as error:
                shown = "…" if not item.repr else repr(raw)
                raise SettingsError(f"{name}={shown} can't be used: {error}") from None
        return cls(**values)

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


VARIABLES: dict[str, str] = {item.metadata["variable"]: item.metadata["help"] for item in fields(Settings)}


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings.from_environment(os.environ)
