"""What a query wants to the letter: a passage in quotes, or an identifier such as ``ERR-4711``, ``2.4.1`` or ``hnsw.ef_search``.

Vectors blur these, and their parts alone say little, so a chunk that holds one as it stands comes first.
"""

from __future__ import annotations

import re

_QUOTED = re.compile(r'"([^"]{2,200})"|“([^”]{2,200})”|„([^“]{2,200})“|«([^»]{2,200})»')
# Scripts that put no spaces between words: there a run of characters is a word, or a few.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]{2,8}")
_JOINED = re.compile(r"[^\W_][._:#@\\][^\W_]")
_LONGEST, MOST = 100, 8


def _is_identifier(word: str) -> bool:
    if not 3 <= len(word) <= _LONGEST:
        return False
    if any(character.isdigit() for character in word):
        return not word.isdigit() and any(not character.isdigit() for character in word)
    return len(word) >= 4 and _JOINED.search(word) is not None


def exact_parts(query: str) -> list[str]:
    """The parts of ``query`` to look for as they stand, in order, each once, at most ``MOST``."""
    found = [next(part for part in match.groups() if part) for match in _QUOTED.finditer(query)]
    rest = _QUOTED.sub(" ", query)
    for word in rest.split():
        bare = word.strip(".,;:!?()[]{}<>'\"“”„«»…")
        if _is_identifier(bare):
            found.append(bare)
        else:
            found.extend(_UNSPACED.findall(bare) if _UNSPACED.fullmatch(bare) else ())
    return list(dict.fromkeys(found))[:MOST]
