"""Rules for every source file: its suppressions, and who may change a document's row."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("handlers", "worker", "infra") for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

_SUPPRESSION = re.compile(
    r"#\s*(?:noqa(?P<codes>:\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*)?|type:\s*ignore(?P<types>\[[^\]]+\])?)(?P<rest>.*)"
)
_WRITES_DOCUMENTS = re.compile(r"\b(?:insert\s+into|update|delete\s+from)\s+documents\b", re.IGNORECASE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def unexplained(comment: str) -> bool:
    """Whether the comment switches a check off without naming the check and giving a reason."""
    found = _SUPPRESSION.search(comment)
    if found is None:
        return False
    return not (found["codes"] or found["types"]) or len(re.findall(r"\w+", found["rest"])) < 2


def test_every_suppression_names_its_check_and_gives_a_reason() -> None:
    found = [f"{name(path)}:{line}: {text}" for path in SOURCES + TESTS for line, text in comments(path) if unexplained(text)]
    assert found == []


@pytest.mark.parametrize(
    ("comment", "wanted"),
    [
        ("# noqa", True),
        ("# noqa: S101", True),
        ("# type: ignore", True),
        ("# type: ignore[misc]", True),
        ("# type: ignore  # Celery ships no types", True),
        ("# type: ignore[misc]  # Celery ships no types", False),
        ("# noqa: BLE001 - whatever a function raises is a failed batch", False),
        ("# an ordinary remark", False),
    ],
)
def test_the_check_of_suppressions_knows_good_from_bad(comment: str, wanted: bool) -> None:
    assert unexplained(comment) is wanted


def test_every_check_that_pyproject_switches_off_has_a_reason_on_its_line() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    codes = {*lint["ignore"], *(code for many in lint["per-file-ignores"].values() for code in many)}
    assert codes
    lines = [line for line in text.splitlines() if any(f'"{code}"' in line for code in codes) and "select" not in line]
    without = [line for line in lines if len(re.findall(r"\w+", line.partition("#")[2])) < 2]
    assert without == []


def calls_on_documents(tree: ast.AST) -> Iterator[int]:
    """Lines that change rows of ``documents``: SQLAlchemy statements, SQL text, or an attribute that is assigned."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="update" | "insert" | "delete"), args=[ast.Name(id="Document"), *_]):
                yield node.lineno
            case ast.Constant(value=str() as text) if _WRITES_DOCUMENTS.search(text):
                yield node.lineno
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=owner), attr="status"), *_]) if owner != "self":
                yield node.lineno


def test_only_the_store_changes_a_documents_row() -> None:
    found = [
        f"{name(path)}:{line}"
        for path in SOURCES
        if not path.is_relative_to(ROOT / "worker" / "store")
        for line in calls_on_documents(ast.parse(path.read_text()))
    ]
    assert found == []


def test_each_store_module_that_sets_a_status_checks_the_move() -> None:
    """The guard is ``check_transition``, or the table of moves itself."""
    writers = []
    for path in sorted((ROOT / "worker" / "store").glob("*.py")):
        text = path.read_text()
        removes_only = not re.search(
            r"\b(insert into documents|update documents|update\(Document|insert\(Document)", text, re.IGNORECASE
        )
        if list(calls_on_documents(ast.parse(text))) and not removes_only and re.search(r"\bstatus\b\"?\s*[=:]", text):
            writers.append(path.name)
            assert re.search(r"\b(check_transition|TRANSITIONS)\b", text), path.name
    assert {"hints.py", "leases.py"} <= set(writers)


@pytest.mark.parametrize(
    "source",
    ["update(Document).values(status=1)", "'UPDATE documents SET status = 1'", "document.status = 'X'", "insert(Document)"],
)
def test_the_check_of_writers_sees_each_way_to_write(source: str) -> None:
    assert list(calls_on_documents(ast.parse(source))) == [1]
