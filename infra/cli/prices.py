"""The model that embeds an upload, and an estimate of what that costs."""

from __future__ import annotations

import math
import mimetypes
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from pathlib import Path

from worker.budget import dollars
from worker.contract import LOCAL_PROVIDER
from worker.embed.prices import price_of
from worker.settings import Settings
from worker.store import profiles
from worker.store.profiles import Profile
from worker.store.session import transaction

# Seconds that an upload waits for PostgreSQL to say which model serves. The upload itself needs S3 alone.
_PATIENCE = 3.0
# English prose has about four bytes per token; no text has more tokens than bytes, since tokenisers fall back to bytes.
_TOKENS_PER_BYTE, _MOST_TOKENS_PER_BYTE = Decimal("0.25"), Decimal(1)
# The most that a compressed file unpacks to, times its size: text shrinks to about a third, rarely to a tenth. The expected text
# of such a file is about its size, since it also holds pictures and fonts, which have no text.
_MOST_UNPACKED = 10
_PACKED = ("application/pdf", "application/vnd.openxmlformats", "application/zip", "application/epub", "application/gzip")
_CENT = Decimal("0.01")
_NO_TEXT = ("image/", "audio/", "video/", "font/")


@dataclass(frozen=True, slots=True)
class EmbeddingEstimate:
    """``line`` names the model and the expected price; ``is_paid`` says whether the provider may bill the texts."""

    line: str
    is_paid: bool


def estimate_embedding(paths: Iterable[Path], settings: Settings) -> EmbeddingEstimate:
    """Name the model that embeds these files, its address, and about what that costs."""
    found = _serving(settings)
    if found == ():
        return EmbeddingEstimate("embeddings: no model serves yet; run `lex-ingest migrate`", False)
    profile = found if isinstance(found, Profile) else None
    provider = profile.provider if profile else settings.embedding_provider
    model = profile.model if profile else settings.embedding_model
    own = provider == settings.embedding_provider
    where = (profile.base_url if profile else None) or (settings.openai_base_url if own else None) or provider
    if provider == LOCAL_PROVIDER:
        return EmbeddingEstimate(f"embeddings: {model}, free: on this machine", False)
    price = price_of(model, settings)
    if price == 0:
        return EmbeddingEstimate(f"embeddings: {model} at {where}, free by its price", False)
    usual, most = _tokens(paths, settings)
    line = f"embeddings: {model} at {where}, about {usual:,} tokens by the files' sizes"
    if price is None:
        return EmbeddingEstimate(f"{line}; its price is unknown (LEX_INGEST_PRICES sets it)", True)
    cost, bound = (_money(tokens * price / 1_000_000) for tokens in (usual, most))
    return EmbeddingEstimate(f"{line}, expected to cost {cost}{'' if bound == cost else f', at most {bound}'}", True)


def _money(amount: Decimal) -> str:
    return "less than 0.01 USD" if amount < _CENT else dollars(amount.quantize(_CENT, rounding=ROUND_UP))


def _serving(settings: Settings) -> Profile | tuple[()] | None:
    """The profile that serves; () if there is none yet, None if PostgreSQL does not answer within 3 s."""
    answers: list[Profile | tuple[()]] = []

    def ask() -> None:
        try:
            with transaction(settings.database_url) as connection:
                answers.append(profiles.serving(connection) or ())
        except Exception:  # noqa: BLE001 - an upload needs no database: without one the settings name the model
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return answers[0] if answers else None


def _tokens(paths: Iterable[Path], settings: Settings) -> tuple[int, int]:
    """Estimate the tokens of the files: the expected number and the largest. Text that neighbouring chunks share counts twice."""
    usual = most = 0
    for path in paths:
        kind, packing = mimetypes.guess_type(path.name)
        if kind is not None and kind.startswith(_NO_TEXT):
            continue
        try:
            size = path.stat().st_size
        except OSError:
            # A file that can't be read can't be uploaded, and `put` says why.
            continue
        is_packed = packing is not None or (kind is not None and kind.startswith(_PACKED))
        usual += size
        # max_text_chars counts characters, and a character has at most four bytes.
        most += min(size * (_MOST_UNPACKED if is_packed else 1), settings.max_text_chars * 4)
    shared = 1 + Decimal(settings.chunk_overlap) / max(1, settings.chunk_size - settings.chunk_overlap)
    return math.ceil(usual * _TOKENS_PER_BYTE * shared), math.ceil(most * _MOST_TOKENS_PER_BYTE * shared)
