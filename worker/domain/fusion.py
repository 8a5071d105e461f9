"""One order out of two: by meaning (cosine similarity) and by words (``worker.domain.bm25``).

A weighted sum of scores, not of ranks: a rank forgets by how much. Similarities of different models lie in different ranges, so
they are stretched from the least to the greatest of the candidates. Word scores have a zero that means something; they are
divided by the best one, but by no less than ``ENOUGH``: where even the best text holds little of what was asked, as for a
question in other words than the documents', words count for less. Weights were chosen by measurement
(tests/benchmarks/search_quality.py); near them the quality is flat.
"""

from __future__ import annotations

import numpy as np

from worker.domain.bm25 import Numbers

MEANING, WORDS = 0.6, 0.4
ENOUGH = 1.0
# Candidates of each kind.
DEPTH = 200


def fused(similarities: Numbers, words: Numbers, exact: Numbers) -> Numbers:
    """One score a candidate: from 0 to 1, and above where it holds what was asked for to the letter (``exact``, from 0 to 1).

    A similarity may be NaN, for a chunk without a vector: it counts as the least.
    """
    if not len(similarities):
        return np.zeros(0)
    meaning = np.zeros(len(similarities))
    known = ~np.isnan(similarities)
    if known.any():
        least, greatest = similarities[known].min(), similarities[known].max()
        spread = greatest - least
        meaning[known] = (similarities[known] - least) / spread if spread > 0 else 1.0
    result: Numbers = MEANING * meaning + WORDS * words / max(float(words.max()), ENOUGH) + exact
    return result
