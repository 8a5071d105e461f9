"""The structure of a mail: header fields, parts, and the bytes that a part carries, cut out of the message without copies.

Own code over the standard library's codecs: ``email.parser`` recurses as deep as a mail is nested, keeps every line as an object
of its own and raises on odd headers; its ``Message`` still reads the parameters here. Alternatives: mail-parser (wraps it),
flanker (unmaintained). RFC 5322, 2045, 2046.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value

MAX_HEADER_BYTES = 262_144
# Reading parameters takes a time that grows with the square of their number.
_MAX_PARAMETER_BYTES, _MAX_PARAMETERS = 4_000, 64
# RFC 2046 allows 70.
_MAX_BOUNDARY_BYTES = 500
# A field or the continuation of one, with its line end. A blank line is neither, unless it is white space before a continuation.
_LINE = re.compile(
    rb"(?:(?P<name>[!-9;-~]{1,200})[ \t]*:|[ \t]+(?=[^ \t\r\n]|(?:\r\n|\n|\r)[ \t]+[^ \t\r\n]))"
    rb"(?P<value>[^\r\n]*)(?:\r\n|\n|\r|\Z)"
)
_ENVELOPE = re.compile(rb"(?:[\r\n]*>?From [^\r\n]*(?:\r\n|\n|\r))?")
_BLANK = re.compile(rb"[ \t]*(?:\r\n|\n|\r|\Z)")
_HEADER_END = re.compile(rb"\r\n[ \t]*\r\n|\n[ \t]*\r?\n|\r\r|\Z")
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/=\s]|\S[ \t]+\S")
_CONTENT_FIELDS = frozenset({"content-type", "content-disposition", "content-transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Part:
    """A message or one part of it: ``data[start:end]`` is what follows its header.

    ``fields`` are the header's fields in order, as they are named, values unfolded. ``cut`` says that its header was longer
    than ``MAX_HEADER_BYTES`` and the rest of it was passed over.
    """

    data: bytes
    start: int
    end: int
    fields: tuple[tuple[str, bytes], ...]
    content: Message
    cut: bool = False

    @property
    def media_type(self) -> str:
        return self.content.get_content_type()

    @property
    def attached(self) -> bool:
        """Whether the sender meant it as a file beside the text."""
        return self.content.get_content_disposition() == "attachment"

    def parameter(self, name: str) -> str | None:
        """A parameter of Content-Type, its RFC 2231 form decoded."""
        try:
            value = self.content.get_param(name)
        # RFC 2231 numbers its pieces, with any number of digits.
        except ValueError:
            return None
        return value[2] if isinstance(value, tuple) else value

    def file_name(self) -> str | bytes | None:
        """The name that an attachment has: text where it came in the form of RFC 2231, else bytes as in any other field."""
        for field, parameter in (("content-disposition", "filename"), ("content-type", "name")):
            try:
                value = self.content.get_param(parameter, header=field)
                if isinstance(value, tuple):
                    return collapse_rfc2231_value(value)
            # Also UnicodeError: a codec named there that knows no replacement of what it can't decode.
            except ValueError:
                continue
            if value:
                return value.encode("latin-1", "replace")
        return None

    def payload(self) -> bytes:
        """The bytes that the part carries, never more than it has."""
        encoding = str(self.content.get("content-transfer-encoding", "")).strip().lower()
        raw = self.data[self.start : self.end]
        if encoding == "quoted-printable":
            return binascii.a2b_qp(raw)
        if encoding != "base64":
            return raw
        # A list server appends its footer as it is, and some programs say base64 and write text.
        other = _NO_BASE64.search(raw)
        end = max(raw.rfind(b"\n", 0, other.start()), raw.rfind(b"\r", 0, other.start())) + 1 if other else len(raw)
        return decode_base64(raw[:end]) + (b"\n" if end and other else b"") + raw[end:]

    def message(self) -> Part:
        """The message that the part carries. One that is not encoded is no copy: fifty in one another would be fifty."""
        if str(self.content.get("content-transfer-encoding", "")).strip().lower() in ("base64", "quoted-printable"):
            data = self.payload()
            return read_part(data, 0, len(data))
        return read_part(self.data, self.start, self.end)

    def children(self) -> Iterator[Part]:
        """The parts of a multipart, up to its closing delimiter; none where its delimiter is not named or not in it."""
        boundary = (self.parameter("boundary") or "").rstrip().encode("latin-1", "replace")
        if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
            return
        default = "message/rfc822" if self.media_type == "multipart/digest" else "text/plain"
        begin = None
        line = re.compile(re.escape(b"--" + boundary) + rb"(--)?[ \t]*(?:\r\n|\n|\r|\Z)")
        for delimiter in line.finditer(self.data, self.start, self.end):
            position = delimiter.start()
            if position > self.start and self.data[position - 1] not in b"\r\n":
                continue
            if begin is not None:
                yield read_part(self.data, begin, _before_line_end(self.data, begin, position), default)
            begin = delimiter.end()
            if delimiter[1]:
                return
        # The closing delimiter of a truncated mail is missing.
        if begin is not None and begin < self.end:
            yield read_part(self.data, begin, self.end, default)


def read_part(data: bytes, start: int, end: int, default_type: str = "text/plain") -> Part:
    """Read the header at ``start``. Whatever stands there is a part: without a header all of it is its body."""
    envelope = _ENVELOPE.match(data, start, end)
    start = position = envelope.end() if envelope else start
    fields: list[tuple[str, list[bytes]]] = []
    while (line := _LINE.match(data, position, end)) and position - start <= MAX_HEADER_BYTES:
        if line["name"]:
            fields.append((line["name"].decode("ascii"), [line["value"]]))
        elif fields:
            fields[-1][1].append(line["value"])
        else:
            break
        position = line.end()
    cut = position - start > MAX_HEADER_BYTES
    if cut:
        # The line that was read last may be the one before the blank line.
        found = _HEADER_END.search(data, position - 2, end)
        position = found.end() if found else end
    elif blank := _BLANK.match(data, position, end):
        position = blank.end()
    joined = tuple((name, b" ".join(values).strip()[:MAX_HEADER_BYTES]) for name, values in fields)
    return Part(data, position, end, joined, _content(joined, default_type), cut)


def decode_base64(raw: bytes) -> bytes:
    """The bytes of base64, as much as there is: other characters are passed over, a missing end costs a byte or two."""
    try:
        return binascii.a2b_base64(raw)
    except binascii.Error:
        digits = raw.translate(None, _NOT_BASE64)
        digits = digits[: len(digits) - (len(digits) % 4 == 1)]
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _content(fields: tuple[tuple[str, bytes], ...], default_type: str) -> Message:
    """The fields that say what a part is, the first of each name, short enough that their parameters are read in no time."""
    message = Message()
    message.set_default_type(default_type)
    for name, value in fields:
        if name.lower() in _CONTENT_FIELDS and name not in message:
            short = value[:_MAX_PARAMETER_BYTES].decode("latin-1")
            message[name] = ";".join(short.split(";", _MAX_PARAMETERS)[:_MAX_PARAMETERS])
    return message


def _before_line_end(data: bytes, begin: int, position: int) -> int:
    """Where a part ends: the line end in front of a delimiter belongs to the delimiter."""
    for line_end in (b"\r\n", b"\n", b"\r"):
        if data.endswith(line_end, begin, position):
            return position - len(line_end)
    return position
