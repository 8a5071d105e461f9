"""What extraction gives and the rest of the pipeline reads: blocks, and the document text made of them.

The document text is the blocks joined by a blank line. Every offset in this project is a count of Unicode code
points into that one string, so ``text[chunk.char_start:chunk.char_end] == chunk.text`` holds for each chunk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from worker.domain.changes import UNSTORABLE

BLOCK_SEPARATOR = "\n\n"
# A character that a reader sees: no space, no blank Braille pattern, and no character that Unicode draws as nothing
# (Default_Ignorable and format characters: zero-width and direction marks, fillers, variation selectors, tags).
_VISIBLE = re.compile(
    "[^\\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

BlockKind = Literal["paragraph", "heading", "table", "note"]


@dataclass(frozen=True, slots=True)
class Block:
    """One paragraph, heading, table or note, in reading order.

    ``page`` is the 1-based page, slide or sheet on which it begins; None where the format has none. ``page_breaks`` says where
    in ``text`` it goes on, on which page, if it goes over a page's end. ``heading_path`` holds the headings that stand above it,
    outermost first.
    """

    text: str
    kind: BlockKind = "paragraph"
    page: int | None = None
    heading_path: tuple[str, ...] = ()
    page_breaks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says about itself, apart from its title; None where it says nothing.

    ``created`` and ``modified`` are ISO 8601 dates or times as far as the file has them, ``language`` is a BCP 47 tag.
    ``engines`` tells which engine read which pages, where there are several: ``pdfium 1-3, 5; pdfminer 4``.
    """

    author: str | None = None
    created: str | None = None
    modified: str | None = None
    language: str | None = None
    engines: str | None = None


@dataclass(frozen=True, slots=True)
class Extraction:
    """The result of reading one file. ``blocks`` is never empty: a file without text raises ``NoText``."""

    blocks: tuple[Block, ...]
    media_type: str
    extractor: str
    title: str | None = None
    page_count: int | None = None
    warnings: tuple[str, ...] = field(default=())
    metadata: Metadata = field(default=Metadata())


@dataclass(frozen=True, slots=True)
class Section:
    """A page, a slide, or a run of blocks under one heading: a half-open range of the document text."""

    char_start: int
    char_end: int
    page: int | None
    heading: str | None


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The text of a document, its sections in order, and where its blocks begin (for the chunker)."""

    text: str
    sections: tuple[Section, ...]
    block_starts: tuple[int, ...]


# First and last page, where there are any, and the half-open range of the text.
Span = tuple[int | None, int | None, int, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """All that is stored of one file. ``spans`` are its chunks in order; there is at least one."""

    text: str
    sections: tuple[Section, ...]
    spans: tuple[Span, ...]
    media_type: str
    extractor: str
    title: str | None
    page_count: int | None
    warnings: tuple[str, ...]
    metadata: Metadata


def storable(text: str) -> str:
    """Replace NUL and lone surrogates by U+FFFD: neither PostgreSQL nor a provider takes them.

    A lone surrogate in an argument stands for a byte that is not valid UTF-8 (PEP 383).
    """
    return text if text.isprintable() else UNSTORABLE.sub("\ufffd", text)


def is_visible(text: str) -> bool:
    """Whether the text has a character that a reader sees."""
    return _VISIBLE.search(text) is not None


def assemble(blocks: tuple[Block, ...]) -> DocumentText:
    """Join blocks into the document text; neighbours with the same page and heading form one section.

    A block that goes over a page's end is in two sections that touch: no place for a cut.
    """
    parts: list[str] = []
    starts: list[int] = []
    sections: list[Section] = []
    position = 0
    for block in blocks:
        if parts:
            position += len(BLOCK_SEPARATOR)
        # A heading begins the section that it names.
        heading = block.text if block.kind == "heading" else block.heading_path[-1] if block.heading_path else None
        end = position + len(block.text)
        begin, page = position, block.page
        for offset, next_page in block.page_breaks:
            _extend(sections, Section(begin, position + offset, page, heading))
            begin, page = position + offset, next_page
        _extend(sections, Section(begin, end, page, heading))
        parts.append(block.text)
        starts.append(position)
        position = end
    return DocumentText(BLOCK_SEPARATOR.join(parts), tuple(sections), tuple(starts))


def _extend(sections: list[Section], section: Section) -> None:
    last = sections[-1] if sections else None
    if last is not None and (last.page, last.heading) == (section.page, section.heading):
        sections[-1] = Section(last.char_start, section.char_end, last.page, last.heading)
    else:
        sections.append(section)
