"""``lex-ingest put``: what is uploaded under which key, and what is left out and told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.cli import uploads
from worker.domain.errors import PermanentError
from worker.settings import Settings


def keys(planned: list[uploads.Upload]) -> list[str]:
    return [upload.key for upload in planned]


def test_a_folder_s_files_keep_their_path_below_it_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    for name in ("b/two.txt", "one.txt", ".git/config", "b/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    planned, left_out = uploads.plan([tmp_path], "p/")
    assert keys(planned) == ["p/b/two.txt", "p/one.txt"]
    assert left_out == []


def test_what_is_no_regular_file_or_has_no_unicode_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("x")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / os.fsdecode(b"bad\xfe.txt")).write_text("x")
    planned, left_out = uploads.plan([tmp_path], "")
    assert keys(planned) == ["good.txt"]
    assert len(left_out) == 2


def test_mistakes_have_their_codes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    for paths, code in (
        ([tmp_path / "none"], "no_such_file"),
        ([tmp_path / "a.txt", tmp_path / "a.txt"], "same_key"),
        ([], "no_files"),
    ):
        with pytest.raises(PermanentError) as caught:
            uploads.plan(paths, "")
        assert caught.value.code == code


def test_a_file_that_can_t_be_opened_does_not_stop_the_others(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    planned = [uploads.Upload(tmp_path / "a.txt", "a.txt"), uploads.Upload(tmp_path / "gone.txt", "gone.txt")]
    answers = {upload.key: answer for upload, answer in uploads.upload_all(planned, settings.buckets[0])}
    assert isinstance(answers["a.txt"], str)
    assert isinstance(answers["gone.txt"], FileNotFoundError)
