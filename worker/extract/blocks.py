"""The border that all extracted text crosses, and the builder that every extractor fills.

PostgreSQL refuses NUL and lone surrogates, and control characters are noise to a reader and to a model: ``clean`` is
the one place where they go.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Block, BlockKind, Extraction, Metadata, is_visible
from worker.extract.embedded_data import without_data

_LINE_ENDS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")
# C0 and C1 controls but \n and \t, lone surrogates, noncharacters, BOM, and the soft hyphen, which hides a word from a search.
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\ud800-\udfff\ufeff\ufffe\uffff]")
# The look behind: without it, each space of a long run is tried as its beginning, which takes the square of the run's length.
_LINE_PADDING = re.compile(r"(?<![ \t\xa0])[ \t\xa0]+(?=\n)")
_PADDINGS = (" \n", "\t\n", "\xa0\n")
_BLANK_LINES = re.compile(r"\n{3,}")

# The longest title, author or heading that is kept, and the longest sentence for the user, in characters.
_TITLE_LENGTH, _SENTENCE_LENGTH = 500, 300
NO_METADATA = Metadata()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one extraction may produce, and how. ``max_text_chars`` counts the characters of all blocks.

    A block costs the reader some 600 bytes besides its text (measured: 1.5 million tiny ones, 850 MB). ``pdf_engine`` is
    ``auto``, ``pdfium`` or ``pdfminer``. ``max_chars_of_size`` is what a file of this size may hold
    (``Format.most_characters``).
    """

    max_text_chars: int = 20_000_000
    max_pages: int = 20_000
    max_blocks: int = 400_000
    pdf_engine: str = "auto"
    max_chars_of_size: int = sys.maxsize

    def check(self, characters: int) -> None:
        """Check that a file may hold so many characters of text.

        Raises:
            Rejected: ``too_large``, or ``bomb`` if a file of this size may not hold so many.
        """
        if characters > self.max_text_chars:
            raise Rejected("too_large", f"the file holds more than {self.max_text_chars} characters of text")
        if characters > self.max_chars_of_size:
            raise Rejected("bomb", f"the file repeats a little text to more than {self.max_chars_of_size} characters")


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
    return text.strip() if is_visible(text) else ""


def shortened(text: str, length: int) -> str:
    """Return at most ``length`` characters of a text, cleaned. The cut comes first, because it may leave a space at the end."""
    return clean(clean(text)[:length])


def shortened_line(text: str | None, length: int = _TITLE_LENGTH) -> str | None:
    """Return the text on one line, cleaned, of at most ``length`` characters; None if nothing is left of it."""
    return shortened(" ".join(clean(text or "").split()), length) or None


class BlockBuilder:
    """Collects cleaned blocks in reading order and keeps the heading path. One builder per file.

    A builder ``for_part`` collects texts that another one takes over, and leaves data in base64 for that one to find and count.
    """

    def __init__(self, limits: Limits, for_part: bool = False) -> None:
        self.warnings: list[str] = []
        # Added to each heading's level: the depth of a document that stands in another.
        self.heading_base = 0
        self._limits = limits
        self._for_part = for_part
        self._left_out = 0
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
        cleaned, left_out = self._cleaned(text)
        self._left_out += left_out
        if not cleaned:
            return
        self._characters += len(cleaned)
        self._limits.check(self._characters)
        if len(self._blocks) >= self._limits.max_blocks:
            raise Rejected("too_large", f"the file holds more than {self._limits.max_blocks} paragraphs")
        path = tuple(heading for _, heading in self._headings)
        breaks = [(offset if cleaned == text else self._place(cleaned, text[:offset]), number) for offset, number in page_breaks]
        while breaks and breaks[0][0] <= 0:
            page = breaks.pop(0)[1]
        self._blocks.append(Block(cleaned, kind, page, path, _rising(breaks, len(cleaned))))

    def add_heading(self, level: int, text: str, page: int | None = None) -> None:
        """Append a heading; what follows stands under it until a heading of the same or a lower level number."""
        cleaned, left_out = self._cleaned(text)
        self._left_out += left_out
        name = " ".join(cleaned.split())
        if not name:
            return
        level += self.heading_base
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        self.add(name, "heading", page)
        self._headings.append((level, shortened(name, _TITLE_LENGTH)))

    def leave_headings(self) -> None:
        """Start anew without a heading, as on a new slide or in the notes at the end."""
        self._headings.clear()

    def warn(self, warning: str) -> None:
        """Record a sentence for the user about something left out, once. It never holds text of the document."""
        sentence = shortened(warning, _SENTENCE_LENGTH)
        if sentence and sentence not in self.warnings:
            self.warnings.append(sentence)

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
        if self.empty and self._left_out:
            raise NoText("empty", "the file holds data in base64 and no text")
        if self.empty:
            raise NoText("empty", "the file is sound and holds no text")
        if self._left_out:
            self.warn(f"data in base64 (pictures, other files) was left out: {self._left_out}")
        known = Metadata(**{item.name: _line(getattr(metadata, item.name)) for item in fields(Metadata)})
        return Extraction(tuple(self._blocks), media_type, extractor, _line(title), page_count, tuple(self.warnings), known)

    def leave_out(self, pieces: int = 1) -> None:
        """Count pieces of data in base64 that an extractor itself left out."""
        self._left_out += pieces

    def _cleaned(self, text: str) -> tuple[str, int]:
        """Return the text as it can be stored, and how many pieces of data were left out of it."""
        cleaned = clean(text)
        if self._for_part:
            return cleaned, 0
        rest, left_out = without_data(cleaned)
        return (clean(rest), left_out) if left_out else (cleaned, 0)

    def _place(self, cleaned: str, before: str) -> int:
        """The position in the cleaned text of what follows ``before`` in the original text."""
        at = len(self._cleaned(before)[0])
        return at + len(cleaned[at:]) - len(cleaned[at:].lstrip())


def _rising(breaks: list[tuple[int, int]], length: int) -> tuple[tuple[int, int], ...]:
    """The page breaks with text on both sides: cleaning may have removed all of a paragraph's text on one page."""
    kept: list[tuple[int, int]] = []
    for offset, page in breaks:
        # Of two breaks in one place, nothing stands on the page between them.
        if kept and kept[-1][0] >= offset:
            kept[-1] = (kept[-1][0], page)
        elif offset < length:
            kept.append((offset, page))
    return tuple(kept)


def _line(text: str | None) -> str | None:
    return shortened_line(without_data(text or "")[0])
