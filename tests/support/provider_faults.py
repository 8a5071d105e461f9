"""What may go wrong at the test provider, which of it a request meets, and what it makes of an answer. Pure: chance is seeded."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import numpy as np

from tests.support.provider_vectors import Vector


class Kind(StrEnum):
    """The faults, by when they happen."""

    NONE = "none"
    """An undisturbed answer: for scripts."""

    # Before any work; nothing is billed.
    ERROR = "error"
    """An HTTP ``status`` (500), with ``retry_after`` if one is given. 502 has a gateway's HTML page for a body."""
    THROTTLED = "throttled"
    """429 with the headers that the behaviour has; ``retry_after`` is how long."""
    THROTTLED_BARE = "throttled_bare"
    """429 without any header."""
    QUOTA = "quota"
    KEY = "key"
    MODEL = "model"
    RESET = "reset"
    """The connection is reset."""
    CLOSED = "closed"
    """The connection is closed."""

    # After the work: billed, and the client does not learn it. The server counts these as unconfirmed.
    LOST = "lost"
    """The connection is reset before the first byte of the answer."""
    CUT = "cut"
    """The connection is reset in the middle of the answer."""
    TRUNCATED = "truncated"
    """Half of the JSON, as if it were whole."""
    INVALID_JSON = "invalid_json"
    HTML = "html"
    """A page of HTML with status 200."""
    NO_USAGE = "no_usage"

    # After the work: billed, and the answer says so, but it is late or its vectors are of no use.
    SLOW = "slow"
    """The answer trickles for ``seconds`` (1)."""
    LATE = "late"
    """The answer comes ``seconds`` (1) later."""
    TOO_FEW = "too_few"
    TOO_MANY = "too_many"
    DUPLICATE_INDEX = "duplicate_index"
    SHUFFLED = "shuffled"
    """The order is not that of the inputs; the indexes are right, so a client must cope."""
    WRONG_DIMENSIONS = "wrong_dimensions"
    """Each vector is one number short."""
    NAN = "nan"
    """One number of the last vector is NaN."""


REFUSALS = frozenset({Kind.ERROR, Kind.THROTTLED, Kind.THROTTLED_BARE, Kind.QUOTA, Kind.KEY, Kind.MODEL})
DROPS = frozenset({Kind.RESET, Kind.CLOSED})
UNREADABLE = frozenset({Kind.LOST, Kind.CUT, Kind.TRUNCATED, Kind.INVALID_JSON, Kind.HTML, Kind.NO_USAGE})
USELESS = frozenset({Kind.TOO_FEW, Kind.TOO_MANY, Kind.DUPLICATE_INDEX, Kind.WRONG_DIMENSIONS, Kind.NAN})

HTML_PAGE = b"<html><head><title>Just a moment</title></head><body><h1>Please wait</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``chance`` is its probability for each request; in a script it has no meaning."""

    kind: Kind = Kind.NONE
    status: int = 500
    retry_after: float | None = None
    seconds: float = 1.0
    chance: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, value: Fault | str | Mapping[str, Any]) -> Fault:
        """From JSON: a kind's name, ``error_503``, or an object with the fields.

        Raises:
            ValueError: there is no such kind or field.
        """
        if isinstance(value, Fault):
            return value
        if isinstance(value, str):
            name, _, status = value.partition("_")
            if name == "error" and status.isdecimal():
                return cls(Kind.ERROR, int(status))
            return cls(Kind(value))
        unknown = set(value) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
        named = cls.read(str(value.get("kind", "none")))
        return cls(**{"status": named.status, **value, "kind": named.kind})


def read_script(value: Sequence[Any]) -> list[Fault]:
    return [Fault.read(item) for item in value]


def read_chances(value: Mapping[str, float] | Sequence[Any]) -> list[Fault]:
    """From JSON: an object from kind to probability, or a list of faults that have one.

    Raises:
        ValueError: the probabilities are together more than 1.
    """
    if isinstance(value, Mapping):
        read = (Fault.read(name) for name in value)
        found = [Fault(one.kind, one.status, chance=chance) for one, chance in zip(read, value.values(), strict=True)]
    else:
        found = read_script(value)
    if sum(one.chance for one in found) > 1 + 1e-9 or any(one.chance < 0 for one in found):
        raise ValueError("the chances are from 0 to 1, and together at most 1")
    return found


NO_FAULT = Fault()


class Draw:
    """Which fault each request meets: the script's next, or one by chance. The n-th request always meets the same."""

    def __init__(self, seed: int, script: Sequence[Fault] = (), chances: Sequence[Fault] = ()) -> None:
        self._random = random.Random(seed)
        self.script = list(script)
        self.chances = list(chances)

    def next(self) -> Fault:
        if self.script:
            return self.script.pop(0)
        if not self.chances:
            return NO_FAULT
        number = self._random.random()
        for fault in self.chances:
            number -= fault.chance
            if number < 0:
                return fault
        return NO_FAULT


def spoiled_places(kind: Kind, count: int, seed: int) -> list[tuple[int, int]]:
    """The items of an answer to ``count`` inputs: (the index that is told, the input whose vector it is)."""
    places = [(index, index) for index in range(count)]
    match kind:
        case Kind.TOO_FEW:
            places.pop()
        case Kind.TOO_MANY:
            places.append((count, count - 1))
        case Kind.DUPLICATE_INDEX:
            # One input has no last but one to be taken for: its item comes twice.
            places[-1:] = [(max(0, count - 2), count - 1)] if count > 1 else [(0, 0), (0, 0)]
        case Kind.SHUFFLED:
            random.Random(seed).shuffle(places)
            if count > 1 and places[0][0] == 0:
                places.append(places.pop(0))
    return places


def spoiled_vector(kind: Kind, vector: Vector, last: bool) -> Vector:
    if kind is Kind.WRONG_DIMENSIONS:
        return vector[:-1]
    if kind is Kind.NAN and last:
        broken = vector.copy()
        broken[len(broken) // 2] = np.nan
        return broken
    return vector


def spoiled_payload(kind: Kind, payload: bytes) -> bytes:
    match kind:
        case Kind.TRUNCATED:
            return payload[: len(payload) // 2]
        case Kind.INVALID_JSON:
            return payload[:-1] + b",,}"
        case Kind.HTML:
            return HTML_PAGE
    return payload
