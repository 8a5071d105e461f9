"""The passage of a chunk to show for a query: from the sentence on that shares its longest and rarest words."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_WORD = re.compile(r"\w+")
# An end mark with what closes it; scripts without spaces need none after it.
_SENTENCE = re.compile(r"[^.!?。！？\n]+(?:[.!?]+(?=\s|$)|[。！？]+|\n+|[.!?]|$)", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Snippet:
    """``text`` is ``chunk[start:start + len(text)]``, at most ``length`` characters."""

    start: int
    text: str


def best_passage(chunk: str, query: str, length: int = 240) -> Snippet:
    """The passage of at most ``length`` characters that has most in common with ``query``; the beginning if none has."""
    wanted = {word.casefold() for word in _WORD.findall(query)}
    frequency = Counter(word.casefold() for word in _WORD.findall(chunk))
    best_start, best_score = 0, 0.0
    for sentence in _SENTENCE.finditer(chunk):
        words = {word.casefold() for word in _WORD.findall(sentence[0])}
        # A word that stands everywhere in the chunk tells little about where to look, and so does a short one ("to", "by").
        score = sum(max(0, len(word) - 3) / frequency[word] for word in words & wanted)
        if score > best_score:
            best_start, best_score = sentence.start(), score
    while best_start < len(chunk) and chunk[best_start].isspace():
        best_start += 1
    end = min(len(chunk), best_start + length)
    if end < len(chunk) and (space := chunk.rfind(" ", best_start + length // 2, end)) > 0:
        end = space
    return Snippet(best_start, chunk[best_start:end].rstrip())
