"""Made-up documents of many shapes and edits of them: what the chunker's stability is measured on."""

from __future__ import annotations

import random
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from worker.domain.chunking import Chunk
from worker.domain.text import Block

PAGE_LINES, LINE_WIDTH = 40, 80


def word(chance: random.Random) -> str:
    return "".join(chance.choice("bcdfghjklmnprstvw") + chance.choice("aeiou") for _ in range(chance.choice((1, 1, 2, 2, 3, 4))))


def sentence(chance: random.Random, shortest: int = 4, longest: int = 28) -> str:
    words = " ".join(word(chance) for _ in range(chance.randint(shortest, longest)))
    return words.capitalize() + chance.choice("....?!")


def paragraph(chance: random.Random, length: int) -> str:
    text = sentence(chance)
    while len(text) < length:
        text += " " + sentence(chance)
    return text


def ideographs(chance: random.Random, length: int, stop: str = "\u3002") -> str:
    text = ""
    while len(text) < length:
        text += "".join(chr(chance.randint(0x4E00, 0x5500)) for _ in range(chance.randint(5, 40))) + stop
    return text


def rows(chance: random.Random) -> str:
    return "\n".join(" | ".join(word(chance) for _ in range(6)) for _ in range(chance.randint(10, 120)))


def headings(chance: random.Random) -> Iterator[Block]:
    while True:
        heading = sentence(chance, 2, 6)
        yield Block(heading, "heading")
        for _ in range(chance.randint(1, 10)):
            yield Block(paragraph(chance, chance.randint(100, 900)), heading_path=(heading,))


def endless(make: Callable[[random.Random], str]) -> Callable[[random.Random], Iterator[Block]]:
    def blocks(chance: random.Random) -> Iterator[Block]:
        while True:
            yield Block(make(chance))

    return blocks


SHAPES: dict[str, Callable[[random.Random], Iterator[Block]]] = {
    "prose": endless(lambda chance: paragraph(chance, chance.randint(100, 1200))),
    "paragraphs of 50 to 3200": endless(lambda chance: paragraph(chance, int(50 * 2 ** (6 * chance.random())))),
    "one sentence each": endless(sentence),
    "list items": endless(lambda chance: "- " + sentence(chance, 2, 10)),
    "long paragraphs": endless(lambda chance: paragraph(chance, chance.randint(3000, 15_000))),
    "pages of lines": endless(lambda chance: "\n".join(textwrap.wrap(paragraph(chance, 2800), LINE_WIDTH))),
    "words, no sentences": endless(lambda chance: " ".join(word(chance) for _ in range(chance.randint(1000, 5000)))),
    "tables": endless(rows),
    "headings": headings,
    "ideographs": endless(lambda chance: ideographs(chance, chance.randint(100, 900))),
    "ideographs, no stops": endless(lambda chance: ideographs(chance, chance.randint(2000, 20_000), "")),
}


def text_of(shape: str, chance: random.Random, length: int) -> list[Block]:
    """Blocks of that shape, of at least ``length`` characters together."""
    blocks: list[Block] = []
    for block in SHAPES[shape](chance):
        blocks.append(block)
        length -= len(block.text) + 2
        if length <= 0:
            break
    return blocks


def with_a_paragraph(blocks: list[Block], shape: str, chance: random.Random, within: int) -> list[Block]:
    """The blocks with one more, somewhere in the first ``within`` characters."""
    last, seen = 0, 0
    while last < len(blocks) and seen < within:
        seen += len(blocks[last].text) + 2
        last += 1
    place, length = chance.randint(0, last), chance.choice((60, 150, 300, 500, 800, 1200))
    make = ideographs if shape.startswith("ideographs") else paragraph
    path = blocks[place - 1].heading_path if place else ()
    return [*blocks[:place], Block(make(chance, length), heading_path=path), *blocks[place:]]


def paginated(blocks: Iterable[Block], cut: bool) -> tuple[Block, ...]:
    """The blocks on pages of 40 lines. ``cut``: a paragraph that goes on overleaf is two blocks; else one, of its first page."""
    pages: list[Block] = []
    page, room = 1, PAGE_LINES
    for block in blocks:
        lines = textwrap.wrap(block.text, LINE_WIDTH)
        if not cut:
            pages.append(Block(block.text, block.kind, page, block.heading_path))
        while len(lines) > room:
            head, lines = lines[:room], lines[room:]
            if cut and head:
                pages.append(Block(" ".join(head), block.kind, page, block.heading_path))
            page, room = page + 1, PAGE_LINES
        if cut:
            pages.append(Block(" ".join(lines), block.kind, page, block.heading_path))
        room -= len(lines)
    return tuple(pages)


def changed(before: Iterable[Chunk], after: Iterable[Chunk]) -> int:
    """How many chunks would have to be embedded anew."""
    return (Counter(piece.text for piece in after) - Counter(piece.text for piece in before)).total()
