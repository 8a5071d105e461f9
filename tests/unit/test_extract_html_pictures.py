"""What a text browser shows in the place of what it can't show."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.extract.blocks import Limits
from worker.extract.registry import extract


def text(folder: Path, page: str) -> str:
    path = folder / "page.html"
    path.write_text(f"<!doctype html><html>{page}</html>")
    return " ".join(block.text for block in extract(path, path.name, Limits()).blocks)


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ('<img src="/charts/sales%202024.png?v=1">', "sales 2024"),
        ('<img src="/charts/sales.png" alt="">', ""),
        ('<img src="/charts/sales.png" alt="Sales rise">', "Sales rise"),
        ('<img src="data:image/png;base64,AAAA">', ""),
        ("<img>", ""),
    ],
)
def test_a_picture_without_words_is_known_by_its_file(tmp_path: Path, image: str, shown: str) -> None:
    assert text(tmp_path, f"<body>before {image} after</body>") == " ".join(f"before {shown} after".split())


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("5; url=https://example.org/new", "Refresh (5 sec) https://example.org/new"),
        ("0;URL='next.html'", "Refresh (0 sec) next.html"),
        ("30", "Refresh (30 sec)"),
        ("soon", ""),
    ],
)
def test_a_page_says_where_it_sends_its_readers(tmp_path: Path, content: str, shown: str) -> None:
    page = f'<head><meta http-equiv="Refresh" content="{content}"></head><body>moved</body>'
    assert text(tmp_path, page) == f"{shown} moved".strip()
