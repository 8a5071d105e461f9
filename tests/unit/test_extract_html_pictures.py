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
        ('<img src="https://counts.example/tr?id=1" width="1" height="1">', ""),
        ('<img src="pixel.gif" style="display: none">', ""),
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


@pytest.mark.parametrize(
    ("thing", "shown"),
    [
        ('<embed src="/games/menu10.swf?v=2">', "[embed: menu10]"),
        ('<embed src="menu10.swf" title="Main menu">', "[embed: Main menu]"),
        ('<object data="price%20list.pdf"></object>', "[object: price list]"),
        ('<object><param name="Movie" value="intro.swf"></object>', "[object: intro]"),
        ('<iframe src="/parts/offers.html"></iframe>', "[frame: offers]"),
        ('<iframe src="https://video.example/x81" title="How it is made"></iframe>', "[frame: How it is made]"),
        ('<audio controls src="interview.mp3"></audio>', "[audio: interview]"),
        ('<video><source src="tour.webm"><source src="tour.mp4"><track src="en.vtt"></video>', "[video: tour]"),
        ('<bgsound src="waves.mid">', "[sound: waves]"),
        ('<applet code="Clock.class"></applet>', "[applet: Clock]"),
    ],
)
def test_what_has_no_words_is_known_by_its_title_or_its_file(tmp_path: Path, thing: str, shown: str) -> None:
    assert text(tmp_path, f"<body>before {thing} after</body>") == f"before {shown} after"


@pytest.mark.parametrize(
    ("thing", "read"),
    [
        ('<object data="a.swf"><embed src="b.swf"></object>', "[embed: b]"),
        ('<object data="a.swf"><object data="b.pdf"></object></object>', "[object: b]"),
        ('<object data="a.svg"><img alt="A chart" src="a.png"></object>', "A chart"),
        ('<video src="a.mp4">Two people talk</video>', "Two people talk"),
        ('<iframe src="a.html">No frames here</iframe>', "No frames here"),
        ('<iframe src="a.html" srcdoc="within"></iframe>', "within"),
        (f'<object data="a.swf">{"<b></b>" * 300}</object>', ""),
    ],
)
def test_what_stands_within_speaks_for_the_whole(tmp_path: Path, thing: str, read: str) -> None:
    assert text(tmp_path, f"<body>before {thing} after</body>").split() == f"before {read} after".split()


@pytest.mark.parametrize(
    "thing",
    [
        '<iframe src="about:blank"></iframe>',
        '<iframe src="javascript:false"></iframe>',
        '<iframe src="https://ads.example/slot/page.html?size=300x250" width="300" height="250"></iframe>',
        '<iframe src="//ads.example/slot"></iframe>',
        '<iframe src="ns.html" height="0" width="0"></iframe>',
        '<iframe src="ns.html" style="DISPLAY : none; width: 9px"></iframe>',
        '<iframe src="ns.html" hidden title="counter"></iframe>',
        '<embed src="sound.mid" height="1">',
        '<video src="blob:https://site.example/1-2-3"></video>',
        '<audio src="data:audio/wav;base64,AAAA"></audio>',
        f'<embed src="{"a" * 200}.swf">',
        "<embed><object></object><iframe></iframe><video></video>",
    ],
)
def test_nothing_is_said_of_what_nobody_sees_or_would_look_for(tmp_path: Path, thing: str) -> None:
    assert text(tmp_path, f"<body>before {thing} after</body>").split() == ["before", "after"]


def test_frames_are_listed_by_their_names(tmp_path: Path) -> None:
    frames = '<frame src="toc.html" name="contents"><frame src="chapter1.html"><frame src="x" title="Notes">'
    assert text(tmp_path, f"<frameset>{frames}</frameset>") == "[frame: contents] [frame: chapter1] [frame: Notes]"
