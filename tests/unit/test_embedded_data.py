"""Data in base64 is no text; what people search for is."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import random
import string
from pathlib import Path

import pytest

from worker.domain.errors import NoText
from worker.domain.text import Extraction
from worker.extract.blocks import Limits
from worker.extract.embedded_data import without_data
from worker.extract.registry import extract

CASE = Path(__file__).resolve().parents[3] / "shared" / "cases" / "data-uri.md"
CHANCE = random.Random(12)
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


def b64(count: int, beginning: bytes = b"") -> str:
    return base64.b64encode(beginning + CHANCE.randbytes(count)).decode()


def read(folder: Path, name: str, text: str) -> Extraction:
    path = folder / name
    path.write_text(text)
    return extract(path, name, Limits())


def shown(extraction: Extraction) -> str:
    return "\n\n".join(block.text for block in extraction.blocks)


PICTURE = b64(3000, PNG)
SMALL = b64(40, PNG)
OTHER = b64(1500)
URI = f"data:image/png;base64,{PICTURE}"


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("a.md", f"# Pump\n\n![the valve]({URI})\n\nOpen it.", ["Pump", "the valve", "Open it."]),
        ("a.md", f"![the valve][i] here\n\n[i]: <{URI}>\n\nOpen it.", ["the valve", "[i]: <data:image/png>", "Open it."]),
        ("a.md", f"Before\n\n<img alt='the valve' src='{URI}'>\n\nOpen it.", ["the valve", "Open it."]),
        ("a.md", f"# Pump ![logo]({URI}) two\n\nOpen it.", ["Pump ![logo](data:image/png) two", "Open it."]),
        ("a.html", f"<p>Open it.<p>{URI}<style>a{{background:url({URI})}}</style><img src='{URI}'>", ["Open it."]),
        ("a.css", f"a {{ background: url({URI}); color: red }}", ["color: red"]),
        ("a.json", json.dumps({"logo": URI, "name": "Kittiwake"}), ["name: Kittiwake"]),
        ("a.json", json.dumps({"photo": PICTURE, "name": "Kittiwake"}), ["name: Kittiwake"]),
        ("a.json", json.dumps({"blob": OTHER, "name": "Kittiwake"}), ["name: Kittiwake"]),
        ("a.json", json.dumps({"blob": OTHER.replace("+", "-").replace("/", "_"), "name": "Kittiwake"}), ["name: Kittiwake"]),
        (
            "a.txt",
            f"Certificate\n-----BEGIN X-----\n{base64.encodebytes(CHANCE.randbytes(1500)).decode()}-----END X-----",
            ["END X"],
        ),
        ("a.csv", f"name,photo\nKittiwake,{PICTURE}\nTern,{PICTURE}\n", ["Kittiwake", "Tern"]),
        ("a.svg", f"<svg><text>Harbour</text><image href='{URI}'/></svg>", ["Harbour"]),
        ("a.txt", "data:image/svg+xml,%3Csvg%20" + "%3Cpath%20d=%22M0%22%3E" * 30 + " Open it.", ["Open it."]),
    ],
)
def test_data_in_base64_is_left_out_and_the_rest_is_kept(tmp_path: Path, name: str, text: str, kept: list[str]) -> None:
    extraction = read(tmp_path, name, text)
    whole = shown(extraction)
    for word in kept:
        assert word in whole
    for data in (PICTURE, SMALL, OTHER):
        assert data[:60] not in whole
    assert len(whole) < 300
    assert [
        warning for warning in extraction.warnings if warning.startswith("data in base64 (pictures, other files) was left out")
    ]


def test_pictures_in_a_notebook_are_left_out_and_its_text_is_kept(tmp_path: Path) -> None:
    wrapped = base64.encodebytes(PNG + CHANCE.randbytes(300)).decode()
    outputs = [
        {"data": {"image/png": SMALL, "text/plain": ["<Figure>"]}},
        {"data": {"image/jpeg": wrapped.splitlines(keepends=True)}},
        {"data": {"application/pdf": wrapped}},
        {"data": {"image/svg+xml": "<svg><text>Tide</text></svg>"}},
    ]
    cells = [
        {
            "cell_type": "markdown",
            "attachments": {"a.png": {"image/png": SMALL}},
            "source": ["# Tides\n", "![x](attachment:a.png)"],
        },
        {"cell_type": "code", "source": ["plot(tide)"], "outputs": outputs},
    ]
    extraction = read(tmp_path, "a.ipynb", json.dumps({"cells": cells, "nbformat": 4}))
    whole = shown(extraction)
    for word in ("# Tides", "plot(tide)", "<Figure>", "Tide"):
        assert word in whole
    assert SMALL[:40] not in whole
    for line in wrapped.splitlines():
        assert line[:40] not in whole
    assert "data in base64 (pictures, other files) was left out: 4" in extraction.warnings


@pytest.mark.parametrize(
    "text",
    [
        hashlib.sha512(b"a").hexdigest(),
        base64.b64encode(hashlib.sha512(b"a").digest()).decode(),
        "ssh-rsa AAAAB3NzaC1yc2E" + b64(520) + " ann@host",
        f"https://host.example/files/{b64(1800).rstrip('=')}?size=9",
        f"eyJhbGciOiJSUzI1NiJ9.{b64(1500).rstrip('=')}.{b64(256).rstrip('=')}",
        "ACGT" * 2000,
        "MKVLAAGIVGLCAKAYGEDW" * 200,
        CHANCE.randbytes(3000).hex(),
        "Donaudampfschifffahrtsgesellschaftskapitän" * 40,
        "x" * 5000,
        "/".join("SomePath" for _ in range(300)),
        "data:image/png;base64, is how such an address begins",
        "The URI data:text/plain,hello%20world holds text.",
        "\n".join(["=" * 76] * 20),
        "\n".join("".join(CHANCE.choices("ACDEFGHIKLMNPQRSTVWY", k=60)) for _ in range(40)),
        string.ascii_letters + string.digits,
    ],
)
def test_what_somebody_may_search_for_is_kept(text: str) -> None:
    assert without_data(text) == (text, 0)


def test_lines_of_base64_end_where_the_text_goes_on() -> None:
    lines = base64.encodebytes(CHANCE.randbytes(2001)).decode()
    assert without_data(f"Dear Ann,\n{lines}Regards\nBob") == ("Dear Ann,\n\nRegards\nBob", 1)
    quoted = "".join(f"> {line}\n" for line in lines.splitlines())
    assert without_data(f"Dear Ann,\n{quoted}Regards")[1] == 1


def test_a_uuencoded_file_is_left_out_and_its_name_is_kept() -> None:
    lines = "".join(binascii.b2a_uu(CHANCE.randbytes(45)).decode() for _ in range(20)) + binascii.b2a_uu(b"the end").decode()
    kept, count = without_data(f"Here it is.\nbegin 644 harbour.jpg\n{lines}`\nend\nYours, Ann")
    assert (kept, count) == ("Here it is.\nbegin 644 harbour.jpg\n`\nend\nYours, Ann", 1)


def test_a_file_of_base64_alone_has_no_text_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(NoText, match="base64") as caught:
        read(tmp_path, "a.txt", b64(5000))
    assert caught.value.code == "empty"


def test_the_title_of_a_page_holds_no_data(tmp_path: Path) -> None:
    extraction = read(tmp_path, "a.html", f"<title>Pump {OTHER} two</title><p>Open it.")
    assert extraction.title == "Pump two"


@pytest.mark.skipif(not CASE.is_file(), reason="the shared cases are not beside this checkout")
def test_the_shared_case_holds() -> None:
    whole = shown(extract(CASE, CASE.name, Limits()))
    assert "Open the valve slowly" in whole
    assert "diagram of the valve" in whole
    assert "PH3ssLWA7De8lxLdLmquuUuujS" not in whole
