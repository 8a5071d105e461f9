"""What the test provider has seen, as it sees it: what it would put on the bill, and what it knows of the answers' fate."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

# What is kept for exactly-once checks; past it ``texts.full`` says that the counts are not whole.
MOST_TEXTS = 500_000
MOST_REQUESTS = 20_000


@dataclass
class Sum:
    """Requests, inputs and tokens of one kind."""

    requests: int = 0
    inputs: int = 0
    tokens: int = 0

    def add(self, inputs: int, tokens: int) -> None:
        self.requests += 1
        self.inputs += inputs
        self.tokens += tokens


@dataclass(slots=True)
class Bill:
    """One request that was worked on. ``told`` is whether its answer, if it arrives whole, tells the usage."""

    at: float
    model: str
    digests: list[bytes]
    tokens: int
    told: bool = True
    outcome: str = "in flight"


@dataclass
class Counts:
    """``billed = answered + unconfirmed + those in flight``, in requests, inputs and tokens alike.

    ``answered`` were written whole into the client's connection; ``unconfirmed`` are those whose answer was spoiled on purpose
    so that nobody can read its usage, or whose client had gone; the latter are also in ``deserted``. A client that dies with
    the answer in its buffer can't be told from one that read it. ``useless`` are answered ones without usable vectors.
    """

    billed: Sum = field(default_factory=Sum)
    answered: Sum = field(default_factory=Sum)
    unconfirmed: Sum = field(default_factory=Sum)
    deserted: Sum = field(default_factory=Sum)
    useless: Sum = field(default_factory=Sum)
    limited: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    max_inputs: int = 0
    max_tokens: int = 0
    first_at: float | None = None
    last_at: float | None = None
    paths: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    tokens_by_model: Counter[str] = field(default_factory=Counter)
    texts: Counter[bytes] = field(default_factory=Counter)
    requests: deque[Bill] = field(default_factory=lambda: deque(maxlen=MOST_REQUESTS))
    full: bool = False

    def arrive(self, path: str) -> None:
        self.paths[path] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def bill(self, bill: Bill) -> None:
        self.billed.add(len(bill.digests), bill.tokens)
        self.tokens_by_model[bill.model] += bill.tokens
        self.max_inputs = max(self.max_inputs, len(bill.digests))
        self.max_tokens = max(self.max_tokens, bill.tokens)
        self.first_at = bill.at if self.first_at is None else self.first_at
        self.last_at = bill.at
        self.requests.append(bill)
        if len(self.texts) + len(bill.digests) > MOST_TEXTS:
            self.full = True
        else:
            self.texts.update(bill.digests)

    def leave(self, status: int, bill: Bill | None, delivered: bool, useless: bool) -> None:
        """The request has ended: its answer was written whole, or it was not."""
        self.in_flight -= 1
        self.statuses[str(status) if status else "none"] += 1
        if bill is None:
            return
        size = len(bill.digests), bill.tokens
        if delivered and bill.told:
            bill.outcome = "useless" if useless else "answered"
            self.answered.add(*size)
            if useless:
                self.useless.add(*size)
            return
        bill.outcome = "unconfirmed" if not bill.told else "deserted"
        self.unconfirmed.add(*size)
        if bill.told:
            self.deserted.add(*size)

    def as_json(self) -> dict[str, Any]:
        """All of it but the texts and the requests themselves."""
        found: dict[str, Any] = {
            name: vars(getattr(self, name)) for name in ("billed", "answered", "unconfirmed", "deserted", "useless")
        }
        for name in ("limited", "in_flight", "max_in_flight", "max_inputs", "max_tokens", "first_at", "last_at"):
            found[name] = getattr(self, name)
        for name in ("paths", "statuses", "faults", "tokens_by_model"):
            found[name] = dict(getattr(self, name))
        times = self.texts.values()
        found["texts"] = {
            "distinct": len(times),
            "repeated": sum(count > 1 for count in times),
            "most": max(times, default=0),
            "full": self.full,
        }
        return found

    def texts_as_json(self, at_least: int = 1) -> dict[str, int]:
        """sha256 in hex -> how many times the text was billed."""
        return {digest.hex(): count for digest, count in self.texts.items() if count >= at_least}

    def requests_as_json(self) -> list[dict[str, Any]]:
        return [
            {
                "at": bill.at,
                "model": bill.model,
                "digests": [digest.hex() for digest in bill.digests],
                "tokens": bill.tokens,
                "outcome": bill.outcome,
            }
            for bill in self.requests
        ]
