"""How busy the local model is, as its own server says."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass

from worker.settings import Settings

# The provider name under which the local stack keeps the vectors of its own model (infra.local.parts).
PROVIDER = "local"
_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class LocalModelLoad:
    """``texts_per_second`` is what the model does now; ``waiting_texts`` are those that it has not begun."""

    texts_per_second: float
    waiting_texts: int


def load(settings: Settings) -> LocalModelLoad | None:
    """Ask the local model's server. None where there is no local model, or it does not say."""
    url, key = settings.openai_base_url, settings.openai_api_key
    if settings.embedding_provider != PROVIDER:
        other = dict(settings.providers).get(PROVIDER)
        url, key = (other.base_url, other.key) if other else (None, "")
    if not url:
        return None
    request = urllib.request.Request(f"{url.rstrip('/')}/status", headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - http(s) by the setting's form
    try:
        # The server is on this machine: no proxy of the environment may stand in between.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_TIMEOUT) as answer:
            said = json.load(answer)
        return LocalModelLoad(float(said["texts_per_second"]), int(said["waiting_texts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
