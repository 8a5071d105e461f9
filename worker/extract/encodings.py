"""Bytes of a text file to a string: byte order mark, strict UTF-8, declared encoding, then a guess.

One-byte encodings are guessed by worker.extract.letters, the others by charset-normalizer (MIT, pure Python, kept;
alternatives: chardet, slower and weaker on short texts; uchardet, a C library without wheels of its own).
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

import charset_normalizer

from worker.domain.errors import Rejected
from worker.extract.labels import browser_codec, codec_of
from worker.extract.letters import japanese_encoding, one_byte_encoding

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 65_536
_CONTROLS = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")
# ISO 2022 texts are ASCII bytes; the designation of their first character set names them (RFC 1468, 1557, 1554).
_DESIGNATIONS = re.compile(rb"\x1b\$(?:[@BA]|\([CD]|(\)C))")


@dataclass(frozen=True, slots=True)
class Decoded:
    """``guessed`` is False where the file itself says its encoding or is valid UTF-8."""

    text: str
    encoding: str
    guessed: bool = False


def wide_encoding(data: bytes) -> str | None:
    """Name the UTF-16 or UTF-32 form of text without a byte order mark, by where its zero bytes stand; None if none fits."""
    sample = data[: _SAMPLE - _SAMPLE % 4]
    sample = sample[: len(sample) - len(sample) % 4]
    if len(sample) < 4 or b"\0" not in sample:
        return None
    quarter = len(sample) // 4
    zeros = [sample[offset::4].count(0) / quarter for offset in range(4)]
    if min(zeros[2], zeros[3]) > 0.9 and zeros[0] < 0.1:
        return "utf-32-le"
    if min(zeros[0], zeros[1]) > 0.9 and zeros[3] < 0.1:
        return "utf-32-be"
    # In any script, spaces and line ends have their zero byte on one side and hardly a letter has one on the other.
    first, second = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if second > 20 * first and _reads_as(sample, "utf-16-le"):
        return "utf-16-le"
    if first > 20 * second and _reads_as(sample, "utf-16-be"):
        return "utf-16-be"
    return None


def _reads_as(sample: bytes, encoding: str) -> bool:
    """Whether nearly all of it is printable in that encoding, as no other binary data is."""
    text = sample.decode(encoding, "replace")
    return sum(character.isprintable() or character in "\t\r\n" for character in text) > 0.98 * len(text)


def looks_binary(data: bytes) -> bool:
    """Say whether bytes can't be text in any encoding: over 2% control characters in their first and last 64 KiB.

    Compressed data has 12%, programs and images more; a log with a few stray zero bytes is still a log.
    """
    if any(data.startswith(mark) for mark, _ in _BOMS) or wide_encoding(data):
        return False
    sample = data[:_SAMPLE] + data[_SAMPLE:][-_SAMPLE:]
    return len(_CONTROLS.findall(sample)) * 50 > len(sample)


def decode(data: bytes, declared: str | None = None) -> Decoded:
    """Return the text of a file.

    ``declared`` is a name that the file itself gives (HTML's meta element); it is used where the bytes fit it.

    Raises:
        Rejected: ``type_mismatch``, the bytes are no text.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return Decoded(data[len(mark) :].decode(name, "replace"), name)
    switched = _switched(data)
    if switched:
        return switched
    if looks_binary(data):
        raise Rejected("type_mismatch", "the file poses as text and holds binary data")
    wide = wide_encoding(data)
    if wide:
        return Decoded(data.decode(wide, "replace"), wide, guessed=True)
    try:
        return Decoded(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        pass
    return _declared(data, declared) or _nearly_utf8(data) or _guess(data)


def _switched(data: bytes) -> Decoded | None:
    """ISO-2022-JP, -KR and their kin, where nearly all bytes fit."""
    found = _DESIGNATIONS.search(data, 0, _SAMPLE)
    if not found or not data[:_SAMPLE].isascii():
        return None
    name = "iso2022_kr" if found[1] else "iso2022_jp_2"
    text = data.decode(name, "replace")
    return Decoded(text, name) if _fits(text) else None


def _fits(text: str) -> bool:
    """Whether at most one in twenty of the characters beyond ASCII is a broken one."""
    broken = text.count("\ufffd")
    return not broken or broken * 20 <= len(text) - len(text.encode("ascii", "ignore"))


def _declared(data: bytes, name: str | None) -> Decoded | None:
    codec = codec_of(name) if name else None
    if codec is None:
        return None
    text = data.decode(codec, "replace")
    return Decoded(text, codec) if _fits(text) else None


def _nearly_utf8(data: bytes) -> Decoded | None:
    """UTF-8 with a few broken bytes: most sequences beyond ASCII are sound."""
    text = data.decode("utf-8", "replace")
    return Decoded(text, "utf-8", guessed=True) if _fits(text) else None


def _guess(data: bytes) -> Decoded:
    sample = _telling(data)
    name = japanese_encoding(sample) or one_byte_encoding(sample)
    if name is None:
        best = charset_normalizer.from_bytes(sample).best()
        name = (browser_codec(codecs.lookup(best.encoding).name) if best else _two_byte(sample)) or "cp1252"
    return Decoded(data.decode(name, "replace"), name, guessed=True)


def _telling(data: bytes) -> bytes:
    """The first lines with bytes beyond ASCII, which decide; a long ASCII preamble would hide them from the sample."""
    sample = b"".join(line for line in data.splitlines(keepends=True) if not line.isascii())[:_SAMPLE]
    if len(sample) < _SAMPLE:
        return sample
    # Not cut within a character: no encoding has these bytes as the second half of one.
    return sample[: max(sample.rfind(byte) for byte in (b"\n", b" ", b",", b"\r")) + 1] or sample


def _two_byte(sample: bytes) -> str | None:
    """A Korean or Chinese encoding that fits but for a few broken bytes, which charset-normalizer does not forgive."""
    texts = {name: sample.decode(name, "replace") for name in ("cp949", "gb18030", "big5hkscs")}
    name = min(texts, key=lambda name: texts[name].count("\ufffd"))
    return name if _fits(texts[name]) else None
