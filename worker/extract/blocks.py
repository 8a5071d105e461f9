"""The border that all extracted text crosses, and the builder that every extractor fills.

PostgreSQL refuses NUL and lone surrogates, and control characters are noise to a reader and to a model: ``clean`` is
the one place where they go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Block, BlockKind, Extraction, Metadata

_LINE_ENDS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")
# C0 and C1 controls but \n and \t, lone surrogates, noncharacters, BOM, and the soft hyphen, which hides a word from a search.
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\ud800-\udfff\ufeff\ufffe\uffff]")
# The look behind: without it, each space of a long run is tried as its beginning, which takes the square of the run's length.
_LINE_PADDING = re.compile(r"(?<![ \t\xa0])[ \t\xa0]+(?=\n)")
_PADDINGS = (" \n", "\t\n", "\xa0\n")
# Something that a reader sees: not a space, a zero-width or direction mark, a filler or a variation selector.
_VISIBLE = re.compile(
    "[^\\s\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_BLANK_LINES = re.compile(r"\n{3,}")

_TITLE_LENGTH = 500
NO_METADATA = Metadata()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one extraction may produce, and how. ``max_text_chars`` counts the characters of all blocks.

    A block costs the reader some 600 bytes besides its text (measured: 1.5 million tiny ones, 850 MB). ``pdf_engine`` is
    ``auto``, ``pdfium`` or ``pdfminer``.
    """

    max_text_chars: int = 20_000_000
    max_pages: int = 20_000
    max_blocks: int = 400_000
    pdf_engine: str = "auto"


def clean(text: str) -> str:
    """Return the text as it may be stored: ``\\n`` line ends, no control character, NUL or lone surrogate, no padding.

    Text of invisible characters only is none; within text they stay, since some scripts need them in their words.
    """
    # Nearly all paragraphs are one line of printable characters; the expressions cost more than reading such a file.
    if not text.isprintable():
        text = _DROPPED.sub("", _LINE_ENDS.sub("\n", text.replace("\r\n", "\n")))
        if any(padding in text for padding in _PADDINGS):
            text = _LINE_PADDING.sub("", text)
        if "\n\n\n" in text:
            text = _BLANK_LINES.sub("\n\n", text)
    return text.strip() if _VISIBLE.search(text) else ""


class BlockBuilder:
    """Collects cleaned blocks in reading order and keeps the heading path. One builder per file."""

    def __init__(self, limits: Limits) -> None:
        self.warnings: list[str] = []
        # Added to each heading's level: the depth of a document that stands in another.
        self.heading_base = 0
        self._limits = limits
        self._blocks: list[Block] = []
        self._characters = 0
        self._headings: list[tuple[int, str]] = []

    def add(
        self,
        text: str,
        kind: BlockKind = "paragraph",
        page: int | None = None,
        page_breaks: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Append a block under the current headings; a blank one is dropped. ``page_breaks`` counts in the text as given.

        Raises:
            Rejected: ``too_large``, the file holds more text or more blocks than the limit.
        """
        cleaned = clean(text)
        if not cleaned:
            return
        self._characters += len(cleaned)
        if self._characters > self._limits.max_text_chars:
            raise Rejected("too_large", f"the file holds more than {self._limits.max_text_chars} characters of text")
        if len(self._blocks) >= self._limits.max_blocks:
            raise Rejected("too_large", f"the file holds more than {self._limits.max_blocks} paragraphs")
        path = tuple(heading for _, heading in self._headings)
        breaks = tuple((offset if cleaned == text else _place(cleaned, text[:offset]), number) for offset, number in page_breaks)
        self._blocks.append(Block(cleaned, kind, page, path, breaks))

    def add_heading(self, level: int, text: str, page: int | None = None) -> None:
        """Append a heading; what follows stands under it until a heading of the same or a lower level number."""
        name = " ".join(clean(text).split())
        if not name:
            return
        level += self.heading_base
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        self.add(name, "heading", page)
        self._headings.append((level, name[:_TITLE_LENGTH]))

    def leave_headings(self) -> None:
        """Start anew without a heading, as on a new slide or in the notes at the end."""
        self._headings.clear()

    def warn(self, warning: str) -> None:
        """Record a sentence for the user about something left out, once. It never holds text of the document."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    @property
    def texts(self) -> list[str]:
        """The texts of the blocks so far."""
        return [block.text for block in self._blocks]

    @property
    def count(self) -> int:
        return len(self._blocks)

    @property
    def empty(self) -> bool:
        return not self._blocks

    def finish(
        self,
        media_type: str,
        extractor: str,
        title: str | None = None,
        page_count: int | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> Extraction:
        """Return the extraction. Title and metadata are cleaned and cut to 500 characters here.

        Raises:
            NoText: ``empty``, no block was added.
        """
        if self.empty:
            raise NoText("empty", "the file is sound and holds no text")
        known = Metadata(**{item.name: _line(getattr(metadata, item.name)) for item in fields(Metadata)})
        return Extraction(tuple(self._blocks), media_type, extractor, _line(title), page_count, tuple(self.warnings), known)


def _place(cleaned: str, before: str) -> int:
    """Where in a cleaned text that goes on which stands behind ``before`` in the text as given."""
    at = len(clean(before))
    return at + len(cleaned[at:]) - len(cleaned[at:].lstrip())


def _line(text: str | None) -> str | None:
    return " ".join(clean(text or "").split())[:_TITLE_LENGTH] or None
