"""Commands and options stand in the program, in its examples and in the README: one of them changes, and these tests say so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from infra.cli.examples import EXAMPLES
from infra.cli.main import app

README = (Path(__file__).parents[2] / "README.md").read_text()
# Every command that talks to a system has the first, and the README explains each once for all of them.
COMMON = {"--data-dir", "--json", "--help", "-h"}


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each command with its path below ``lex-ingest``; groups are no commands."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


COMMANDS = dict(commands())


def options(command: Any) -> set[str]:
    return {name for parameter in command.params if parameter.param_type_name == "option" for name in parameter.opts}


def rows() -> dict[str, str]:
    """The README's table of commands: path -> row."""
    found = re.findall(r"^\| `lex-ingest ((?:[a-z-]+ ?)+)(?: [^`]*)?` \| (.*) \|$", README, re.MULTILINE)
    assert len({path for path, _ in found}) == len(found)
    return {path.strip(): row for path, row in found}


def words(text: str) -> set[str]:
    """The options that are named within the code spans of a text."""
    return {word for span in re.findall(r"`([^`]+)`", text) for word in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", span)}


def test_the_table_has_each_command_once() -> None:
    assert set(rows()) == set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_s_row_names_its_options_and_no_others(path: str) -> None:
    assert words(rows()[path]) - COMMON == options(COMMANDS[path]) - COMMON


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_is_shown_with_its_arguments(path: str) -> None:
    takes = {
        parameter.metavar.strip("[]").rstrip(".")
        for parameter in COMMANDS[path].params
        if parameter.param_type_name == "argument"
    }
    (shown,) = re.findall(rf"^\| `lex-ingest {re.escape(path)}([^`]*)` \|", README, re.MULTILINE)
    assert set(re.findall(r"[A-Z]+", shown)) == takes


def test_the_readme_says_which_commands_have_no_json() -> None:
    (said,) = re.findall(r"`--json` prints one object per line \(([^)]*) have none\)", README)
    without = {path for path, command in COMMANDS.items() if "--json" not in options(command)}
    assert set(re.findall(r"`([^`]+)`", said)) == without


def test_every_command_line_in_the_readme_can_be_read() -> None:
    """Each `lex-ingest …` in a shell block, with its options and their values, as the program itself reads it."""
    lines = [
        line.split(" #")[0].strip()
        for block in README.split("```")[1::2]
        for line in block.splitlines()
        if line.startswith("lex-ingest ")
    ]
    assert len(lines) > 10
    for line in lines:
        read(line)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_s_help_ends_with_an_example_that_can_be_read(path: str) -> None:
    example = EXAMPLES[path]
    assert COMMANDS[path].epilog == f"Example: {example}"
    inner = re.findall(r"lex-ingest [^)]*", example)
    assert inner
    assert read(inner[0]) == path


def test_no_example_is_left_of_a_command_that_is_gone() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


def test_every_option_has_a_help_text_and_h_helps_everywhere() -> None:
    for path, command in COMMANDS.items():
        for parameter in command.params:
            assert parameter.help, f"{path}: {parameter.name}"
        with command.make_context(path, [], resilient_parsing=True, **context_of_the_program()) as context:
            assert {"-h", "--help"} == set(context.help_option_names)


def context_of_the_program() -> dict[str, Any]:
    return dict(typer.main.get_command(app).context_settings)


def read(line: str) -> str:
    """Let the program read the command line without running it; the path of its command."""
    arguments = shlex.split(line)[1:]
    depth = 2 if arguments[0] == "model" else 1
    path = " ".join(arguments[:depth])
    with COMMANDS[path].make_context(path, arguments[depth:]):
        return path
