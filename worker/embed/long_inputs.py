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


def embed_all(texts: Sequence[str], embed: Callable[[Sequence[str]], Vectors], max_tokens: int) -> Vectors:
    """One vector a text, as ``embed`` gives them; a refused request is halved until the text that causes it stands alone.

    A text of more than ``max_tokens`` UTF-8 bytes that is refused is halved too: its vector is the mean of its parts', each
    weighted by its length, of length 1.

    Raises:
        Rejected: the provider refuses a text that is short enough.
    """
    try:
        return embed(texts)
    except Rejected:
        if len(texts) > 1:
            middle = len(texts) // 2
            return np.concatenate([embed_all(part, embed, max_tokens) for part in (texts[:middle], texts[middle:])])
        if len(texts[0].encode()) <= max_tokens:
            raise
    parts = halves(texts[0])
    mean = np.average(embed_all(parts, embed, max_tokens), axis=0, weights=[len(part) for part in parts])
    return np.asarray([mean / (np.linalg.norm(mean) or 1.0)], dtype=np.float32)


def halves(text: str) -> list[str]:
    """Two parts of about one length, divided at a space where one is near the middle; nothing is left out but white space."""
    middle, reach = len(text) // 2, int(len(text) * _REACH)
    space = _SPACE.search(text, middle, middle + reach)
    cut = space.start() if space else middle
    return [part for part in (text[:cut], text[cut:]) if part.strip()]
