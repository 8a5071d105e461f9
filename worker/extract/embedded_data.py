"""Files and other data that stand in a text as base64: found and left out, because they are no text to search or to embed.

Left out are:

* what follows the media type of a ``data:`` URI, as in Markdown, HTML and CSS;
* a run of base64 that begins as a file of a known type does (a picture, a PDF, a ZIP, a font);
* any other run of base64 of at least 1,024 characters that decodes and has the mix of letters and digits that data has;
* lines of base64 of one length, as MIME and PEM write them, if joined they are one of the two kinds of run above;
* the lines of a uuencoded file.

Hashes, keys, tokens, addresses and words are kept: the base64 of a 4,096-bit SSH key has only 716 characters, a part of an
address or of a JSON Web Token is recognised by its context, and gene sequences or hexadecimal digits have another mix.

This is not a library, because none that was tried finds base64 in running text (detectors of secrets look for short runs).
"""

from __future__ import annotations

import binascii
import re

_DIGIT = "A-Za-z0-9+/_-"
# The shortest run that is looked at closely; shorter than this is the smallest picture that shows anything.
_SHORTEST = 64
# A run of this length is data even without a known beginning. PostgreSQL's full text search ignores words of twice this length.
_LONG = 1024
# Characters before a run that are searched for the beginning of an address.
_LOOK_BEHIND = 2_000
_WORD_END = re.compile(r"[\s\"'<>(),|]")
_RUN = re.compile(f"(?<![{_DIGIT}])[{_DIGIT}]{{{_SHORTEST},}}+={{0,2}}")
# After a whole line of base64 comes white space, or a character that ends the data in its surrounding text.
_LINE_END = r"(?=[\s\"'()<>\\]|\Z)"
_URI = re.compile(
    r"(?P<kept>data:(?:[\w.+-]{1,60}/[\w.+-]{1,100})?)(?:;[\w.=\"'+-]{1,100}){0,4}?;base64,"
    rf"\s{{0,3}}(?:[{_DIGIT}]|\\/|%[0-9A-Fa-f]{{2}}){{16,}}+={{0,2}}"
    rf"(?:[ \t]*\n[ \t>]{{0,20}}[A-Za-z0-9+/]{{40,}}+={{0,2}}{_LINE_END})*+"
    r"(?:[ \t]*\n[ \t>]{0,20}[A-Za-z0-9+/]{1,200}+={0,2}(?=[\"')>]))?+",
    re.IGNORECASE,
)
# A picture's own source in an address, percent-encoded.
_ENCODED_URI = re.compile(
    r"(?P<kept>data:(?:image|audio|video|font)/[\w.+-]{1,100})(?:;[\w.=\"'+-]{1,100}){0,4}?,[^\s\"'()<>]{64,}+", re.IGNORECASE
)
_LINES = re.compile(
    r"(?:^[ \t>]{0,20}[A-Za-z0-9+/]{60,200}+[ \t]*\n){3,}+(?:^[ \t>]{0,20}[A-Za-z0-9+/]{1,200}+={0,2}[ \t]*$)?+", re.MULTILINE
)
_UUENCODED = re.compile(
    r"^(?P<kept>begin [0-7]{3,4} [^\n]{1,200}\n)(?:M[ -`]{60}[ \t]*\n)++(?:[!-L][ -`]{1,60}[ \t]*$\n?)?+", re.MULTILINE
)
# The base64 of the first bytes of known file types: PNG, JPEG, GIF, RIFF (WebP, WAV), PDF, ZIP and Office, gzip, OLE, TIFF,
# icons, fonts, MP3, Ogg, SVG and other XML.
_BEGINNINGS = (
    *("iVBORw0KGg", "/9j/", "R0lGOD", "UklGR", "JVBERi0", "UEsDB", "H4sI", "0M8R4KGxGuE", "SUkqA", "TU0AK", "AAABAA"),
    *("d09GR", "d09GM", "AAEAAAA", "T1RUTw", "SUQz", "T2dnU", "PHN2Zy", "PD94bWwg"),
)
_STANDARD = str.maketrans("-_", "+/")


def without_data(text: str) -> tuple[str, int]:
    """Return the text without the data in it, and how many pieces were left out.

    Takes time linear in the length of the text. The media type of a ``data:`` URI and the name of a uuencoded file stay.
    """
    if len(text) < _SHORTEST or ("data:" not in text.lower() and max(map(len, text.split()), default=0) < 60):
        return text, 0
    found = 0

    def kept(match: re.Match[str]) -> str:
        nonlocal found
        found += 1
        return match["kept"]

    def kept_lines(match: re.Match[str]) -> str:
        nonlocal found
        rest = _behind_data(match[0].split("\n"))
        found += rest is not None
        return match[0] if rest is None else rest

    def kept_run(match: re.Match[str]) -> str:
        nonlocal found
        if not is_data(match[0]) or _is_part(text, match.start(), match.end()):
            return match[0]
        found += 1
        return ""

    text = _URI.sub(kept, text)
    text = _ENCODED_URI.sub(kept, text)
    text = _UUENCODED.sub(kept, text)
    text = _LINES.sub(kept_lines, text)
    text = _RUN.sub(kept_run, text)
    return text, found


def is_data(run: str) -> bool:
    """Whether a run of base64 characters without spaces is a file of a known type, or long and with the mix of data."""
    digits = run.translate(_STANDARD).rstrip("=")
    # A last group of one character carries six bits, which is less than a byte.
    if len(digits) < _SHORTEST or len(digits) % 4 == 1 or not is_base64(digits):
        return False
    return (digits.startswith(_BEGINNINGS) and len(set(digits)) > 9) or (len(digits) >= _LONG and _is_mixed(digits))


def is_base64(text: str) -> bool:
    """Whether a text, its white space aside, decodes as base64 of either alphabet."""
    digits = "".join(text.split()).translate(_STANDARD).rstrip("=")
    try:
        binascii.a2b_base64(digits + "=" * (-len(digits) % 4), strict_mode=True)
    # ValueError: there are letters beyond ASCII.
    except (binascii.Error, ValueError):
        return False
    return bool(digits)


def _is_mixed(digits: str) -> bool:
    """Whether capitals, small letters and figures have at least a quarter of the shares that chance gives them."""
    length = len(digits)
    capitals, figures = sum(map(str.isupper, digits)), sum(map(str.isdigit, digits))
    small = sum(map(str.islower, digits))
    return 8 * capitals > length and 8 * small > length and 25 * figures > length and len(set(digits)) > 30


def _is_part(text: str, start: int, end: int) -> bool:
    """Whether a run is a part of an address, or of a token whose parts are joined by full stops."""
    word = _WORD_END.split(text[max(0, start - _LOOK_BEHIND) : start])[-1]
    joined = word.endswith(".") or (text[end : end + 1] == "." and text[end + 1 : end + 2].isalnum())
    return joined or "://" in word or "://" in text[start:end]


def _behind_data(lines: list[str]) -> str | None:
    """Return what is kept of lines of base64: the last line if it is not a part of the data; None if the lines are no data."""
    *full, last = [line.strip(" \t>") for line in lines]
    if len(set(map(len, full))) > 1:
        return None
    # A word on a line of its own, as a signature has it, is all letters.
    is_word = last.isalpha() and (last.islower() or last.istitle() or last.isupper())
    if (len(full) * len(full[0]) + len(last)) % 4 or is_word:
        kept, last = lines[-1], ""
    else:
        kept = ""
    return kept if is_data("".join(full) + last) else None
