from __future__ import annotations

import time
from itertools import pairwise

import pytest

from worker.domain.chunking import Chunk, chunk
from worker.domain.text import Block, DocumentText, assemble


def document(*texts: str) -> DocumentText:
    return assemble(tuple(Block(text) for text in texts))


def prose(sentences: int) -> str:
    return " ".join(f"Sentence number {number} of this text says little." for number in range(sentences))


def test_a_text_within_the_size_is_one_chunk() -> None:
    assert chunk(document("Short.", "Text."), 4000, 400) == [Chunk(0, "Short.\n\nText.", None, None, 0, 13)]


def test_a_document_without_text_has_no_chunk() -> None:
    assert chunk(DocumentText("", (), ())) == []


def test_cuts_fall_on_block_starts_where_there_are_any() -> None:
    blocks = [f"Block {number}. " + "word " * 60 for number in range(40)]
    whole = document(*(block.strip() for block in blocks))
    chunks = chunk(whole, 1000, 0)
    assert len(chunks) > 10
    assert all(piece.char_start in whole.block_starts for piece in chunks)


def test_cuts_and_overlaps_fall_on_sentence_starts_within_a_long_paragraph() -> None:
    chunks = chunk(document(prose(300)), 1000, 120)
    assert len(chunks) > 10
    assert all(piece.text.startswith("Sentence number") and piece.text.endswith("little.") for piece in chunks)


@pytest.mark.parametrize("mark", ["\u3002", "\uff01", "\uff1f", "\u0964", "\u104b"])
def test_scripts_without_spaces_are_cut_at_their_own_sentence_ends(mark: str) -> None:
    text = "".join("漢字文" * (5 + number % 7) + mark for number in range(200))
    chunks = chunk(document(text), 500, 50)
    assert len(chunks) > 5
    assert all(piece.text.endswith(mark) for piece in chunks)


def test_a_text_without_any_boundary_is_cut_at_full_length() -> None:
    chunks = chunk(document("ก" * 10_000), 1000, 100)
    assert {len(piece.text) for piece in chunks} <= set(range(1, 1001))
    assert len(chunks) <= 15
    assert chunks[-1].char_end == 10_000


def test_the_overlap_begins_at_a_word_where_no_sentence_ends_in_it() -> None:
    words = "boundary " * 400
    chunks = chunk(document(words.strip()), 500, 60)
    assert all(piece.text.startswith("boundary") for piece in chunks)
    assert all(0 < before.char_end - after.char_start <= 60 for before, after in pairwise(chunks))


def test_a_chunk_over_two_pages_names_both() -> None:
    whole = assemble((Block("One.", page=4), Block("Two.", page=5)))
    assert [(piece.page_start, piece.page_end) for piece in chunk(whole)] == [(4, 5)]


def test_an_overlap_of_more_than_half_is_refused() -> None:
    with pytest.raises(ValueError, match="half of size"):
        chunk(document("text"), 100, 51)


@pytest.mark.parametrize(
    "text",
    ["a" * 1_000_000, "a\n" * 500_000, "a. " * 330_000, "same line of text\n" * 55_000, "\u0301" * 1_000_000],
    ids=range(5),
)
def test_a_million_characters_take_seconds_whatever_they_are(text: str) -> None:
    started = time.process_time()
    assert chunk(DocumentText(text, (), (0,)))
    assert time.process_time() - started < 20
