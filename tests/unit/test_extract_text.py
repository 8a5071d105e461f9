"""Plain text, Markdown and HTML, and the bytes they come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction
from worker.extract.blocks import Limits
from worker.extract.registry import extract

RUSSIAN = "Однажды, в студёную зимнюю пору, я из лесу вышел; был сильный мороз. Гляжу, поднимается медленно в гору лошадка."


def read(folder: Path, name: str, data: str | bytes, limits: Limits = Limits()) -> Extraction:  # noqa: B008 - Limits is frozen, so sharing it is safe
    path = folder / "file"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return extract(path, name, limits)


def texts(extraction: Extraction) -> list[str]:
    return [block.text for block in extraction.blocks]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1251", "koi8-r", "cp866"]
)
def test_a_text_arrives_whatever_its_encoding(tmp_path: Path, encoding: str) -> None:
    assert texts(read(tmp_path, "a.txt", RUSSIAN.encode(encoding))) == [RUSSIAN]


def test_plain_english_in_utf_16_without_a_mark_arrives(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "a.txt", "Plain words.".encode("utf-16-be"))) == ["Plain words."]


def test_a_broken_byte_does_not_turn_utf_8_into_another_encoding(tmp_path: Path) -> None:
    extraction = read(tmp_path, "a.txt", RUSSIAN.encode() + b"\xff" + RUSSIAN.encode())
    assert extraction.blocks[0].text.count("мороз") == 2
    assert extraction.warnings == ("the encoding was guessed: utf-8",)


def test_paragraphs_are_blocks_and_lines_stay(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "a.txt", "one\r\ntwo\r\n \r\nthree\fnext page\n\n\n")) == ["one\ntwo", "three", "next page"]


def test_what_postgresql_refuses_goes_at_the_border(tmp_path: Path) -> None:
    assert texts(
        read(tmp_path, "a.txt", "a long enough line of te\0xt with\x1b\x07 a few con\xadtrols in it, and so on " + "x" * 200)
    )[0].startswith("a long enough line of text with a few controls")


@pytest.mark.parametrize("blank", ["", " \n\t\r\n", "\ufeff", "\u200b\n"[1:]])
def test_a_blank_file_has_no_text(tmp_path: Path, blank: str) -> None:
    with pytest.raises(NoText) as caught:
        read(tmp_path, "a.txt", blank)
    assert caught.value.code == "empty"


def test_binary_posing_as_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        read(tmp_path, "a.txt", bytes(range(256)) * 50)
    assert caught.value.code == "type_mismatch"


def test_binary_behind_a_page_of_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        read(tmp_path, "install.txt", b"echo hello\n" * 10_000 + bytes(range(256)) * 400)
    assert caught.value.code == "type_mismatch"


def test_more_text_than_the_limit_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        read(tmp_path, "a.txt", "word " * 100, Limits(max_text_chars=100))
    assert caught.value.code == "too_large"


def test_a_file_of_countless_tiny_paragraphs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="more than 100 paragraphs"):
        read(tmp_path, "a.txt", "a\n\n" * 200, Limits(max_blocks=100))


def test_markdown_headings_make_the_path_and_code_comments_do_not(tmp_path: Path) -> None:
    source = "---\ntitle: Guide\n---\nIntro\n\n# One\n\nFirst.\n\n## Two\n\n```sh\n# no heading\n```\n\nSetext\n======\n\nLast.\n"
    extraction = read(tmp_path, "a.md", source)
    assert [(block.text, block.kind, block.heading_path) for block in extraction.blocks] == [
        ("title: Guide", "paragraph", ()),
        ("Intro", "paragraph", ()),
        ("One", "heading", ()),
        ("First.", "paragraph", ("One",)),
        ("Two", "heading", ("One",)),
        ("```sh\n# no heading\n```", "paragraph", ("One", "Two")),
        ("Setext", "heading", ()),
        ("Last.", "paragraph", ("Setext",)),
    ]
    assert (extraction.title, extraction.media_type) == ("Guide", "text/markdown")


def test_markdown_keeps_tables_lists_and_link_targets(tmp_path: Path) -> None:
    source = "| a | b |\n|---|---|\n| 1 | 2 |\n\n- x\n- y\n\n[text][ref]\n\n[ref]: http://example.org/target\n"
    extraction = read(tmp_path, "a.md", source)
    assert extraction.blocks[0].kind == "table"
    assert texts(extraction)[1:] == ["- x\n- y", "[text][ref]", "[ref]: http://example.org/target"]


PAGE = """<!DOCTYPE html><html><head><title>The Title</title><style>p { color: red }</style>
<script>var hidden = "<p>no</p>";</script></head><body><h1>Top</h1><p>One &amp; <b>bo</b>ld<br>line   two &eacute;</p>
<noscript>without scripts</noscript><template><p>no</p></template><h2>Sub</h2><ul><li>first</li><li>second</li></ul>
<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ann <i>B</i></td><td>7</td></tr></table>
<pre>a
   b</pre><img src="x.png" alt="a picture">tail<!-- no --></body></html>"""


def test_html_gives_what_a_reader_sees(tmp_path: Path) -> None:
    extraction = read(tmp_path, "page", PAGE)
    assert [(block.text, block.kind, block.heading_path) for block in extraction.blocks] == [
        ("The Title", "heading", ()),
        ("Top", "heading", ()),
        ("One & bold\nline two é", "paragraph", ("Top",)),
        ("without scripts", "paragraph", ("Top",)),
        ("Sub", "heading", ("Top",)),
        ("first\nsecond", "paragraph", ("Top", "Sub")),
        ("Name | Age\nAnn B | 7", "table", ("Top", "Sub")),
        ("a\n   b", "paragraph", ("Top", "Sub")),
        ("a picture tail", "paragraph", ("Top", "Sub")),
    ]
    assert extraction.title == "The Title"


def test_html_text_behind_a_skipped_element_is_kept(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "a.html", "<p>before <script>no</script>after</p>")) == ["before after"]


def test_a_table_that_lays_out_a_page_gives_paragraphs(tmp_path: Path) -> None:
    page = "<table><tr><td><p>One.</p><p>Two.</p></td><td><table><tr><td>a</td><td>b</td></tr></table></td></tr></table>"
    extraction = read(tmp_path, "a.html", page)
    assert [(block.text, block.kind) for block in extraction.blocks] == [
        ("One.", "paragraph"),
        ("Two.", "paragraph"),
        ("a | b", "table"),
    ]


@pytest.mark.parametrize(
    "declaration", ['<meta charset="windows-1251">', '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">']
)
def test_html_is_read_in_the_encoding_that_it_declares(tmp_path: Path, declaration: str) -> None:
    assert texts(read(tmp_path, "a.html", f"<html>{declaration}<p>Гора</p>".encode("cp1251"))) == ["Гора"]


def test_a_long_or_deep_page_is_not_cut(tmp_path: Path) -> None:
    page = "<p>" + "word " * 2_500_000 + "last</p>" + "<div>" * 2000 + "deepest"
    found = texts(read(tmp_path, "a.html", page))
    assert found[0].endswith("word last")
    assert found[1] == "deepest"


def test_a_text_that_mentions_a_tag_is_not_html(tmp_path: Path) -> None:
    text = "The tag <html> begins a page, and <p> a paragraph."
    extraction = read(tmp_path, "a.txt", text)
    assert (texts(extraction), extraction.media_type) == ([text], "text/plain")
