"""The codes that documents end in stand twice: where they are raised, and in the table for users."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from worker.domain.codes import CODES

WORKER = Path(__file__).parents[2] / "worker"


def raised(tree: ast.AST) -> Iterator[str]:
    """The codes of verdicts about a document that a module makes; each must be a literal or be left out."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Rejected" | "NoText" | "TextFailed"), args=[ast.Constant(value=str() as code), *_]):
                yield code
            case ast.Call(func=ast.Name(id="Unsupported"), args=[_, ast.Constant(value=str() as code)]):
                yield code
            case ast.Call(func=ast.Name(id="Unsupported"), keywords=[ast.keyword(arg="code", value=ast.Constant(value=code))]):
                yield str(code)
            case ast.Call(func=ast.Name(id="Unsupported"), args=[_], keywords=[]):
                yield "unsupported_type"


def test_every_code_of_a_verdict_is_in_the_table_and_no_other() -> None:
    found = {code for path in WORKER.rglob("*.py") for code in raised(ast.parse(path.read_text()))}
    assert found - set(CODES) == set(), "say in worker/domain/codes.py what they mean"
    assert set(CODES) - found == set(), "nothing raises them"


def test_the_search_sees_each_way_to_name_a_code() -> None:
    calls = ("Rejected('a', 'x')", "NoText('b', 'x')", "Unsupported('x', 'c')", "Unsupported('x', code='d')", "Unsupported('x')")
    assert list(raised(ast.parse("\n".join(calls)))) == ["a", "b", "c", "d", "unsupported_type"]


def test_each_meaning_is_one_line_that_says_what_to_do() -> None:
    for code, sentence in CODES.items():
        assert code.isidentifier()
        assert code.islower()
        assert sentence.endswith(".")
        assert ";" in sentence, "what is the matter; what to do"


def test_the_readme_has_the_table() -> None:
    readme = (WORKER.parent / "README.md").read_text()
    assert [code for code, sentence in CODES.items() if f"| `{code}` | {sentence} |" not in readme] == []
