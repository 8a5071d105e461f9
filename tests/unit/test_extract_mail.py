"""Mails and mailboxes: what a reader of the mail sees."""

from __future__ import annotations

from email.policy import SMTP
from pathlib import Path

import pytest

from tests.support.mails import LONG, PEOPLE, TOP, mail, read, texts
from worker.domain.text import Metadata
from worker.extract.registry import detect


def test_a_mail_gives_subject_people_body_and_what_the_header_says(tmp_path: Path) -> None:
    extraction = read(tmp_path, TOP + b"Cc: eve@c.org\nX-Noise: 1\nReply-To: list@d.org\n\nOne.\n\nTwo.\n")
    assert [(block.text, block.kind, block.heading_path) for block in extraction.blocks] == [
        ("Plans", "heading", ()),
        (PEOPLE.replace("\nDate", "\nCc: eve@c.org\nDate"), "paragraph", ("Plans",)),
        ("One.", "paragraph", ("Plans",)),
        ("Two.", "paragraph", ("Plans",)),
        ("Reply-To: list@d.org", "note", ("Plans",)),
    ]
    assert (extraction.title, extraction.media_type) == ("Plans", "message/rfc822")
    assert extraction.metadata == Metadata(author="Ann <ann@a.org>", created="2023-01-02T10:00:00+02:00")


def test_the_plain_alternative_is_read_and_html_where_there_is_no_other(tmp_path: Path) -> None:
    both = mail()
    both.set_content(LONG)
    both.add_alternative(f"<h1>Rich</h1><p>{LONG} page</p>", subtype="html")
    assert texts(read(tmp_path, both.as_bytes(policy=SMTP)))[2:] == [LONG]
    only = mail()
    only.set_content("<h1>Rich</h1><p>One <b>two</b></p>", subtype="html")
    extraction = read(tmp_path, only.as_bytes(policy=SMTP))
    assert [(block.text, block.heading_path) for block in extraction.blocks[2:]] == [
        ("Rich", ("Plans",)),
        ("One two", ("Plans", "Rich")),
    ]


def test_a_plain_alternative_that_only_points_to_the_page_does_not_hide_it(tmp_path: Path) -> None:
    message = mail()
    message.set_content("Your program shows no HTML.")
    message.add_alternative("<p>The news of this month, at length and with all of its details, for everyone.</p>", subtype="html")
    assert any("news of this month" in text for text in texts(read(tmp_path, message.as_bytes())))
    message = mail()
    message.set_content("Hi Bob")
    message.add_alternative("<p>Hi <b>Bob</b></p>", subtype="html")
    assert texts(read(tmp_path, message.as_bytes()))[2:] == ["Hi Bob"]


def test_an_attached_mail_is_read_behind_the_one_that_brings_it(tmp_path: Path) -> None:
    inner = mail(Subject="Older")
    inner.set_content("Inner words.")
    message = mail()
    message.set_content("Outer words.")
    message.add_attachment(inner)
    extraction = read(tmp_path, message.as_bytes())
    found = [(block.text, block.heading_path) for block in extraction.blocks if block.kind != "note"]
    assert [text for text, _ in found] == [
        "Plans",
        "From: Ann <ann@a.org>\nTo: bob@b.org",
        "Outer words.",
        "Older",
        "From: Ann <ann@a.org>\nTo: bob@b.org",
        "Inner words.",
    ]
    assert found[-1][1] == ("Plans", "Older")
    assert extraction.title == "Plans"


def test_a_mailbox_is_several_mails_and_its_quoted_lines_are_restored(tmp_path: Path) -> None:
    one = b"From ann@a.org Mon Jan  2 10:00:00 2023\n" + TOP + b"\n>From here on\n\nFrom there too\nno: header\n\n"
    two = b"From bob@b.org Mon Jan  2 10:00:00 2023\n" + TOP.replace(b"Plans", b"Second") + b"\nOther.\n"
    extraction = read(tmp_path, one.replace(b"there too\nno: ", b"there too\nno ") + two, "archive")
    assert texts(extraction) == ["Plans", PEOPLE, "From here on", "From there too\nno header", "Second", PEOPLE, "Other."]
    assert extraction.blocks[-1].heading_path == ("Second",)
    assert (extraction.media_type, extraction.title, extraction.metadata) == ("application/mbox", None, Metadata())


@pytest.mark.parametrize(
    ("data", "name", "format"),
    [
        (TOP + b"\nbody", "mail", "eml"),
        (TOP + b"\nbody", "a.eml", "eml"),
        (TOP.replace(b"\n", b"\r\n") + b"\r\nbody", "mail", "eml"),
        (TOP.replace(b"Subject: Plans", b"Subject: Plans\n and more"), "mail", "eml"),
        (TOP + b"\n" + bytes(range(256)) * 20, "mail", "eml"),
        (b"Received: from a\nFrom: me\nSubject: x\n\nbody", "mail", "eml"),
        # Whose source reads as it is, under a name that says text.
        (TOP + b"\nbody", "a.txt", "text"),
        (TOP + b"Content-Transfer-Encoding: base64\n\nYm9keQ==", "a.txt", "eml"),
        (TOP.replace(b"Plans", b"=?utf-8?B?w6k=?=") + b"\nbody", "a.txt", "eml"),
        (TOP + b"\nbody", "a.md", "markdown"),
        (b"Subject: a novel\nFrom the first line on it is prose.\n", "a", "text"),
        (b"From: me\nTo: you\nSubject: a memo\n\nno proof of mail", "a", "text"),
        (b"From: me\nDate: some day\nSubject: a memo\n\nno date", "a", "text"),
        (b"Name: x\nVersion: 1\nDate: Mon, 2 Jan 2023 10:00:00\n\nmetadata", "a", "text"),
        (b"no header at all", "a.eml", "eml"),
        (b"To: bob@b.org\nSubject: a draft\n\n" + bytes(range(256)) * 20, "a.eml", "eml"),
    ],
)
def test_a_mail_is_known_by_its_header(tmp_path: Path, data: bytes, name: str, format: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert detect(path, name).name == format


@pytest.mark.parametrize("data", [b"no header at all", "\ufeffno header at all".encode("utf-16")])
def test_a_mail_without_a_header_is_its_text(tmp_path: Path, data: bytes) -> None:
    assert texts(read(tmp_path, data)) == ["no header at all"]


def test_a_mail_saved_in_utf_16_arrives(tmp_path: Path) -> None:
    assert texts(read(tmp_path, (TOP.decode() + "\nGröße").encode("utf-16")))[2] == "Größe"
