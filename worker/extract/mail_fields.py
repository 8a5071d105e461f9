"""Text of mails: bytes in the encoding that a part or a header names, encoded words, dates.

Standard library; ``email.header`` takes quadratic time on hostile encoded words, and decodes one by one the halves of a
character that is split between two of them. RFC 2047, 2231 (language), 5322 (dates), 6532 (bare UTF-8).
"""

from __future__ import annotations

import binascii
import contextlib
import re
from email.utils import parsedate_to_datetime

from worker.domain.errors import Rejected
from worker.extract.encodings import decode
from worker.extract.labels import text_codec
from worker.extract.mime import decode_base64

MAX_FIELD_BYTES = 20_000
_ENCODED_WORD = re.compile(rb"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*)\?=")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")
# These are ASCII or a subset of other bytes, so that nothing in the bytes tells them from UTF-8: the mail's word counts.
_TRUSTED = re.compile(r"iso2022|hz|utf-7|gb|big5|euc|shift_jis|cp9\d\d")


def decode_text(data: bytes, declared: str | None) -> tuple[str, str | None]:
    """The text of a part or a header, and the name of its encoding where that had to be guessed.

    Raises:
        Rejected: ``type_mismatch``, the bytes are no text.
    """
    codec = text_codec(declared.strip().strip("'\"")) if declared else None
    if codec and _TRUSTED.match(codec):
        with contextlib.suppress(UnicodeError):
            return data.decode(codec), None
    decoded = decode(data, codec)
    return decoded.text, decoded.encoding if decoded.guessed else None


def decode_field(raw: bytes, charset: str | None = None) -> str:
    """The text of a header field on one line. ``charset`` is what bare bytes beyond ASCII are in, where they are not UTF-8.

    Raises nothing: an encoded word that can't be decoded stays as it is written, broken bytes become replacement characters.
    """
    raw = _CONTROLS.sub(b"", raw[:MAX_FIELD_BYTES])
    pieces: list[str] = []
    words: list[tuple[str, bytes]] = []
    position = 0
    for word in _ENCODED_WORD.finditer(raw):
        between = raw[position : word.start()]
        # White space between two encoded words is no part of the text; neighbours may share a character.
        if between.strip() or not words:
            pieces += [*map(_word_text, words), _bare(between, charset)]
            words = []
        name = word[1].split(b"*")[0].decode("latin-1").lower()
        data = decode_base64(word[3]) if word[2] in b"bB" else binascii.a2b_qp(word[3], header=True)
        if words and words[-1][0] == name:
            words[-1] = (name, words[-1][1] + data)
        else:
            words.append((name, data))
        position = word.end()
    pieces += [*map(_word_text, words), _bare(raw[position:], charset)]
    return " ".join("".join(pieces).split())


def iso_date(text: str) -> str | None:
    """A Date field as ISO 8601, with its own offset from UTC where it has one; None where it is no date."""
    try:
        return parsedate_to_datetime(text[:200]).isoformat()
    # Beside ValueError, the parser raises TypeError and IndexError on shapes that it did not think of.
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _word_text(word: tuple[str, bytes]) -> str:
    return _bare(word[1], word[0])


def _bare(data: bytes, charset: str | None) -> str:
    if data.isascii() and b"\x1b" not in data and charset is None:
        return data.decode("ascii")
    try:
        return decode_text(data, charset)[0]
    except Rejected:
        return data.decode("utf-8", "replace")
