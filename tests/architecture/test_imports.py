"""Which module may know which, and what a Lambda function may not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Packages that only the worker needs; each costs a cold start, and the parsers and the provider are no business of it.
NOT_IN_A_FUNCTION = (
    "alembic", "boto3", "botocore", "charset_normalizer", "docx", "lxml", "numpy", "openai", "pdfminer", "pgvector",
    "pptx", "pydantic", "pypdfium2", "rich", "sqlalchemy", "typer", "infra",
    "worker.celery_app", "worker.embed", "worker.extract", "worker.objects", "worker.store.models", "worker.tasks",
)  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """The modules of a fresh process after ``statement``."""
    program = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    environment = {**os.environ, "POWERTOOLS_TRACE_DISABLED": "true"}
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


def test_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("module", ["handlers.s3_events", "handlers.dispatch"])
def test_a_function_loads_nothing_that_only_the_worker_needs(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    # powertools and the X-Ray SDK put empty stand-ins into sys.modules for what they load lazily.
    stand_ins = {"botocore"} if not any(name.startswith("botocore.") for name in loaded) else set()
    heavy = {name for name in loaded if name.startswith(tuple(f"{package}." for package in NOT_IN_A_FUNCTION))}
    assert heavy | (loaded & set(NOT_IN_A_FUNCTION)) - stand_ins == set()
    assert "celery.app.base" in loaded, "the check looks at the right process"


def test_the_settings_and_the_contract_need_only_the_standard_library() -> None:
    loaded = loaded_by("import worker.settings, worker.contract, worker.domain.document, worker.domain.errors")
    packages = {name.partition(".")[0] for name in loaded}
    assert packages & {"celery", "kombu", "psycopg", "redis", "aws_lambda_powertools"} == set()
