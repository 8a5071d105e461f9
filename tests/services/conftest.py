"""Fixtures of several files here: rows that intake makes, and stacks that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from infra.local.stack import Stack, down, up
from tests.support.documents import execute
from tests.support.local_stack import PARTS
from tests.support.models import made, remove
from worker.services import intake
from worker.settings import Settings
from worker.store.profiles import Profile


@pytest.fixture
def fresh_connection() -> Iterator[None]:
    yield
    intake._connections.close()


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A name with characters that configuration files and shells treat in their own way."""
    return tmp_path / "data #1; 100%(x)s 'é"


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Stack]]:
    """``up`` of stacks that end with the test, however that ends."""
    started: list[Stack] = []

    def start(path: Path = folder, parts: tuple[str, ...] = PARTS, **options: Any) -> Stack:
        started.append(up(path, parts=parts, detach=False, **options))
        return started[-1]

    yield start
    for stack in started:
        down(stack.data_dir)
        if stack.supervisor is not None:
            stack.supervisor.wait()


@pytest.fixture
def other(settings: Settings) -> Iterator[Profile]:
    """A second embedding profile, and the first one serving again at the end."""
    yield made(settings, dimensions=128)
    execute(settings, "UPDATE embedding_profiles SET serving = false")
    execute(settings, "UPDATE embedding_profiles SET serving = true WHERE id = 1")
    remove(settings)
