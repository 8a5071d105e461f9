"""Everything that can be set of the test provider, by field name: in Python, as JSON over HTTP, or as a command's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tests.support.provider_faults import Fault, read_chances, read_script
from tests.support.provider_habits import HABITS, POISON
from tests.support.provider_limits import ALGORITHMS, HEADERS, Limits
from tests.support.provider_rules import Sizes
from tests.support.provider_vectors import WAYS


@dataclass(frozen=True, slots=True)
class Behaviour:
    """``latency`` is in seconds, before each answer; ``latency_per_input`` is added where vectors are made.

    A field that is None is not limited or not checked. ``minute`` is how many seconds the limits' minute takes, ``burst``
    the part of a minute's limit that a bucket holds. ``script`` and ``chances`` are read by ``provider_faults``. ``habit`` is one
    of ``provider_habits``. ``serial_latency`` is in seconds for each text, one request after the other, as one processor
    computes; a request whose client has left is computed to its end.
    """

    dimensions: int = 384
    vectors: str = "words"
    latency: float = 0.0
    latency_per_input: float = 0.0
    serial_latency: float = 0.0
    habit: str | None = None
    seed: int = 1
    script: list[Fault] = field(default_factory=list)
    chances: list[Fault] = field(default_factory=list)
    max_inputs: int = 2048
    max_request_tokens: int = 300_000
    max_input_tokens: int = 8192
    too_long_code: str | None = None
    poison: str = "\u2620poison"
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    algorithm: str = "bucket"
    minute: float = 60.0
    burst: float = 1.0
    charge_refused: bool = False
    headers: str = "full"
    keys: list[str] | None = None
    models: list[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "script", read_script(self.script))
        object.__setattr__(self, "chances", read_chances(self.chances))
        for name, allowed in (("vectors", WAYS), ("algorithm", ALGORITHMS), ("headers", HEADERS), ("habit", (None, *HABITS))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}")
        for name in ("requests_per_minute", "tokens_per_minute", "minute", "burst", "dimensions"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0")

    def changed(self, values: Mapping[str, Any]) -> Behaviour:
        """The same but for these fields.

        Raises:
            ValueError: there is no such field, or a value can't be.
        """
        known = {item.name for item in fields(self)}
        if not set(values) <= known:
            raise ValueError(f"there is no {', '.join(sorted(set(values) - known))}; there are {', '.join(sorted(known))}")
        try:
            return replace(self, **values)
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None

    @property
    def sizes(self) -> Sizes:
        # A habit that has its own way with the poison does not refuse it.
        poison = "" if self.habit in POISON else self.poison
        return Sizes(self.max_inputs, self.max_request_tokens, self.max_input_tokens, poison, self.too_long_code)

    @property
    def limits(self) -> Limits:
        """Fresh meters, of which nothing was used."""
        return Limits(
            self.requests_per_minute, self.tokens_per_minute, self.algorithm, self.minute, self.burst, self.charge_refused
        )
