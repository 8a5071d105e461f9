"""Mails made by hand, and short forms for what is read from them."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

from worker.domain.text import Extraction
from worker.extract.blocks import Limits
from worker.extract.registry import extract

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
