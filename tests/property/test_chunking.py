from __future__ import annotations

import random
import unicodedata
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.chunking import chunk
from worker.domain.text import Block, DocumentText, assemble

LETTERS = st.characters(blacklist_categories=("Cs", "Cc"))
WORDS = st.text(LETTERS, min_size=1, max_size=30)
SENTENCES = st.lists(WORDS, min_size=1, max_size=20).map(lambda words: " ".join(words) + ".")
BLOCKS = st.lists(SENTENCES.map(str.strip).filter(bool), min_size=1, max_size=12)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(1, 300))
    return size, draw(st.integers(0, size // 2))


def document(texts: list[str]) -> DocumentText:
    return assemble(tuple(Block(text, page=number // 3 + 1) for number, text in enumerate(texts)))


@given(BLOCKS, sizes())
def test_chunks_reproduce_and_cover_the_document(texts: list[str], limits: tuple[int, int]) -> None:
    size, overlap = limits
    whole = document(texts)
    end = 0
    chunks = chunk(whole, size, overlap)
    for ordinal, piece in enumerate(chunks):
        assert piece.ordinal == ordinal
        assert piece.text == whole.text[piece.char_start : piece.char_end]
        assert 0 < len(piece.text) <= size
        assert not whole.text[end : max(end, piece.char_start)].strip(), "text between two chunks is lost"
        assert piece.char_end > end, "a chunk lies inside the one before it"
        if chunks[ordinal - 1].char_end > piece.char_start and ordinal:
            assert chunks[ordinal - 1].char_end - piece.char_start <= overlap
        end = piece.char_end
    assert not whole.text[end:].strip()


@given(BLOCKS, sizes())
def test_the_pages_of_a_chunk_are_those_of_its_characters(texts: list[str], limits: tuple[int, int]) -> None:
    whole = document(texts)
    for piece in chunk(whole, *limits):
        pages = [
            section.page
            for section in whole.sections
            if section.page and section.char_start < piece.char_end and piece.char_start < section.char_end
        ]
        assert (piece.page_start, piece.page_end) == (min(pages), max(pages))


@given(
    st.text(
        st.sampled_from("e\u0301o\u0308\u0e01\u0e33\u0e49\U0001f469\u200d\U0001f4bb\U0001f44b\U0001f3fd"),
        min_size=100,
        max_size=400,
    )
)
def test_a_cut_never_divides_a_letter_from_its_marks(text: str) -> None:
    text = "x" + text
    for piece in chunk(document([text]), 60, 10):
        if piece.char_start:
            before, after = text[piece.char_start - 1], text[piece.char_start]
            run = text[max(0, piece.char_start - 50) : piece.char_start + 1]
            if all(joins(one, two) for one, two in pairwise(run)):
                continue  # one cluster longer than a chunk
            assert not joins(before, after)


def joins(before: str, after: str) -> bool:
    marks = unicodedata.category(after) in ("Mn", "Mc", "Me") or "\U0001f3fb" <= after <= "\U0001f3ff"
    return marks or "\u200d" in (before, after)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 10_000), st.integers(1, 1500))
def test_an_inserted_paragraph_leaves_the_other_chunks_identical(seed: int, place: int, length: int) -> None:
    chance = random.Random(seed)
    texts = [
        " ".join("w" * chance.randint(1, 9) + str(chance.randint(0, 99)) for _ in range(chance.randint(5, 150))) + "."
        for _ in range(150)
    ]
    before = {piece.text for piece in chunk(document(texts))}
    place %= len(texts)
    added = " ".join(str(chance.random()) for _ in range(length // 20 + 1))
    after = chunk(document([*texts[:place], added, *texts[place:]]))
    # Cuts move only within the reach of the edit, which is half a chunk: two pieces on either side of it at most.
    assert sum(piece.text not in before for piece in after) <= 5
