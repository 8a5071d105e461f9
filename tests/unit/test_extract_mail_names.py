"""Mails: texts, subjects and file names in the encodings that they name, or wrongly name."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.support.mails import MIXED, PEOPLE, TOP, mail, read, texts


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
