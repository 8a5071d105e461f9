from __future__ import annotations

import random
from itertools import pairwise

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.edited_texts import SHAPES, changed, paginated, text_of, with_a_paragraph
from worker.domain.chunking import chunk
from worker.domain.graphemes import starts
from worker.domain.text import Block, DocumentText, assemble, is_visible

# The rules of Unicode themselves.
CLUSTER = regex.compile(r"\X")

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
        assert not is_visible(whole.text[end : max(end, piece.char_start)]), "text between two chunks is lost"
        assert is_visible(piece.text)
        assert piece.char_end > end, "a chunk lies inside the one before it"
        if chunks[ordinal - 1].char_end > piece.char_start and ordinal:
            assert chunks[ordinal - 1].char_end - piece.char_start <= overlap
        end = piece.char_end
    assert not is_visible(whole.text[end:])


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


# Letters that stand together: Latin, Thai and Lao with their vowels, Indic conjuncts, Hangul jamo, flags, families, skin
# tones, tags, variation selectors, Arabic number signs, half-width marks, ideographs; and what ends words and sentences.
PARTS = (
    "e\u0301o\u0308\u0e01\u0e33\u0e49\u0e81\u0eb3\u0915\u094d\u0937\u093f\u093c\u200c\u200d\u0b95\u0bcd\u0d4e\u0d15"
    "\u1100\u1161\u11a8\ua960\ud7b0\ud7cb\uac00\uac01\U0001f1e9\U0001f1ea\U0001f468\U0001f469\U0001f4bb\U0001f44b\U0001f3fd"
    "\U0001f3f4\U000e0067\U000e007f\ufe0f\u2764\u0600\u0661\uff76\uff9e\u4e2d\u3042\u3099\u102b\u1000"
)


@settings(max_examples=300)
@given(st.text(st.sampled_from(PARTS + " .\n\u3002"), min_size=1, max_size=300), st.integers(0, 3))
def test_a_place_that_starts_a_letter_is_one_for_unicode_too(text: str, begin: int) -> None:
    bounds = {match.end() for match in CLUSTER.finditer(text)}
    assume(begin == 0 or begin in bounds)
    assert set(starts(text, begin, len(text))) <= bounds


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(PARTS), min_size=100, max_size=400), st.integers(30, 80))
def test_no_chunk_begins_or_ends_within_a_letter(text: str, size: int) -> None:
    assert_whole_letters(document([text]).text, size, 10)


# A sign that belongs to the next letter and stands before a space has none: a chunk loses the space at its end.
PARTS_AND_SPACE = PARTS.replace("\u0600", "").replace("\u0d4e", "") + " .\n\u3002"


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(PARTS_AND_SPACE), min_size=100, max_size=400), st.integers(30, 80))
def test_no_chunk_begins_or_ends_within_a_letter_where_there_are_words_and_sentences(text: str, size: int) -> None:
    assert_whole_letters(document(["x" + text.strip() + "x"]).text, size, 10)


def assert_whole_letters(text: str, size: int, overlap: int) -> None:
    bounds = {0, *(match.end() for match in CLUSTER.finditer(text))}
    # A run of our rules, which are wider, may be longer than a chunk: there is no good place in it.
    wide = [0, *starts(text, 0, len(text)), len(text)]
    assume(max(after - before for before, after in pairwise(wide)) <= (size - overlap) * 3 // 4)
    for piece in chunk(DocumentText(text, (), (0,)), size, overlap):
        assert {piece.char_start, piece.char_end} <= bounds


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.integers(0, 2**32), st.integers(1, 40_000))
def test_an_inserted_paragraph_leaves_the_other_chunks_identical(shape: str, seed: int, within: int) -> None:
    chance = random.Random(seed)
    blocks = text_of(shape, chance, 40_000)
    edited = with_a_paragraph(blocks, shape, chance, within)
    # Cuts move only near the edit: the worst of some 6000 tries was 5.
    assert changed(chunk(assemble(tuple(blocks))), chunk(assemble(tuple(edited)))) <= 6


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_a_paragraph_on_the_first_page_changes_at_most_three_chunks_but_for_rare_cases(shape: str) -> None:
    counts = []
    for seed in range(30):
        chance = random.Random(f"first page {seed}")
        blocks = text_of(shape, chance, 30_000)
        edited = with_a_paragraph(blocks, shape, chance, 3000)
        counts.append(changed(chunk(assemble(tuple(blocks))), chunk(assemble(tuple(edited)))))
    assert sum(count > 3 for count in counts) <= 1, counts


@pytest.mark.parametrize("shape", ["prose", "headings"])
def test_pages_that_reflow_change_no_other_chunks(shape: str) -> None:
    chance = random.Random(shape)
    blocks = text_of(shape, chance, 100_000)
    edited = with_a_paragraph(blocks, shape, chance, 3000)
    on_pages = [chunk(assemble(paginated(version, cut=False))) for version in (blocks, edited)]
    without = [chunk(assemble(tuple(version))) for version in (blocks, edited)]
    assert [[piece.text for piece in pieces] for pieces in on_pages] == [[piece.text for piece in pieces] for pieces in without]
    assert {piece.page_start for piece in on_pages[0]} > {1, 2}
