"""A fixed sample of the shared corpus: real files of other people, with words that two other tools agree on."""

from __future__ import annotations

import csv
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest

from worker.domain.chunking import chunk
from worker.domain.errors import PermanentError
from worker.domain.text import assemble
from worker.extract.blocks import Limits
from worker.extract.registry import extract

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
PER_FORMAT = 15
BAR = 0.9

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the shared corpus is not beside this checkout")


def rows(expected: str) -> list[dict[str, str]]:
    """The files with one expectation, ordered by their checksums: a sample that nobody chose."""
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as manifest:
        found = [row for row in csv.DictReader(manifest) if row["expected"].split(":")[0] == expected]
    return sorted(found, key=lambda row: row["sha256"])


def fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def test_nearly_all_words_of_real_files_are_found() -> None:
    results: dict[str, list[bool]] = defaultdict(list)
    missing = []
    for row in rows("contain"):
        suffix = row["file"].rsplit(".", 1)[-1].replace("md", "txt").replace("html", "txt")
        if len(results[suffix]) == PER_FORMAT:
            continue
        document = assemble(extract(CORPUS / row["file"], row["file"], Limits()).blocks)
        text = fold(document.text)
        found = all(fold(word) in text for word in row["words"].split())
        results[suffix].append(found)
        missing += [] if found else [row["file"]]
        assert all(piece.text == document.text[piece.char_start : piece.char_end] for piece in chunk(document))
    assert set(results) == {"pdf", "docx", "txt"}
    for suffix, found_all in results.items():
        assert sum(found_all) >= BAR * len(found_all), (suffix, missing)


@pytest.mark.parametrize("expected", ["refuse", "no-text"])
def test_files_that_cannot_be_read_are_refused_with_a_code(expected: str) -> None:
    sample = rows(expected)[:PER_FORMAT]
    assert sample
    for row in sample:
        with pytest.raises(PermanentError) as caught:
            extract(CORPUS / row["file"], row["file"], Limits())
        assert caught.value.code in {"encrypted", "damaged", "needs_ocr", "empty"}, row["file"]
