"""One check of the doctor's, by itself."""

from __future__ import annotations

import contextlib

from infra.cli import checks
from infra.cli.checks import Check, System, Unusable
from infra.local.stack import Stack
from worker.settings import Settings


def found(name: str, settings: Settings, stack: Stack | None = None) -> Check:
    """What that check finds. The one of the documents looks at the queues, which redis' own has counted by then."""
    system = System(settings, stack, "")
    if name == "documents":
        with contextlib.suppress(Unusable):
            checks._redis(system)
    try:
        return checks._CHECKS[name](system)
    except Unusable as error:
        return Check(name, False, error.found, error.advice)
