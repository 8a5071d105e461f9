"""BM25 over candidates: how much of what a query asks stands in a chunk.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the inverse document frequency of
Lucene, which is never negative. A score is divided by that of a chunk of average length that holds each of the query's words
once. So 1 means "all of it, once", whatever the query, and a query of which little is found has low scores throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The usual values; measured on four collections, others made no difference above 0.01 (tests/benchmarks/search_quality.py).
K1, B = 1.2, 0.75
# Sum of 1/n² over all n.
_BASEL = math.pi**2 / 6

Numbers = NDArray[np.float64]


def idf(documents: float, containing: float) -> float:
    """How telling a word is that ``containing`` of ``documents`` hold."""
    containing = min(containing, documents)
    return math.log(1 + (documents - containing + 0.5) / (containing + 0.5))


def counts(ranks: Numbers) -> Numbers:
    """How often a word stands in a text, from PostgreSQL's ``ts_rank('{1,1,1,1}', words, word)``.

    For one word that is (1 + 1/4 + 1/9 + … + 1/n²) · 6/π², whose rest is 1/(n + ½) but for a part that rounding takes.
    """
    rest = np.maximum(_BASEL * (1 - ranks), 1 / 256)  # a tsvector holds at most 255 places of a word
    return np.where(ranks > 0, np.rint(1 / rest - 0.5), 0.0)


def scores(occurrences: Numbers, lengths: Numbers, average_length: float, weights: Sequence[float]) -> Numbers:
    """One score a chunk. ``occurrences``: a row a chunk, a column a word; ``weights``: the words' idf, absent words included."""
    whole = sum(weights)
    if not whole or not len(lengths):
        return np.zeros(len(lengths))
    damping = K1 * (1 - B + B * lengths / max(average_length, 1.0))
    parts = occurrences * (K1 + 1) / (occurrences + damping[:, None])
    result: Numbers = parts @ np.asarray(weights) / whole
    return result
