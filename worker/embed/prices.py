"""What models cost: the list prices in prices.json, and what the operator sets over them (``LEX_INGEST_PRICES``)."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from worker.settings import Settings


@lru_cache(maxsize=1)
def list_prices() -> dict[str, Decimal]:
    """Model -> dollars for a million input tokens, as its provider had them on the day that the file says."""
    content = json.loads(Path(__file__).with_name("prices.json").read_text(), parse_float=Decimal, parse_int=Decimal)
    return {model: entry["price"] for model, entry in content["models"].items()}


def price_of(model: str, settings: Settings) -> Decimal | None:
    """Dollars for a million tokens, or None where nobody has said: then money is unknown, and never 0."""
    own = dict(settings.prices)
    return own[model] if model in own else list_prices().get(model)
