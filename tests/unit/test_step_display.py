"""What `up` says while it waits."""

from __future__ import annotations

import io
import sys
import time

import pytest

from infra.cli.step_display import StepDisplay


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def until_said(stream: io.StringIO, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in stream.getvalue():
        assert time.monotonic() < deadline, stream.getvalue()
        time.sleep(0.05)


def test_a_step_that_takes_long_is_named_again_and_again_with_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    with StepDisplay() as steps:
        steps.wait("postgres")
        deadline = time.monotonic() + 60
        while said.getvalue().count("  … postgres, ") < 2:
            assert time.monotonic() < deadline, said.getvalue()
            time.sleep(0.05)
        steps.done("postgres answers")
        steps.wait("valkey")
        until_said(said, "  … valkey, ")
    assert "  postgres answers\n" in said.getvalue()


def test_at_a_terminal_the_line_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Terminal()
    monkeypatch.setattr(sys, "stderr", said)
    with StepDisplay() as steps:
        steps.wait("postgres")
        until_said(said, "… postgres, ")
        steps.done("postgres answers")
    assert said.getvalue().endswith("\r\x1b[K")
    assert "\r\x1b[K  postgres answers\n" in said.getvalue()
