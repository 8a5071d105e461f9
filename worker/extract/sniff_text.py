"""What kind of text a text is, where its beginning tells: a mail, or JSON. Facts about bytes, as in worker.extract.sniff."""

from __future__ import annotations

import os
import re
from email.utils import parsedate_tz
from pathlib import Path

_FIELD = re.compile(rb"([!-9;-~]{1,76}):[ \t]*(.*)")
# RFC 5322 3.6, RFC 2045, RFC 5536.
_KNOWN = frozenset(
    b"""
    from to cc bcc subject date message-id received mime-version return-path reply-to sender in-reply-to references content-type
    content-transfer-encoding delivered-to organization newsgroups path lines list-id user-agent x-mailer dkim-signature
    """.split()
)
_FEWEST_FIELDS = 3
_ENCODED = re.compile(
    rb"^content-transfer-encoding:[ \t]*(?:base64|quoted-printable)|^content-type:[ \t]*text/html|"
    rb"=\?[^?\s]{1,60}\?[bq]\?[^?]*\?=",
    re.IGNORECASE | re.MULTILINE,
)
_VALUE = rb"(?:[{\[\"]|(?:-?[0-9][0-9.eE+-]*|true|false|null)\s*[,\]])"
_JSON_START = re.compile(rb"\s*(?:\{\s*(?:\"(?:[^\"\\]|\\.){0,1000}\"\s*:|\}\s*\Z)|\[\s*(?:" + _VALUE + rb"|\]\s*\Z))", re.DOTALL)
_TAIL_BYTES = 4096


def is_mail(head: bytes, named: bool = False) -> bool:
    """Whether a file begins with the header of a mail or a post, or of the first one of a mailbox.

    Its lines up to the first blank one are fields and their continuations, three of them with well-known names; one is From,
    another a date, a message id, a trace or a MIME version. A text that begins with "Subject:" is none. Where the file is
    ``named`` as a mail one well-known field is enough: a draft has no sender and no date.
    """
    fields: dict[bytes, bytes] = {}
    lines = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").splitlines()
    for number, line in enumerate(lines):
        if not line.strip(b" \t"):
            break
        if (number == 0 and line.startswith((b"From ", b">From "))) or (fields and line[:1] in (b" ", b"\t")):
            continue
        field = _FIELD.fullmatch(line)
        if field:
            fields.setdefault(field[1].lower(), field[2])
        # The last line of a long header may be cut where the head ends.
        elif number < len(lines) - 1:
            return False
    if named:
        return not _KNOWN.isdisjoint(fields)
    if b"from" not in fields or len(_KNOWN & fields.keys()) < _FEWEST_FIELDS:
        return False
    return (
        b"@" in fields.get(b"message-id", b"")
        or b"received" in fields
        or fields.get(b"mime-version", b"").startswith(b"1")
        or parsedate_tz(fields.get(b"date", b"")[:200].decode("latin-1")) is not None
    )


def hides_text(head: bytes) -> bool:
    """Whether a mail has to be decoded to be read: without encoded or HTML parts its source reads as it is."""
    return _ENCODED.search(head) is not None


def is_json(path: Path, head: bytes) -> bool:
    """Whether a file begins as a JSON object or array and ends as one. What it is in between, its extractor finds out."""
    if not _JSON_START.match(head.removeprefix(b"\xef\xbb\xbf")):
        return False
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        return file.read().rstrip().endswith((b"}", b"]"))
