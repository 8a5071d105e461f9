"""The Makefile, the lock files, the licence and what CI runs."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "infra" / "requirements"
MAKEFILE = (ROOT / "Makefile").read_text()
WANTED = {"demo", "test", "lint", "up", "down", "lock", "help"}


def _make(*arguments: str, folder: Path = ROOT) -> str:
    """What make prints in a folder. No variable of a make around this test run reaches it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _phony() -> set[str]:
    line = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert line
    return set(line[1].split())


def _pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", path.read_text(), re.MULTILINE))


def test_every_target_is_in_the_help() -> None:
    shown = set(re.findall(r"\b([a-z]+(?:-\w+)?)\b(?=.*  )", _make("help")))
    assert shown >= _phony()
    assert _phony() >= WANTED


def test_make_alone_prints_the_help() -> None:
    assert _make() == _make("help")


def test_a_python_that_is_too_old_or_missing_is_named_with_a_way_out(tmp_path: Path) -> None:
    old = tmp_path / "python2"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 2.7.18"\nexit 1\n')
    old.chmod(0o755)
    clone = tmp_path / "clone"
    for name in ("Makefile", "pyproject.toml", "infra/requirements/dev.txt"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes((ROOT / name).read_bytes())
    for python in (str(old), "python-that-is-nowhere"):
        printed = _make(f"PYTHON={python}", "lint", folder=clone)
        assert "needs Python 3.11 or newer" in printed
        assert "make PYTHON=" in printed


@pytest.mark.parametrize("name", ["dev", "worker", "lambda", "embeddings"])
def test_a_lock_file_pins_every_package_by_hash_and_names_no_address(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 10
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==\S+", entry), entry[:60]
        assert "--hash=sha256:" in entry, entry[:60]


@pytest.mark.parametrize("name", ["worker", "lambda", "embeddings"])
def test_what_is_deployed_is_what_was_tested(name: str) -> None:
    tested, deployed = _pins(LOCKS / "dev.txt"), _pins(LOCKS / f"{name}.txt")
    assert {package: version for package, version in deployed.items() if tested.get(package) != version} == {}


def test_the_locks_hold_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for names, lock in (
        (project["dependencies"], "worker"),
        (extras["lambda"], "lambda"),
        (extras["local"] + extras["dev"], "dev"),
    ):
        wanted = {re.split(r"[\[<>=]", name)[0].lower().replace("_", "-").replace(".", "-") for name in names} - {"lex-ingest"}
        assert wanted <= set(_pins(LOCKS / f"{lock}.txt")) | {"pdfminer-six"}, lock


def test_the_lambda_package_holds_no_parser_and_no_provider() -> None:
    assert not {"openai", "lxml", "numpy", "pypdfium2", "python-docx", "python-pptx"} & set(_pins(LOCKS / "lambda.txt"))


def test_the_licence_is_apache_2_in_full() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert "Copyright lex-ingest contributors" in licence


def test_ci_runs_the_lint_line_and_the_same_tests_as_a_person() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert [line for line in lines if line.startswith("make ")] == ["make lint", "make test"]


def test_lint_checks_everything_that_the_project_promises() -> None:
    planned = _make("--dry-run", "lint", "-o", ".venv/.installed", "-o", ".venv/.locked")
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports", "cfn-lint template.yaml"):
        assert tool in planned
