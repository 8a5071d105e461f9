"""What a person sees of an HTML page, with scripts on or off, and what the page says about itself."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from worker.domain.errors import NoText
from worker.domain.text import Extraction
from worker.extract.blocks import Limits
from worker.extract.registry import extract


def read(folder: Path, page: str | bytes) -> Extraction:
    path = folder / "page"
    path.write_bytes(page.encode() if isinstance(page, str) else page)
    return extract(path, "page.html", Limits())


def text(folder: Path, page: str | bytes) -> str:
    return "\n".join(block.text for block in read(folder, page).blocks)


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<p>a<noscript>Please allow scripts</noscript>", "a Please allow scripts"),
        ("<p><img alt='A cat'> and <img title='a dog'>", "A cat and a dog"),
        ("<p><img alt='A cat'><noscript><img alt='A cat'></noscript>", "A cat"),
        ("<map><area alt='North'><area alt='South'></map>", "North South"),
        ("<form><input value='Lisbon'><input type=submit value=Go><button>Stop</button></form>", "Lisbon Go Stop"),
        ("<form><input placeholder='Your name'><textarea placeholder='Your words'></textarea></form>", "Your name\nYour words"),
        ("<select><optgroup label='Fruit'><option>Apple<option label='Pear'></select>", "Fruit\nApple\nPear"),
        ("<fieldset><legend>Address</legend>Street</fieldset>", "Address\nStreet"),
        ("<details><summary>More</summary>Hidden at first</details>", "More\nHidden at first"),
        ("<div hidden>Behind a tab</div>", "Behind a tab"),
        ("<object data=x.swf><p>Get the player</p></object>", "Get the player"),
        ("<p>a<iframe src=x><p>No <b>frames</b> here</p></iframe>b", "a\nNo frames here\nb"),
        ("<iframe srcdoc='&lt;p&gt;within&lt;/p&gt;'>no frames</iframe>", "within"),
        (
            "<frameset><frame src=x><noframes><p>A page without frames</p></noframes></frameset>",
            "[frame: x]\nA page without frames",
        ),
        ("<svg><title>no</title><defs>no</defs><text>Label</text></svg>", "Label"),
        ("<p>a<xmp><b>bold</b></xmp>", "a\n<b>bold</b>"),
        ("<p>x<plaintext><i>as it is</i>", "x\n<i>as it is</i>"),
        ("<ruby>漢<rt>かん</rt></ruby>", "漢(かん)"),
        ("<ruby>漢<rp>[</rp><rt>かん</rt><rp>]</rp></ruby>", "漢[かん]"),
        ("<p>中国\n   文学 and\nwords", "中国文学 and words"),
        ("<p>He said <q>yes</q>", "He said “yes”"),
        ("<dl><dt>Term<dd>Meaning</dl>", "Term\nMeaning"),
        ("<p>don&#146;t &hellip; &NotEqualTilde; &eacute", "don’t … ≂̸ é"),
        ("<head><x-note>in the head</x-note></head>after", "in the head\nafter"),
        ("<?xml version='1.0'?><html><head><title/><script src='x'/></head><body><p>seen</p></body></html>", "seen"),
    ],
)
def test_a_reader_finds_what_the_page_shows(tmp_path: Path, page: str, seen: str) -> None:
    assert text(tmp_path, page) == seen


@pytest.mark.parametrize(
    "page",
    [
        "<input type=hidden value=no><input type=password value=no><input type=checkbox value=no>",
        "<template>no</template><script>no()</script><style>no {}</style>",
        "<svg><desc>no</desc></svg>",
        "<!-- no -->",
        "",
    ],
)
def test_what_nobody_sees_is_no_text(tmp_path: Path, page: str) -> None:
    with pytest.raises(NoText):
        read(tmp_path, "<html>" + page)


def test_numbered_lists_have_their_numbers_and_menus_do_not(tmp_path: Path) -> None:
    page = "<ol start=3><li><p>three</p><li value=7>seven<ol type=a><li>first</ol><li>eight</ol><nav><ol><li>Home</ol></nav>"
    assert text(tmp_path, page) == "3. three\n7. seven\na. first\n8. eight\nHome"


def test_text_of_a_table_outside_its_cells_is_kept_and_its_caption_is_a_line(tmp_path: Path) -> None:
    page = "<table><caption>Prices</caption>loose<tr>row<td>a<td>b</tr><tr><td>c<td>d</table>after"
    extraction = read(tmp_path, page)
    assert [(block.text, block.kind) for block in extraction.blocks] == [
        ("Prices\nloose\nrow | a | b\nc | d", "table"),
        ("after", "paragraph"),
    ]


@pytest.mark.parametrize("tag", ["font", "div", "b", "blockquote"])
def test_a_page_of_countless_unclosed_elements_keeps_its_last_word(tmp_path: Path, tag: str) -> None:
    extraction = read(tmp_path, "<title>T</title>" + f"<{tag}>word " * 5001 + "<script>no()</script>last")
    assert extraction.blocks[-1].text.endswith("last")
    assert sum(block.text.count("word") for block in extraction.blocks) == 5001
    assert "too deeply" in extraction.warnings[0]


def test_what_a_page_says_about_itself_is_metadata(tmp_path: Path) -> None:
    page = """<html lang="de-AT"><title>T</title><meta name="Author" content="A. Writer">
    <meta property="article:author" content="https://example.org/profile">
    <meta property="article:published_time" content="2024-05-01T10:00:00+02:00">
    <meta name="last-modified" content="2024/06/02"><p>x"""
    metadata = read(tmp_path, page).metadata
    assert (metadata.author, metadata.created, metadata.modified, metadata.language) == (
        "A. Writer",
        "2024-05-01T10:00:00+02:00",
        "2024-06-02",
        "de-AT",
    )


def test_a_date_in_words_or_a_profile_address_is_left_out(tmp_path: Path) -> None:
    page = "<html lang='{{ lang }}'><meta name=date content='last Tuesday'><meta property='article:author' content='https://x'>x"
    metadata = read(tmp_path, page).metadata
    assert (metadata.author, metadata.created, metadata.language) == (None, None, None)


def test_a_page_without_a_title_has_its_first_heading(tmp_path: Path) -> None:
    assert read(tmp_path, "<svg><title>icon</title></svg><h2>Heading</h2><h1>Other</h1>").title == "Heading"


@pytest.mark.parametrize(
    "page",
    [
        '<html><!-- <meta charset="koi8-r"> --><meta charset="windows-1251"><p>Гора</p>'.encode("cp1251"),
        '<html><meta charset="x-cp1251"><p>Гора</p>'.encode("cp1251"),
        '\ufeff<html><meta charset="koi8-r"><p>Гора</p>'.encode(),
        '<html><meta charset="koi8-r"><p>Гора</p>'.encode("utf-16"),
        '<html><meta charset="utf-16"><p>Гора</p>'.encode("utf-16-be"),
    ],
)
def test_the_mark_then_the_declaration_decide_the_encoding(tmp_path: Path, page: bytes) -> None:
    assert text(tmp_path, page) == "Гора"


def test_a_page_that_wrongly_says_utf_8_is_read_in_its_own_encoding(tmp_path: Path) -> None:
    page = ("<html><meta charset=utf-8><p>" + "word " * 500 + "Grüße aus Köln").encode("cp1252")
    assert text(tmp_path, page).endswith("Grüße aus Köln")


@pytest.mark.parametrize(
    "page",
    [
        "<html><ruby>" + "a<rt>b</rt>" * 50_000,
        "<html>" + "<!--" * 100_000,
        "<html><p>漢" + "\n" * 500_000 + "b",
        "<html>" + "<table><tr><td>x" * 1000 + "</table>" * 1000,
    ],
)
def test_the_time_is_in_proportion_to_the_page(tmp_path: Path, page: str) -> None:
    start = time.process_time()
    with contextlib.suppress(NoText):
        read(tmp_path, page)
    assert time.process_time() - start < 5
