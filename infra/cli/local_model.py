"""The load of the local model server, which ``status``, ``put --wait`` and ``doctor`` show to explain why embedding is slow."""

from __future__ import annotations

import json
import math
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from worker.contract import LOCAL_PROVIDER
from worker.settings import Settings

# Seconds. A frozen server must not delay a command that asks only to explain why something is slow.
_TIMEOUT = 2.0
_MOST_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class LocalModelLoad:
    """What the server reports. ``waiting_texts`` are accepted and have no vector yet.

    ``texts_per_second`` is None if the server has embedded nothing since it started.
    """

    texts_per_second: float | None
    waiting_texts: int

    def sentence(self, to_go: int | None = None) -> str | None:
        """Say that the model is busy, and how many chunks are to go; None if it is idle, or nothing is to go.

        Args:
            to_go: chunks without a vector, if the caller has counted them; by default the server's ``waiting_texts``.
        """
        left = self.waiting_texts if to_go is None else to_go
        if left <= 0 or (self.waiting_texts == 0 and self.texts_per_second is None):
            return None
        rate = "" if self.texts_per_second is None else f"{self.texts_per_second:.1f} chunks/s, "
        return f"the local model is busy: {rate}{left:,} to go"


def load(settings: Settings) -> LocalModelLoad | None:
    """Ask the local model server for its load. None if there is no such server, or no usable answer within 2 s."""
    address = _address(settings)
    if address is None:
        return None
    url, key = address
    request = urllib.request.Request(f"{url.rstrip('/')}/status", headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - an operator's setting, checked to be HTTP
    # Ignore HTTP_PROXY: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT) as answer:
            return _read(json.loads(answer.read(_MOST_BYTES)))
    except (OSError, HTTPException, ValueError):
        return None


def _address(settings: Settings) -> tuple[str, str] | None:
    """Where the local model server answers, and its key: the settings' own provider, or one of LEX_INGEST_PROVIDERS."""
    if settings.embedding_provider == LOCAL_PROVIDER:
        url, key = settings.openai_base_url, settings.openai_api_key
    else:
        provider = dict(settings.providers).get(LOCAL_PROVIDER)
        url, key = (provider.base_url, provider.key) if provider is not None else (None, "")
    return (url, key) if url is not None and url.startswith(("http://", "https://")) else None


def _read(answer: Any) -> LocalModelLoad | None:
    if not isinstance(answer, dict):
        return None
    waiting, rate = answer.get("waiting_texts"), answer.get("texts_per_second")
    if isinstance(waiting, bool) or not isinstance(waiting, int) or waiting < 0:
        return None
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not math.isfinite(rate) or rate <= 0:
        rate = None
    return LocalModelLoad(rate, waiting)
