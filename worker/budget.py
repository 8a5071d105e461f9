"""How money is written in settings: a day's budget, and prices of models. Standard library only, and never a float."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

_TOKENS = "t"
# Beyond any account's; a figure above them is a typing slip.
_MOST_DOLLARS, _MOST_TOKENS, _MOST_PRICE = 1_000_000_000, 10**15, 1_000_000
BUDGET_FORM = f"dollars such as 5.00 (more than 0, at most {_MOST_DOLLARS}) or tokens such as 2000000t (from 1 to {_MOST_TOKENS})"
PRICES_FORM = f"model=dollars for a million tokens (from 0 to {_MOST_PRICE}), with commas between several"


class Budget(NamedTuple):
    """What a day (UTC) may cost: so many dollars, or so many tokens."""

    amount: Decimal
    in_tokens: bool

    def __str__(self) -> str:
        return self.say(self.amount)

    def say(self, amount: Decimal) -> str:
        """An amount in this budget's unit, for people."""
        return f"{int(amount):,} tokens" if self.in_tokens else dollars(amount)


def dollars(amount: Decimal) -> str:
    """Dollars with two decimals, or with as many as are needed, at most six (a micro-dollar): ``5.00 USD``, ``0.000142 USD``."""
    whole, _, rest = f"{amount:.6f}".partition(".")
    return f"{whole}.{rest.rstrip('0'):0<2} USD"


def read_budget(value: str) -> Budget:
    """Read ``5`` or ``5.00`` (dollars) or ``2000000t`` (tokens).

    Raises:
        ValueError: it is neither, or not more than 0: to spend nothing at all, stop the workers.
    """
    in_tokens = value.endswith(_TOKENS)
    amount = _decimal(value.removesuffix(_TOKENS))
    most = _MOST_TOKENS if in_tokens else _MOST_DOLLARS
    if amount is None or not 0 < amount <= most or (in_tokens and amount != int(amount)):
        raise ValueError(f"a budget must be {BUDGET_FORM}")
    return Budget(amount, in_tokens)


def read_prices(value: str) -> tuple[tuple[str, Decimal], ...]:
    """Read ``model=dollars`` pairs with commas between them; the price is for a million input tokens. A name may hold ``=``.

    Raises:
        ValueError: one is not of that form, is negative, or is given twice.
    """
    prices: dict[str, Decimal] = {}
    for pair in (part.strip() for part in value.removesuffix(",").split(",")):
        model, _, price = (part.strip() for part in pair.rpartition("="))
        amount = _decimal(price)
        if not model or amount is None or amount > _MOST_PRICE:
            raise ValueError(f"{pair[:80]!r} is not of the form model=dollars")
        if model in prices:
            raise ValueError(f"{model[:80]!r} has two prices")
        prices[model] = amount
    return tuple(prices.items())


def _decimal(value: str) -> Decimal | None:
    """A plain amount; None for one with a sign, an exponent, or digits other than ASCII ones."""
    return Decimal(value) if re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?", value) else None
