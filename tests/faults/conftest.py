"""The fixture of a row, and the table at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.faults import FULL, ROWS, SEED, Fault


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    """The row of this test: ``@pytest.mark.fault(name, must)``."""
    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "a fault test names its row"
    row = Fault(*mark.args, random.Random(f"{SEED} {mark.args[0]}"))
    try:
        yield row
    except BaseException:
        row.violation("the test broke off")
        raise
    finally:
        row.seconds = time.monotonic() - row.started
        ROWS.append(row)
    assert row.violations == [], row.line


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not ROWS:
        return
    terminalreporter.section(f"faults, {'in full' if FULL else 'short form'}, SEED={SEED}")
    for row in ROWS:
        terminalreporter.write_line(row.line)
        for violation in row.violations[:20]:
            terminalreporter.write_line(f"    VIOLATION {violation}")
