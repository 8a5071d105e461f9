"""One local stack for the tests of a file, started by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import lex


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("stack") / "my data"
    lex(path, "up", "--detach")
    yield path
    lex(path, "down")
