"""The fixture of a row, and the table at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.support.faults import FULL, ROWS, SEED, Fault


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    """The row of this test: ``@pytest.mark.fault(name, must)``."""
    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "a fault test names its row"
    row = Fault(*mark.args, random.Random(f"{SEED} {mark.args[0]}"))
    ROWS.append(row)
    yield row
    assert row.violations == [], row.line


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A fixture does not see how its test ended: a row whose test broke off must not say that it holds."""
    row = getattr(item, "funcargs", {}).get("fault")
    if row is not None and call.when == "call":
        row.seconds = time.monotonic() - row.started
        if call.excinfo is not None:
            row.violation(f"the test broke off: {call.excinfo.typename}")
    return (yield)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not ROWS:
        return
    terminalreporter.section(f"faults, {'in full' if FULL else 'short form'}, SEED={SEED}")
    for row in ROWS:
        terminalreporter.write_line(row.line)
        for violation in row.violations[:20]:
            terminalreporter.write_line(f"    VIOLATION {violation}")
