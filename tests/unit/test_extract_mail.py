"""Mails and mailboxes: what a reader of the mail sees, and what hostile ones end in."""

from __future__ import annotations

import base64
import random
import time
import tracemalloc
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction, Metadata
from worker.extract.blocks import Limits
from worker.extract.registry import detect, extract

TOP = b"From: Ann <ann@a.org>\nTo: bob@b.org\nDate: Mon, 2 Jan 2023 10:00:00 +0200\nSubject: Plans\nMIME-Version: 1.0\n"
MIXED = TOP + b'Content-Type: multipart/mixed; boundary="b"\n\n'
PEOPLE = "From: Ann <ann@a.org>\nTo: bob@b.org\nDate: Mon, 2 Jan 2023 10:00:00 +0200"
LONG = " ".join(["plain"] * 60)


def read(folder: Path, data: bytes, name: str = "a.eml", limits: Limits = Limits()) -> Extraction:  # noqa: B008 - Limits is frozen, so sharing it is safe
    path = folder / "file"
    path.write_bytes(data)
    return extract(path, name, limits)


def texts(extraction: Extraction) -> list[str]:
    return [block.text for block in extraction.blocks]


def body(folder: Path, header: bytes, content: bytes) -> list[str]:
    """The texts behind subject and people of a mail with that Content-Type and body."""
    return texts(read(folder, TOP + header + b"\n\n" + content))[2:]


def mail(**fields: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in {"From": "Ann <ann@a.org>", "To": "bob@b.org", "Subject": "Plans", **fields}.items():
        message[name] = value
    return message


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


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "windows-1251", "koi8-r", "iso-2022-jp", "gb2312", "big5", "euc-kr"])
@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_headers_and_body_arrive_in_any_charset(tmp_path: Path, charset: str, encoding: str) -> None:
    words = {
        "iso-8859-1": "Größe café",
        "windows-1251": "Гора и лошадка",
        "koi8-r": "Гора и лошадка",
        "iso-2022-jp": "日本語の手紙",
        "gb2312": "中文邮件",
        "big5": "中文郵件",
        "euc-kr": "한국어 편지",
    }.get(charset, "Größe 日本 гора")
    data = words.encode(charset)
    subject = b"=?%s?B?%s?=" % (charset.encode(), base64.b64encode(data))
    coded = base64.encodebytes(data) if encoding == "base64" else b"".join(b"=%02X" % byte for byte in data)
    header = f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n".encode()
    extraction = read(tmp_path, TOP.replace(b"Plans", subject) + header + coded)
    assert (texts(extraction)[0], texts(extraction)[2]) == (words, words)
    assert extraction.warnings == ()


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"=?utf-8?q?caf=C3=A9_au?= =?utf-8?Q?_lait?= now", "café au lait now"),
        (b"=?utf-8?B?w6k=?=\n =?utf-8?B?w6k=?=", "éé"),
        # The two halves of one character in two words.
        (b"=?utf-8?B?4pw=?= =?utf-8?B?kw==?=", "\u2713"),
        (b"=?utf-8*en?q?in_English?=", "in English"),
        ("bare é".encode(), "bare é"),
        (b"=?unheard-of?q?words_stay?=", "words stay"),
        (b"=?utf-8?q?never ends", "=?utf-8?q?never ends"),
        (b"\n \n\tfolded", "folded"),
    ],
)
def test_a_subject_is_decoded_as_far_as_it_can_be(tmp_path: Path, raw: bytes, wanted: str) -> None:
    assert texts(read(tmp_path, TOP.replace(b"Plans", raw) + b"\nbody"))[0] == wanted


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


def test_attachments_are_named_and_not_read(tmp_path: Path) -> None:
    message = mail()
    message.set_content("See below.")
    message.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="Größe.pdf")
    message.add_attachment("hidden words", filename="n" * 300 + ".txt")
    message.add_attachment(b"GIF89a", maintype="image", subtype="gif", disposition="inline")
    extraction = read(tmp_path, message.as_bytes())
    note = extraction.blocks[-1]
    assert (note.text, note.kind) == (f"Attachments: Größe.pdf (application/pdf)\n{'n' * 100} (text/plain)", "note")
    assert extraction.warnings == ("attachments were not read: 3",)
    assert "hidden" not in "".join(texts(extraction))


@pytest.mark.parametrize(
    "parameter",
    [
        b'filename="=?utf-8?B?R3LDtsOfZS5wZGY=?="',
        b"filename*=utf-8''Gr%C3%B6%C3%9Fe.pdf",
        b"filename*0*=utf-8''Gr%C3%B6; filename*1*=%C3%9Fe.pdf",
        'filename="Größe.pdf"'.encode(),
    ],
)
def test_a_file_name_is_decoded_in_each_of_its_forms(tmp_path: Path, parameter: bytes) -> None:
    part = b"--b\nContent-Type: application/pdf\nContent-Disposition: attachment; " + parameter + b"\n\nx\n--b--"
    assert texts(read(tmp_path, MIXED + part))[-1] == "Attachments: Größe.pdf (application/pdf)"


def test_a_file_name_that_cannot_be_decoded_costs_only_the_name(tmp_path: Path) -> None:
    part = b"--b\nContent-Type: image/png; name*=idna''xn--%FF%FE\n\nx\n--b--"
    extraction = read(tmp_path, MIXED + part)
    assert (texts(extraction), extraction.warnings) == (["Plans", PEOPLE], ("attachments were not read: 1",))


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


def test_binary_data_that_is_named_a_mail_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        read(tmp_path, bytes(range(256)) * 20)
    assert caught.value.code == "type_mismatch"


@pytest.mark.parametrize("data", [b"no header at all", "\ufeffno header at all".encode("utf-16")])
def test_a_mail_without_a_header_is_its_text(tmp_path: Path, data: bytes) -> None:
    assert texts(read(tmp_path, data)) == ["no header at all"]


def test_a_mail_saved_in_utf_16_arrives(tmp_path: Path) -> None:
    assert texts(read(tmp_path, (TOP.decode() + "\nGröße").encode("utf-16")))[2] == "Größe"


def test_a_blank_mail_has_no_text(tmp_path: Path) -> None:
    with pytest.raises(NoText):
        read(tmp_path, b"\n\n \n")


@pytest.mark.parametrize(
    ("header", "content", "wanted"),
    [
        (b"Content-Type: multipart/mixed", b"no delimiter named", "no delimiter named"),
        (b"Content-Type: multipart/mixed; boundary=zz", b"delimiter not there", "delimiter not there"),
        (b"Content-Type: multipart/mixed; boundary=" + b"z" * 5000, b"delimiter too long", "delimiter too long"),
        (b"Content-Type: multipart/mixed; boundary=b", b"preamble\n--b\n\ncut off", "cut off"),
        (b"Content-Type: multipart/mixed; boundary=b", b"--b  \r\nX: 1\r\n\r\nspaces\r\n--b--  \r\nepilogue", "spaces"),
        (b"Content-Type: multipart/mixed; boundary=b", b"--b\n\n--bb is a word --b\n--b--", "--bb is a word --b"),
        (b"Content-Type: text/plain; charset=unknown-8bit", "unheard of, Größe".encode("latin-1"), "unheard of, Größe"),
        (b"Content-Type: text/plain; charset=punycode", b"hello-xyz", "hello-xyz"),
        (b"Content-Type: garbage;;=;", b"still text", "still text"),
        (b"Content-Type: text/plain; name*" + b"9" * 3000 + b"*=x", b"many digits", "many digits"),
        (b"Content-Transfer-Encoding: base64", b"Text, that says it is base64.", "Text, that says it is base64."),
        (b"Content-Transfer-Encoding: base64", b"Ym9keQ\n", "body"),
        (b"Content-Transfer-Encoding: base64", b"Ym9keQ==\n____\nA list's footer\n", "body\n____\nA list's footer"),
        (b"Content-Transfer-Encoding: nonsense", b"as it is", "as it is"),
        (b"Content-Type: text/html", b"no markup in it", "no markup in it"),
    ],
)
def test_odd_mails_keep_their_words(tmp_path: Path, header: bytes, content: bytes, wanted: str) -> None:
    assert body(tmp_path, header, content) == [wanted]


def test_binary_that_says_it_is_text_is_left_out_with_a_warning(tmp_path: Path) -> None:
    header = b"Content-Transfer-Encoding: base64\n\n"
    extraction = read(tmp_path, TOP + header + base64.encodebytes(bytes(range(32)) * 50))
    assert (texts(extraction)[1:], extraction.warnings) == ([PEOPLE], ("parts that should be text hold other data: 1",))


def test_a_hundred_thousand_parts_are_too_large(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        read(tmp_path, MIXED + b"--b\n\nx\n" * 100_000 + b"--b--")
    assert caught.value.code == "too_large"


def test_a_mailbox_of_many_empty_parts_is_too_large(tmp_path: Path) -> None:
    one = b"From ann@a.org Mon Jan  2 10:00:00 2023\n" + MIXED + b"--b\n\n" * 60 + b"\n"
    assert len(read(tmp_path, one, limits=Limits(max_blocks=100)).blocks) == 2
    with pytest.raises(Rejected) as caught:
        read(tmp_path, one * 2, limits=Limits(max_blocks=100))
    assert caught.value.code == "too_large"


def test_mails_in_one_another_are_no_copies_of_one_another(tmp_path: Path) -> None:
    data = (TOP + b"Content-Type: message/rfc822\n\n") * 40 + TOP + b"Content-Type: image/png\n\n" + b"x" * 2_000_000
    tracemalloc.start()
    extraction = read(tmp_path, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(extraction.blocks), extraction.warnings) == (82, ("attachments were not read: 1",))
    assert peak < 4 * len(data)


@pytest.mark.parametrize(
    "nested",
    [
        b"Content-Type: message/rfc822\n\n" * 50_000 + b"\n\nend",
        b"".join(b"Content-Type: multipart/mixed; boundary=%dx\n\n--%dx\n" % (level, level) for level in range(20_000)),
        b"".join(b"Content-Type: multipart/mixed; boundary=x%d\n\n--x%d\n" % (level, level) for level in range(49))
        + b"\n"
        + b"--x\n" * 1_000_000,
    ],
)
def test_a_mail_within_mails_without_end_is_read_to_a_depth(tmp_path: Path, nested: bytes) -> None:
    started = time.process_time()
    extraction = read(tmp_path, TOP + nested)
    assert texts(extraction)[:2] == ["Plans", PEOPLE]
    assert len(extraction.blocks) < 200
    assert time.process_time() - started < 15


def test_a_nesting_that_was_not_read_shows_in_a_warning(tmp_path: Path) -> None:
    extraction = read(tmp_path, TOP + b"Content-Type: message/rfc822\n\n" * 100)
    assert extraction.warnings == ("parts that are nested deeper than 50 levels were left out: 1",)


@pytest.mark.parametrize(
    "header",
    [
        b"Subject: " + b"x" * 10_000_000,
        b"Subject: x" + b"\n x" * 3_000_000,
        b"Subject: x\n" + b"a:\n" * 3_000_000,
        b"Subject: " + b"=?a?q?" * 1_700_000,
        b"Content-Type: text/plain; " + b';"' * 5_000_000,
        b"Content-Type: text/plain; " + b"a*0*=b;" * 1_400_000,
    ],
)
def test_a_header_of_ten_megabytes_is_cut_and_the_body_read(tmp_path: Path, header: bytes) -> None:
    started = time.process_time()
    extraction = read(tmp_path, b"From: ann@a.org\n" + header.rstrip(b"\n") + b"\n\nThe body.")
    assert "The body." in texts(extraction)
    assert "headers longer than 262144 bytes were cut" in extraction.warnings
    assert sum(map(len, texts(extraction))) < 100_000
    assert time.process_time() - started < 10


def test_bytes_changed_at_random_end_in_text_or_a_typed_error(tmp_path: Path) -> None:
    message = mail(Date="Mon, 2 Jan 2023 10:00:00 +0200")
    message.set_content("Größe " * 20)
    message.add_alternative("<p>Größe</p>", subtype="html")
    message.add_attachment(b"x" * 100, maintype="application", subtype="pdf", filename="Größe.pdf")
    source = message.as_bytes()
    chance = random.Random(4)
    for _ in range(400):
        data = bytearray(source)
        for _ in range(chance.randrange(1, 30)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(3)] = chance.choice(
                [b"\n", b"=", b"?", b";", b"*0*=", b'"', b"\xff", b"\0", b"--", b":"]
            )
        try:
            assert read(tmp_path, bytes(data)).blocks
        except Rejected as error:
            assert error.code != "damaged", bytes(data)  # noqa: PT017 - most of them give text and raise nothing
