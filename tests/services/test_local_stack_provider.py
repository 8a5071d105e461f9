"""Which provider embeds on a local stack: a key that happens to be exported sends no document away."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import typer

from infra.cli import stack as commands
from infra.local.folder import Folder, StackError, create
from infra.local.stack import Stack, down, provider_of
from tests.support.local_stack import older

KEY, URL = "sk-users-own", "http://127.0.0.1:9/v1"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LEX_INGEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", URL)
    monkeypatch.setenv("LEX_INGEST_EMBEDDING_MODEL", "the-users-model")


def names(stack: Stack) -> list[str]:
    return [part.name for part in stack.parts()]


def test_a_key_in_the_environment_alone_is_not_used(
    folder: Path, start: Callable[..., Stack], exported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = start(parts=("valkey", "embeddings"))
    assert names(stack) == ["valkey", "embeddings"]
    assert stack.environment["OPENAI_API_KEY"].startswith("lex-local-")
    assert stack.environment["LEX_INGEST_EMBEDDING_MODEL"] == "all-minilm-l6-v2-int8"
    files = [file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file()]
    assert not any(KEY in text or URL in text for text in files)
    assert provider_of(folder) == "local"


def test_provider_env_uses_it_without_a_model_server_and_is_remembered(
    folder: Path, start: Callable[..., Stack], exported: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = start(parts=("valkey", "embeddings"), provider="env")
    assert names(stack) == ["valkey"]
    assert stack.environment["OPENAI_API_KEY"] == KEY
    assert stack.environment["LEX_INGEST_EMBEDDING_MODEL"] == "the-users-model"
    assert "LEX_INGEST_EMBEDDING_PROVIDER" not in stack.environment
    assert start(parts=("valkey", "embeddings")).environment == stack.environment
    with pytest.raises(StackError, match="embeds by env: run `lex-ingest down` first"):
        start(parts=("valkey",), provider="local")

    down(folder)
    assert provider_of(folder) == "env"
    assert start(parts=("valkey", "embeddings")).environment == stack.environment

    down(folder)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(StackError, match=r"OPENAI_API_KEY is not set.*`lex-ingest up --provider local`"):
        start(parts=("valkey",))
    changed = start(parts=("valkey", "embeddings"), provider="local")
    assert names(changed) == ["valkey", "embeddings"]
    assert provider_of(folder) == "local"


def test_provider_env_after_the_local_model_keeps_its_server_for_the_index_that_it_made(
    folder: Path, start: Callable[..., Stack], exported: None
) -> None:
    own = start(parts=("valkey", "embeddings")).environment
    down(folder)
    stack = start(parts=("valkey", "embeddings"), provider="env")
    assert names(stack) == ["valkey", "embeddings"]
    assert stack.environment["OPENAI_API_KEY"] == KEY
    assert stack.environment["LEX_INGEST_PROVIDERS"] == f"local={own['OPENAI_API_KEY']}@{own['OPENAI_BASE_URL']}"


@pytest.mark.parametrize("provider", ["env", "local"])
def test_a_folder_of_before_goes_on_with_the_provider_that_it_was_made_with(
    folder: Path, start: Callable[..., Stack], exported: None, provider: Literal["env", "local"]
) -> None:
    older(folder, ("valkey", "embeddings"), provider=provider)
    assert Folder.load(folder).provider == ""
    assert provider_of(folder) == provider
    down(folder)
    stack = start(parts=("valkey", "embeddings"))
    assert (stack.environment["OPENAI_API_KEY"] == KEY) is (provider == "env")
    assert json.loads((folder / "stack.json").read_text())["provider"] == provider


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_at_a_terminal_is_asked_for_a_new_stack(exported: None, monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(typer, "confirm", lambda question, **_: asked.append(question) or answer)
    for terminal in (False, True):
        for stream in (sys.stdin, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
        assert commands._ask_for_provider() == ("env" if terminal and answer else "local")
        assert len(asked) == terminal
    assert URL in asked[0]
    # What `lex-ingest env` exports of the stack's own model server is no provider of the user's.
    monkeypatch.setenv("OPENAI_API_KEY", "lex-local-0123")
    assert commands._ask_for_provider() == "local"
    assert len(asked) == 1


def test_a_new_folder_has_no_provider_yet(folder: Path) -> None:
    assert provider_of(folder) is None
    create(folder)
    assert provider_of(folder) is None
