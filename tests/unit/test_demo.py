"""``lex-ingest demo``: what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from infra.cli.demo import demo
from infra.local import stack
from infra.local.stack import StackError


@pytest.mark.parametrize(("error", "left"), [(KeyboardInterrupt(), 0), (StackError("no"), 1)])
def test_ctrl_c_leaves_no_folder_and_a_failure_leaves_its_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, left: int
) -> None:
    stopped = []

    def fails(*_: Any, **__: Any) -> NoReturn:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stack, "up", fails)
    monkeypatch.setattr(stack, "down", stopped.append)
    with pytest.raises(type(error)):
        demo()
    assert len(stopped) == 1
    assert len(list(tmp_path.iterdir())) == left
