"""What commands print of keys, texts and counts: nothing that a terminal acts on, and keys as a shell reads them."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.cli.output import visible_key, visible_line, visible_text
from worker.domain.plurals import plural

HOSTILE = [
    "a b.txt", "it's", "$HOME `x` \\", "\x1b[31mred\n", "é日.txt", "\u202egpj.exe", "-x", "~root", "=ls", "#a", "{a,b}",
    "a\x7f9", "!1",
]  # fmt: skip


def read_by_a_shell(word: str) -> str:
    done = subprocess.run(
        ["bash", "-c", f"printf '%s' {word}" if not word.startswith("-") else f"printf -- '%s' {word}"],
        capture_output=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}, check=True,
    )  # fmt: skip
    return done.stdout.decode()


@pytest.mark.parametrize("key", [*HOSTILE, "x" * 1000])
def test_a_printed_key_is_one_word_of_a_shell_that_means_the_key(key: str) -> None:
    assert read_by_a_shell(visible_key(key)) == key


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_any_key_is_printed_so(key: str) -> None:
    shown = visible_key(key)
    assert all(character.isprintable() for character in shown)
    assert read_by_a_shell(shown) == key


def test_an_ordinary_key_is_printed_as_it_is() -> None:
    for key in ("reports/2026-03_final.v2.pdf", "é/日本.txt", "50%+a,b:c@d"):
        assert visible_key(key) == key


def test_a_text_s_control_characters_are_shown_and_its_lines_stay() -> None:
    assert visible_text("a\n\tb\x1b[2J\x9b\r") == "a\n\tb\\x1b[2J\\x9b\\r"
    assert visible_line("a\n\tb\x1b") == "a\\n\\tb\\x1b"


def test_a_count_has_the_right_form() -> None:
    assert [plural(number, "chunk") for number in (0, 1, 2, 12_345)] == ["0 chunks", "1 chunk", "2 chunks", "12,345 chunks"]
    assert [plural(number, "query", "queries") for number in (1, 2)] == ["1 query", "2 queries"]
