"""``lex-ingest put``: what is uploaded under which key, and what is left out and told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.cli import uploads
from worker.domain.errors import PermanentError
from worker.objects import s3_client
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


def test_a_link_to_a_folder_is_named_and_a_loop_of_folders_ends(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "note.txt").write_text("x")
    (tmp_path / "deep" / "up again").symlink_to(tmp_path)
    planned, left_out = uploads.plan([tmp_path], "")
    assert keys(planned) == ["deep/note.txt"]
    assert left_out == [f"'{tmp_path}/deep/up again': a link to a folder, which is not followed"]


def test_a_folder_that_can_t_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "open.txt").write_text("x")
    listed = os.scandir

    def scandir(path: str | Path) -> object:
        # The tests may run as root, whom no permission stops.
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    planned, left_out = uploads.plan([tmp_path], "")
    assert keys(planned) == ["open.txt"]
    assert left_out == [f"{tmp_path}/closed: Permission denied"]


def test_a_key_that_s3_can_t_have_is_named_and_the_others_go(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / ("é" * 60)).write_text("x")
    planned, left_out = uploads.plan([tmp_path], "p" * 950)
    assert keys(planned) == ["p" * 950 + "a.txt"]
    assert left_out == [f"{tmp_path}/{'é' * 60}: a key has at most 1,024 bytes, and this one has 1,070"]


def test_one_object_that_s3_refuses_does_not_stop_the_others_and_refused_credentials_do(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ClientError

    planned = []
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("x")
        planned.append(uploads.Upload(tmp_path / name, name))
    client = s3_client()
    sent = client.upload_file
    code = "EntityTooLarge"

    def upload_file(path: str, *arguments: object, **options: object) -> None:
        if path.endswith("a.txt"):
            answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(answer, "PutObject")  # type: ignore[arg-type]  # the part of an answer that is read
        sent(path, *arguments, **options)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(client, "upload_file", upload_file)
    answers = {upload.key: answer for upload, answer in uploads.upload_all(planned, settings.buckets[0])}
    assert isinstance(answers["a.txt"], ClientError)
    assert isinstance(answers["b.txt"], str)
    code = "InvalidAccessKeyId"
    with pytest.raises(ClientError):
        list(uploads.upload_all(planned, settings.buckets[0]))


def test_what_is_held_up_is_tried_again_for_as_long_as_that_lasts() -> None:
    from botocore.exceptions import EndpointConnectionError

    attempts = 0

    def work() -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 5:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")
        return "done"

    # No patience at all, so that only what holds it up keeps it trying.
    assert uploads.patiently(work, 0, lambda: attempts < 5) == "done"
    attempts = 0
    with pytest.raises(EndpointConnectionError):
        uploads.patiently(work, 0, lambda: attempts < 3)
    assert attempts == 3


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
