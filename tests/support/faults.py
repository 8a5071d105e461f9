"""The fault tests' frame: one test is one row of the table that ``make faults`` prints.

A row collects figures and violations instead of stopping at the first wrong thing; the fixture ``fault`` fails the test at its
end if there is any violation. Every random choice comes from ``fault.random``, which SEED and the row's name decide.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field

SEED = int(os.environ.get("SEED", "1"))
FULL = os.environ.get("FAULTS") == "full"


@dataclass
class Fault:
    """One row. ``must`` says what has to hold, in the words of the table."""

    name: str
    must: str
    random: random.Random
    figures: dict[str, str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def size(self, short: int, full: int) -> int:
        """How much of it: ``full`` in ``make faults``, ``short`` in ``make test``."""
        return full if FULL else short

    def figure(self, name: str, value: object) -> None:
        """A number for the table; seconds as a float are shown with two digits."""
        self.figures[name] = f"{value:.2f}" if isinstance(value, float) else str(value)

    def violation(self, text: str) -> None:
        self.violations.append(text)

    def require(self, holds: bool, text: str) -> None:
        if not holds:
            self.violation(text)

    @property
    def line(self) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        verdict = "holds" if not self.violations else f"{len(self.violations)} VIOLATIONS"
        return f"{self.name:<18} {verdict:<13} {self.seconds:6.0f} s  {figures}"


ROWS: list[Fault] = []
