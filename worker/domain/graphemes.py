"""Where a text may be cut without dividing what a reader sees as one letter: the grapheme clusters of Unicode Standard Annex 29.

The rules by the character classes of ``unicodedata``, each a little wide: what a newer Unicode calls one cluster may be
unknown to this Python, so marks, vowels and unassigned characters always stay with what is before them. The other choice
was the ``regex`` package, whose ``\\X`` is exact: the tests hold these rules to it, and workers need not carry it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

_ZWJ = "\u200d"
# What belongs to the character before it though it is no mark: joiners, Thai and Lao vowels, half-width Katakana sound marks.
_FOLLOWERS = frozenset("\u200c\u200d\u0e33\u0eb3\uff9e\uff9f")
# What belongs to the character behind it: number signs of Arabic, Syriac, Kaithi; letters of Indic scripts that stand in front.
_PREPENDED = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3"
    "\U000113d1\U0001193f\U00011941\U00011a84\U00011a85\U00011a86\U00011a87\U00011a88\U00011a89\U00011d46\U00011f02"
)
_MARKS = frozenset(("Mn", "Mc", "Me"))
_VIRAMA = 9


def joined(text: str, position: int) -> bool:
    """Whether a cut here would divide a cluster; never at the ends of the text.

    Of two flags side by side only the first pair is seen: a run of flags has to be read from its start, as ``starts`` does.
    """
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    if before < "\u0300" and after < "\u0300":
        return before == "\r" and after == "\n"
    if before in "\r\n" or ("\u3400" <= before <= "\u9fff" and "\u3400" <= after <= "\u9fff"):
        return False
    return (
        before == _ZWJ
        or before in _PREPENDED
        or _follows(after)
        or (_is_flag(before) and _is_flag(after))
        or _is_hangul_pair(before, after)
        or (unicodedata.category(after) == "Lo" and _ends_in_virama(text, position))
    )


def starts(text: str, begin: int, end: int) -> Iterator[int]:
    """The places between ``begin`` and ``end``, both left out, where a cluster starts, if one starts at ``begin``."""
    flags = begin < len(text) and _is_flag(text[begin])
    for position in range(begin + 1, end):
        if _is_flag(text[position]):
            divides = flags or (joined(text, position) and not _is_flag(text[position - 1]))
            flags = not flags
        else:
            divides, flags = joined(text, position), False
        if not divides:
            yield position


def _follows(character: str) -> bool:
    return (
        character in _FOLLOWERS
        or (category := unicodedata.category(character)) in _MARKS
        or category == "Cn"
        # Skin tones; the tags that tell one flag from another.
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
    )


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_hangul_pair(before: str, after: str) -> bool:
    """Vowels and final consonants stay with what is before them, whatever it is; first consonants with a syllable behind."""
    if "\u1160" <= after <= "\u11ff" or "\ud7b0" <= after <= "\ud7fb" or "\U00016d63" <= after <= "\U00016d6a":
        return True
    leading = "\u1100" <= before <= "\u115f" or "\ua960" <= before <= "\ua97f"
    return leading and ("\u1100" <= after <= "\u115f" or "\ua960" <= after <= "\ua97f" or "\uac00" <= after <= "\ud7a3")


def _ends_in_virama(text: str, position: int) -> bool:
    """Whether the letter before is to be read together with the next one: a virama among its marks says so."""
    for index in range(position - 1, -1, -1):
        character = text[index]
        if unicodedata.combining(character) == _VIRAMA:
            return True
        if not _follows(character):
            return False
    return False
