"""Mails that are odd, broken, endless or none."""

from __future__ import annotations

import base64
import random
import time
import tracemalloc
from pathlib import Path

import pytest

from tests.support.mails import MIXED, PEOPLE, TOP, body, mail, read, texts
from worker.domain.errors import NoText, Rejected
from worker.extract.blocks import Limits


def test_binary_data_that_is_named_a_mail_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        read(tmp_path, bytes(range(256)) * 20)
    assert caught.value.code == "type_mismatch"


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
