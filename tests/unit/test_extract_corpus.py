"""The shared corpus: real files of other people, with words that two other tools agree on. ``make corpus`` prints the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.corpus import Corpus

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
# Of 19 HTML files in it, one shows words that a text browser makes up.
BARS = {"html": 0.9}

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the shared corpus is not beside this checkout")


def test_real_files_are_read_whole_or_refused_with_a_code() -> None:
    corpus = Corpus(CORPUS)
    corpus.run(progress=False)
    assert len(corpus.outcomes) > 200
    assert corpus.violations(BARS) == []
