"""JSON and JSON Lines: lines of paths and values, and what is no JSON."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction
from worker.extract import json_text
from worker.extract.blocks import Limits
from worker.extract.json_walk import Event, walk
from worker.extract.registry import detect, extract

PROSE = "A sentence that goes on for a while. " * 10


def read(folder: Path, data: str | bytes, name: str = "a.json", limits: Limits = Limits()) -> Extraction:  # noqa: B008 - Limits is frozen, so sharing it is safe
    path = folder / "file"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return extract(path, name, limits)


def texts(extraction: Extraction) -> list[str]:
    return [block.text for block in extraction.blocks]


def test_values_stand_under_their_paths_and_parts_are_blocks(tmp_path: Path) -> None:
    source = """{"title": "Report", "year": 2023, "draft": false, "by": null,
                 "author": {"name": {"first": "Ann"}, "age": 7}, "tags": ["a", "b"],
                 "items": [{"id": 1, "sub": [{"x": 1}, {"x": 2}]}, {"id": 2}], "end": ""}"""
    extraction = read(tmp_path, source)
    assert texts(extraction) == [
        "title: Report\nyear: 2023\ndraft: false\nby: null",
        "author.name.first: Ann\nauthor.age: 7",
        "tags: a, b",
        "items.id: 1\nitems.sub.x: 1\nitems.sub.x: 2",
        "items.id: 2",
        "end:",
    ]
    assert (extraction.title, extraction.media_type, extraction.warnings) == ("Report", "application/json", ())


def test_records_far_inside_are_blocks_and_rows_of_numbers_are_lines(tmp_path: Path) -> None:
    source = {"data": {"rows": [[1, 2], [3, 4]], "people": [{"name": "Ann"}, {"name": "Bob"}]}}
    assert texts(read(tmp_path, json.dumps(source))) == [
        "data.rows: 1, 2\ndata.rows: 3, 4",
        "data.people.name: Ann",
        "data.people.name: Bob",
    ]


def test_an_element_more_in_front_changes_no_other_block(tmp_path: Path) -> None:
    items = [{"id": number, "name": f"number {number}"} for number in range(50)]
    before = texts(read(tmp_path, json.dumps(items)))
    assert texts(read(tmp_path, json.dumps([{"id": -1}, *items])))[1:] == before


def test_numbers_are_as_they_are_written(tmp_path: Path) -> None:
    source = "[1.50, -0, 1e400, 1E+05, 12345678901234567890123, NaN, -Infinity, true, null]"
    assert texts(read(tmp_path, source)) == [source[1:-1]]


def test_prose_is_paragraphs_behind_its_path(tmp_path: Path) -> None:
    source = json.dumps({"a": 1, "body": {"en": PROSE + "\n\nSecond.", "two": "one\ntwo"}, "b": [PROSE]})
    assert texts(read(tmp_path, source)) == [
        "a: 1",
        f"body.en:\n{PROSE.strip()}",
        "Second.",
        "body.two:\none\ntwo",
        f"b:\n{PROSE.strip()}",
    ]


def test_repeated_names_and_empty_containers_are_kept(tmp_path: Path) -> None:
    assert texts(read(tmp_path, '{"a": 1, "a": 2, "b": {}, "c": []}')) == ["a: 1\na: 2", "b: {}", "c: []"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_escapes_and_encodings_give_the_same_text(tmp_path: Path, encoding: str) -> None:
    source = '{"gr\\u00f6\\u00dfe": "caf\u00e9 \\ud83d\\ude00 \\ud800 \\u0000 \\"q\\" \\/"}'
    assert texts(read(tmp_path, source.encode(encoding))) == ['größe: café 😀   "q" /']


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a"])
def test_json_lines_give_a_block_a_line_and_a_broken_line_spoils_itself_only(tmp_path: Path, name: str) -> None:
    source = '{"id": 1, "in": {"x": [1, 2]}}\n\n{"id": 2}\r\n{"id": 3, broken}\n{"id": 4}\n'
    extraction = read(tmp_path, source, name)
    assert texts(extraction) == ["id: 1\nin.x: 1, 2", "id: 2", '{"id": 3, broken}', "id: 4"]
    assert extraction.warnings == ("lines that are no valid JSON were read as plain text: 1",)


@pytest.mark.parametrize(
    "source",
    ['{"a": 1, // comment\n"b": 2}', "{'a': 1}", '{"a": 1', "[1, 2,]", '{"a": 1,}', '{"a" 1}', "[1 2]", "]", '{"a": tru}', '["a'],
)
def test_what_is_no_json_is_read_as_text_with_a_warning(tmp_path: Path, source: str) -> None:
    extraction = read(tmp_path, source)
    assert (texts(extraction), extraction.media_type) == ([source], "text/plain")
    assert extraction.warnings[0].startswith("the file is no valid JSON and was read as plain text")


@pytest.mark.parametrize("source", ["{}", "[]", "[[], {}]", '""', " \n", "[" * 100_000 + "]" * 100_000])
def test_json_without_a_value_has_no_text(tmp_path: Path, source: str) -> None:
    with pytest.raises(NoText):
        read(tmp_path, source)


@pytest.mark.parametrize("source", ["42", '"word"', "[0]", "true"])
def test_a_single_value_is_text(tmp_path: Path, source: str) -> None:
    assert texts(read(tmp_path, source)) == [source.strip('[]"')]


@pytest.mark.parametrize(
    ("source", "name", "format"),
    [
        ('{"a": [1]}', "data", "json"),
        ('\ufeff[\n {"a": 1}\n]\n', "a.txt", "json"),
        ("[1, 2]", "a.unknown", "json"),
        ("42", "a.json", "json"),
        ("42", "a", "text"),
        ("[1] A reference, [2] and another", "a.txt", "text"),
        ("[section]\nkey = [1]", "a.ini", "text"),
        ("{curly} words}", "a.txt", "text"),
        ('{"a": 1} and more', "a.txt", "text"),
        ('{"a": 1}', "a.md", "markdown"),
    ],
)
def test_json_is_known_by_its_name_or_by_how_it_begins_and_ends(tmp_path: Path, source: str, name: str, format: str) -> None:
    path = tmp_path / "file"
    path.write_text(source)
    assert detect(path, name).name == format


def test_brackets_a_hundred_thousand_deep_are_read(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "[" * 100_000 + "1" + "]" * 100_000)) == ["1"]
    extraction = read(tmp_path, '{"v": 1, "a": ' * 100_000 + "2" + "}" * 100_000)
    assert texts(extraction)[-1].endswith("a.a.a.a.….a.a.a.a.a.a.a.a.a.a.a.a: 2")
    assert extraction.warnings == ("names in the middle of paths of more than 16 names were left out",)
    assert texts(read(tmp_path, "[" * 100_000)) == ["[" * 100_000]


def test_a_number_of_five_million_digits_is_text(tmp_path: Path) -> None:
    assert texts(read(tmp_path, '{"n": ' + "9" * 5_000_000 + "}"))[0].endswith("99")


def test_a_long_name_over_many_values_is_written_in_full_once(tmp_path: Path) -> None:
    found = "\n".join(
        texts(read(tmp_path, '{"' + "k" * 50_000 + '": {' + ", ".join(f'"a{n}": {n}' for n in range(5_000)) + "}}"))
    )
    assert found.startswith("k" * 50_000 + ".a0: 0\n" + "k" * 60 + "….a1: 1\n")
    assert found.endswith("….a4999: 4999")
    assert len(found) < 500_000


def test_many_values_make_blocks_of_bounded_size(tmp_path: Path) -> None:
    found = texts(read(tmp_path, json.dumps({"n": list(range(100_000)), "o": {f"k{n}": n for n in range(1000)}})))
    assert max(map(len, found)) < 2500
    assert sum(text.count(",") + text.count("\n") + 1 for text in found) == 101_000


def test_millions_of_brackets_take_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.process_time()
    assert texts(read(tmp_path, "[" + "[]," * 1_000_000 + "1]")) == ["1"]
    assert time.process_time() - started < 15
    monkeypatch.setattr(json_text, "MAX_CONTAINERS", 1000)
    with pytest.raises(Rejected, match="more than 1000 objects and arrays"):
        read(tmp_path, "[]\n" * 1001, "a.jsonl")


def roots(events: list[Event]) -> int:
    depth = count = 0
    for event in events:
        count += depth == 0 and event.kind != "end"
        depth += {"start": 1, "end": -1}.get(event.kind, 0)
    return count


def test_the_walk_takes_and_refuses_what_the_standard_library_does_but_for_several_values() -> None:
    chance = random.Random(4)
    pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"a"',
        '"\\n"',
        '"\\',
        "1",
        "-1.5e3",
        "01",
        "tru",
        "null",
        " ",
        "\n",
        '"a":',
        "[]",
        "{}",
    ]
    accepted = 0
    for _ in range(30_000):
        text = "[" + "".join(chance.choices(pieces, k=chance.randrange(1, 7))) + "]"
        try:
            json.loads(text, strict=False)
            valid = True
        except ValueError:
            valid = False
        try:
            events = list(walk(text))
        except ValueError:
            assert not valid, text
        else:
            accepted += valid
            assert valid or roots(events) > 1, text
    assert accepted > 1000
