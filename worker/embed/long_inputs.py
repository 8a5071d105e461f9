"""Sends a batch in requests that the provider accepts: with fewer texts if there are too many, in parts if a text is too long.

Only the provider's own tokenizer knows how many tokens a text has. So a text is divided only after the provider refused it as
too long, or refused a text with no more tokens before; and no text is cut silently.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from worker.domain.errors import IngestError, Rejected
from worker.domain.vectors import Vectors
from worker.embed.openai import RequestTooLarge, TextTooLong
from worker.embed.request_size import RequestSizer

_SPACE = re.compile(r"\s")
# Where to look for a space, of a text's length around its middle.
_REACH = 0.1
# Characters of a part that is not divided further. The smallest models take 128 tokens, and a tokenizer makes at most two tokens
# of a character of a script that it was trained on.
_SHORTEST = 64

# Takes texts or parts of texts, and for each the number of its text. Returns one vector for each, and by its position what is
# wrong with a vector.
Embed = Callable[[Sequence[str], Sequence[int]], tuple[Vectors, Mapping[int, str]]]


class _Part(NamedTuple):
    """A text or a part of it. ``number`` is the position of the text in the batch."""

    number: int
    text: str


@dataclass(slots=True)
class Outcome:
    """The results of a batch, by the numbers of its texts.

    ``unusable`` says what is wrong with a text's vector. ``failure`` is the error that ended the work early: ``failed`` are the
    texts of that request, ``unasked`` those that were not sent because of it.
    """

    vectors: dict[int, Vectors] = field(default_factory=dict)
    refusals: dict[int, Rejected] = field(default_factory=dict)
    unusable: dict[int, str] = field(default_factory=dict)
    failure: IngestError | None = None
    failed: list[int] = field(default_factory=list)
    unasked: list[int] = field(default_factory=list)


def embed_all(texts: Sequence[str], embed: Embed, max_tokens: int, sizer: RequestSizer) -> Outcome:
    """Have all texts embedded, in as many requests as that takes.

    A refused request is divided until what causes the refusal stands alone. A text that is too long is divided too, and so is
    one of more than ``max_tokens`` UTF-8 bytes that is refused for another reason: its vector is the mean of its parts', each
    weighted by its length, scaled to length 1.
    """
    work = _Work(embed, max_tokens, sizer)
    work.run([part for number, text in enumerate(texts) for part in work.divided(_Part(number, text))])
    return work.outcome


class _Work:
    def __init__(self, embed: Embed, max_tokens: int, sizer: RequestSizer) -> None:
        self.outcome = Outcome()
        self._embed, self._max_tokens, self._sizer = embed, max_tokens, sizer
        self._waiting: deque[list[_Part]] = deque()
        self._found: dict[int, list[tuple[int, Vectors]]] = {}

    def run(self, parts: list[_Part]) -> None:
        self._queue(parts)
        while self._waiting:
            group = [part for part in self._waiting.popleft() if part.number not in self.outcome.refusals]
            if not group:
                continue
            try:
                vectors, unusable = self._embed([part.text for part in group], [part.number for part in group])
            except Rejected as refusal:
                self._refused(group, refusal)
            except IngestError as error:
                failed = {part.number for part in group}
                unasked = {part.number for parts in self._waiting for part in parts} - failed - set(self.outcome.refusals)
                self.outcome.failure, self.outcome.failed, self.outcome.unasked = error, sorted(failed), sorted(unasked)
                break
            else:
                for place, part in enumerate(group):
                    if place in unusable:
                        self.outcome.unusable[part.number] = unusable[place]
                    else:
                        self._found.setdefault(part.number, []).append((len(part.text), vectors[place]))
        left_out = {*self.outcome.refusals, *self.outcome.unusable, *self.outcome.failed, *self.outcome.unasked}
        self.outcome.vectors = {number: _mean(parts) for number, parts in self._found.items() if number not in left_out}

    def divided(self, part: _Part) -> list[_Part]:
        """Divide a part until each piece is shorter than any text that was refused as too long."""
        if about_tokens(part.text) < self._sizer.too_long() or len(part.text) <= _SHORTEST:
            return [part]
        return [smaller for half in halves(part.text) for smaller in self.divided(_Part(part.number, half))]

    def _queue(self, parts: Sequence[_Part]) -> None:
        """Put parts before all others, in groups that the limits allow."""
        limits = self._sizer.limits()
        groups: list[list[_Part]] = [[]]
        size = 0
        for part in parts:
            length = len(part.text.encode())
            if groups[-1] and (len(groups[-1]) >= limits.texts or size + length > limits.size):
                groups.append([])
                size = 0
            groups[-1].append(part)
            size += length
        self._waiting.extendleft(reversed([group for group in groups if group]))

    def _refused(self, group: list[_Part], refusal: Rejected) -> None:
        if isinstance(refusal, RequestTooLarge):
            size = sum(len(part.text.encode()) for part in group)
            self._sizer.refused(len(group), size, refusal.by_number, refusal.most_texts)
            self._queue_halves(group)
        elif len(group) > 1:
            # By length, so that the long half has the cause if that is the length.
            ordered = sorted(group, key=lambda part: about_tokens(part.text))
            parts = [smaller for part in ordered for smaller in self.divided(part)]
            if isinstance(refusal, TextTooLong) and len(parts) > len(group):
                self._queue(parts)
            else:
                self._queue_halves(ordered)
        else:
            self._refused_alone(group[0], refusal)

    def _queue_halves(self, group: list[_Part]) -> None:
        middle = len(group) // 2
        self._queue(group[middle:])
        self._queue(group[:middle])

    def _refused_alone(self, part: _Part, refusal: Rejected) -> None:
        too_long = isinstance(refusal, TextTooLong)
        if too_long and len(part.text) > _SHORTEST:
            self._sizer.too_long(about_tokens(part.text))
            self._queue([_Part(part.number, half) for half in halves(part.text)])
        elif too_long:
            self.outcome.refusals[part.number] = Rejected(
                "embedding_rejected",
                f"the provider calls even {len(part.text)} characters of this document's text too long; set"
                " LEX_INGEST_EMBEDDING_MAX_TOKENS and LEX_INGEST_CHUNK_SIZE to what the model takes, or change the model",
            )
        elif len(part.text.encode()) > self._max_tokens:
            self._queue([_Part(part.number, half) for half in halves(part.text)])
        else:
            self.outcome.refusals[part.number] = refusal


def _mean(parts: Sequence[tuple[int, Vectors]]) -> Vectors:
    if len(parts) == 1:
        return parts[0][1]
    mean = np.average([vector for _, vector in parts], axis=0, weights=[length for length, _ in parts])
    return np.asarray(mean / (np.linalg.norm(mean) or 1.0), dtype=np.float32)


def about_tokens(text: str) -> float:
    """Estimate the tokens of a text, to compare texts of different scripts: four ASCII characters make one, another one does."""
    plain = len(text.encode("ascii", "ignore"))
    return plain / 4 + len(text) - plain


def halves(text: str) -> list[str]:
    """Two parts of about one length, divided at a space where one is near the middle; nothing is left out but white space."""
    middle, reach = len(text) // 2, int(len(text) * _REACH)
    space = _SPACE.search(text, middle, middle + reach)
    cut = space.start() if space else middle
    return [part for part in (text[:cut], text[cut:]) if part.strip()]
