"""Characters of symbol fonts, which a file stores in the private use area, as Unicode.

Own tables: Symbol whole (Adobe's encoding of the font), of Wingdings what people write with (ticks, boxes, arrows, bullets). What
is in neither has no meaning to a search, and is left out.
"""

from __future__ import annotations

import re

PRIVATE = re.compile("[\uf020-\uf0ff]")
_SYMBOL = (
    " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_\u203eαβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"
    + "\0" * 33
    + "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓"
    "°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪\0〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭"
)
_WINGDINGS = {
    0x22: "✂", 0x28: "☎", 0x2A: "✉", 0x45: "☜", 0x46: "☞", 0x4A: "☺", 0x4C: "☹", 0x6C: "●", 0x6E: "■", 0x6F: "□", 0x71: "❑",
    0x72: "❒", 0x75: "◆", 0x76: "❖", 0x9F: "•", 0xA7: "▪", 0xA8: "☐", 0xAB: "★", 0xD8: "➢", 0xDF: "←", 0xE0: "→", 0xE1: "↑",
    0xE2: "↓", 0xE8: "➔", 0xF0: "⇨", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑",
}  # fmt: skip


def symbol(font: str, code: str) -> str:
    """The character of a ``w:sym``: ``code`` is its ``w:char`` in hexadecimal digits; "" where it is unknown."""
    try:
        return character(font, chr(int(code, 16)))
    except (ValueError, OverflowError):
        return ""


def in_font(text: str, font: str) -> str:
    """A run's text with its private characters as Unicode."""
    return PRIVATE.sub(lambda match: character(font, match[0]), text)


def character(font: str, private: str) -> str:
    """One character of a font; outside the symbols' part of the private use area it is what it says."""
    if not PRIVATE.match(private):
        return private
    code = ord(private) & 0xFF
    name = font.strip().lower()
    if name == "symbol":
        return _SYMBOL[code - 0x20 : code - 0x1F].strip("\0")
    return _WINGDINGS.get(code, "") if name == "wingdings" else ""
