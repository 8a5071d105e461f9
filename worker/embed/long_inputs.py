"""Texts that the provider refuses in a request: found among the others, and taken in parts where they may be too long.

Only the provider's own tokenizer says how many tokens a text has; it is sure that there are not more than UTF-8 bytes. So no
text is cut beforehand, and none silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from worker.domain.errors import Rejected
from worker.domain.vectors import Vectors

_SPACE = re.compile(r"\s")
# Where to look for a space, of a text's length around its middle.
_REACH = 0.1

# Texts, and for each the number of the text that it is, or is a part of -> a vector each.
Embed = Callable[[Sequence[str], Sequence[int]], Vectors]


def embed_all(texts: Sequence[str], embed: Embed, max_tokens: int) -> tuple[dict[int, Vectors], dict[int, Rejected]]:
    """(vectors, refusals), each by the number of the text: a refused request is halved until what causes it stands alone.

    A text of more than ``max_tokens`` UTF-8 bytes that is refused is halved too: its vector is the mean of its parts', each
    weighted by its length, of length 1. A shorter one that is refused spoils no other. Any error but ``Rejected`` passes.
    """
    vectors: dict[int, Vectors] = {}
    refusals: dict[int, Rejected] = {}
    waiting = [list(range(len(texts)))] if texts else []
    while waiting:
        numbers = waiting.pop()
        try:
            vectors.update(zip(numbers, embed([texts[number] for number in numbers], numbers), strict=True))
        except Rejected as refusal:
            if len(numbers) > 1:
                middle = len(numbers) // 2
                waiting += [numbers[middle:], numbers[:middle]]
                continue
            try:
                vectors[numbers[0]] = _in_parts(texts[numbers[0]], numbers[0], embed, max_tokens, refusal)
            except Rejected as final:
                refusals[numbers[0]] = final
    return vectors, refusals


def _in_parts(text: str, number: int, embed: Embed, max_tokens: int, refusal: Rejected) -> Vectors:
    """The vector of a text that was refused whole.

    Raises:
        Rejected: it, or a part of it, is refused although it is short enough.
    """
    if len(text.encode()) <= max_tokens:
        raise refusal
    parts = halves(text)
    try:
        vectors = [*embed(parts, [number] * len(parts))]
    except Rejected:
        vectors = []
        for part in parts:
            try:
                vectors += [*embed([part], [number])]
            except Rejected as refused:
                vectors.append(_in_parts(part, number, embed, max_tokens, refused))
    mean = np.average(vectors, axis=0, weights=[len(part) for part in parts])
    return np.asarray(mean / (np.linalg.norm(mean) or 1.0), dtype=np.float32)


def halves(text: str) -> list[str]:
    """Two parts of about one length, divided at a space where one is near the middle; nothing is left out but white space."""
    middle, reach = len(text) // 2, int(len(text) * _REACH)
    space = _SPACE.search(text, middle, middle + reach)
    cut = space.start() if space else middle
    return [part for part in (text[:cut], text[cut:]) if part.strip()]
