"""Which system a command talks to: the stack beside it, the one of --data-dir, or the one that DATABASE_URL names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.cli import connection
from infra.cli.connection import NoStackError, connect
from worker.settings import Settings, SettingsError

OTHER = "postgresql://reader:secret@db.example.com:6543/prod"


@pytest.fixture
def folder(settings: Settings, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The data folder of the tests' services as the one in the current folder, and an environment without their variables."""
    found = next(path for path in tmp_path_factory.getbasetemp().glob("services*") if (path / "stack.json").exists())
    monkeypatch.setattr(connection, "DEFAULT_DATA_DIR", found)
    saved = dict(os.environ)
    for name in ("DATABASE_URL", "REDIS_URL", "BUCKET", "AWS_ENDPOINT_URL", "QUEUE_URL", "DEAD_LETTER_QUEUE_URL"):
        os.environ.pop(name, None)
    yield found
    os.environ.clear()
    os.environ.update(saved)


def test_the_stack_beside_is_the_one_without_a_word(folder: Path, settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    os.environ.update(AWS_PROFILE="mine", AWS_ENDPOINT_URL_S3="http://127.0.0.1:1", AWS_SESSION_TOKEN="mine")
    found = connect(None)
    assert (found.database_url, found.redis_url, found.buckets) == (settings.database_url, settings.redis_url, settings.buckets)
    # boto3 would go elsewhere by these.
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_S3"} & set(os.environ)
    # The stack's own is an empty one, which takes the place of one that a shell has exported.
    assert not os.environ.get("AWS_SESSION_TOKEN")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("change", ["none", "host", "role"])
def test_the_stack_s_own_url_is_no_other_system(
    folder: Path, settings: Settings, capfd: pytest.CaptureFixture[str], change: str
) -> None:
    url = settings.database_url
    if change == "host":
        url = url.replace("127.0.0.1", "localhost")
    elif change == "role":
        # As a shell has it that took the exports before the stack was made anew.
        url = f"postgresql://earlier:password@{url.rpartition('@')[2]}"
    os.environ["DATABASE_URL"] = url
    assert connect(None).database_url == settings.database_url
    assert capfd.readouterr() == ("", "")


def test_another_database_is_obeyed_and_named_and_everything_else_is_the_environment_s(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    os.environ.update(DATABASE_URL=OTHER, BUCKET="theirs")
    found = connect(None)
    assert (found.database_url, found.redis_url, found.buckets) == (OTHER, "", ("theirs",))
    assert "AWS_ENDPOINT_URL" not in os.environ
    line = f"lex-ingest: talks to the database prod on db.example.com:6543 (DATABASE_URL), not to the stack in {folder}.\n"
    assert capfd.readouterr() == ("", line)
    with pytest.raises(SettingsError, match="REDIS_URL is not set"):
        found.require("redis_url")


@pytest.mark.parametrize("name", ["REDIS_URL", "AWS_ENDPOINT_URL", "QUEUE_URL"])
def test_another_database_beside_the_stack_s_own_queue_or_bucket_is_refused(folder: Path, name: str) -> None:
    from infra.local.folder import Folder

    os.environ.update({"DATABASE_URL": OTHER, name: Folder.load(folder).environment[name]})
    with pytest.raises(SettingsError, match=f"DATABASE_URL names another system than {name}"):
        connect(None)


def test_the_option_goes_before_the_variable_and_says_so(
    folder: Path, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    os.environ.update(DATABASE_URL=OTHER, REDIS_URL="redis://elsewhere:6379/0")
    found = connect(folder)
    assert (found.database_url, found.redis_url) == (settings.database_url, settings.redis_url)
    said = capfd.readouterr().err
    other = "the database prod on db.example.com:6543 (DATABASE_URL)"
    assert said == f"lex-ingest: talks to the stack in {folder} (--data-dir), not to {other}.\n"
    assert "secret" not in said


def test_without_a_stack_the_environment_is_the_only_system_and_nothing_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "DEFAULT_DATA_DIR", tmp_path / "none")
    with pytest.raises(NoStackError, match="No stack is running here"):
        connect(None)
    os.environ["DATABASE_URL"] = OTHER
    assert connect(None).database_url == OTHER
    assert capfd.readouterr() == ("", "")
    with pytest.raises(NoStackError, match="No stack is running in"):
        connect(tmp_path / "none")
