"""``lex-ingest reconcile-bucket`` as people and machines run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import boto3

from tests.support.documents import TIDE, delete_object, put_object
from tests.support.reconciling import DENIED, fill_documents, indexed, s3_that_answers, waiting_removals, work_off
from tests.support.truth import violations
from worker.settings import Settings

ROOT = Path(__file__).parents[2]


def command(folder: Path, *arguments: str, expect: int = 0, **variables: str) -> tuple[list[str], str]:
    """Run ``lex-ingest reconcile-bucket`` where no stack is, with this environment; its lines, and its standard error."""
    whole: Sequence[str] = [sys.executable, "-P", "-m", "infra.cli.main", "reconcile-bucket", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(whole, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines(), done.stderr


def test_the_command_tells_people_and_machines_what_differs(settings: Settings, tmp_path: Path) -> None:
    bucket = settings.buckets[0]
    indexed(settings, "gone.txt")
    delete_object(settings, "gone.txt")
    put_object(settings, "new\n+é.txt", TIDE)
    lines, _ = command(tmp_path, "--json", "--dry-run")
    assert [json.loads(line) for line in lines[:-1]] == [
        {"bucket": bucket, "key": "new\n+é.txt", "difference": "missing"},
        {"bucket": bucket, "key": "gone.txt", "difference": "gone"},
    ]
    summary = json.loads(lines[-1])
    assert (summary["objects"], summary["documents"], summary["hinted"], summary["refused"]) == (1, 1, 0, [])
    lines, complaints = command(tmp_path)
    assert lines == [
        "not in the index   $'new\\n+é.txt'",
        "not in the bucket  gone.txt",
        f"{bucket}: 1 object, 1 document; 1 not in the index, 0 changed, 1 gone; 2 hints given",
    ]
    assert complaints == ""
    work_off(settings)
    assert violations(settings.database_url, bucket) == []
    assert json.loads(command(tmp_path, "--json", "--bucket", bucket)[0][0])["hinted"] == 0


def test_the_command_refuses_too_many_removals_and_names_the_next_step(settings: Settings, tmp_path: Path) -> None:
    fill_documents(settings, 300)
    lines, complaints = command(tmp_path, "--prefix", "gone/", expect=1)
    assert len(lines) == 50 + 2
    assert "and 150 more" in lines[50]
    assert "0 hints given" in lines[51]
    next_step = f"lex-ingest reconcile-bucket --bucket {settings.buckets[0]} --prefix gone/ --allow-deletes"
    assert next_step in complaints
    lines, _ = command(tmp_path, *next_step.split()[2:])
    assert "300 gone; 300 hints given" in lines[-1]


def test_the_command_compares_every_bucket_in_turn_and_knows_no_other(settings: Settings, tmp_path: Path) -> None:
    second = "documents-too"
    boto3.client("s3").create_bucket(Bucket=second)
    try:
        boto3.client("s3").put_object(Bucket=second, Key="there.txt", Body=TIDE.encode())
        put_object(settings, "here.txt", TIDE)
        both = ",".join((*settings.buckets, second))
        lines, _ = command(tmp_path, "--json", "--dry-run", BUCKET=both)
        assert {json.loads(line)["bucket"] for line in lines[:-1]} == {settings.buckets[0], second}
        lines, _ = command(tmp_path, "--bucket", second, BUCKET=both)
        assert "there.txt" in lines[0]
        assert len(lines) == 2
        assert "--bucket" in command(tmp_path, "--bucket", second, expect=2)[1]
    finally:
        boto3.client("s3").delete_object(Bucket=second, Key="there.txt")
        boto3.client("s3").delete_bucket(Bucket=second)


def test_the_command_says_what_a_role_lacks(settings: Settings, tmp_path: Path) -> None:
    indexed(settings, "a.txt")
    with s3_that_answers((403, DENIED), (403, b"")) as address:
        _, complaints = command(tmp_path, expect=3, AWS_ENDPOINT_URL=address)
    assert "s3:ListBucket" in complaints
    assert waiting_removals(settings) == 0
