"""Plain text, and whatever reads well as plain text (CSV, JSON, logs, source code): paragraphs are split at blank lines.

No library: the work is in worker.extract.encodings, which names its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from worker.domain.errors import Rejected
from worker.domain.text import Extraction
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.encodings import decode

_LINE_ENDS = re.compile("\r\n?|[\x85\u2028]")
_PARAGRAPH_END = re.compile("\n[ \t\xa0]*\n|[\f\u2029]")
# UTF-32 takes most: four bytes a character.
_MOST_BYTES_PER_CHARACTER = 4


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a text file: one block a paragraph.

    Raises:
        Rejected: ``type_mismatch`` (binary data), ``too_large``.
        NoText: ``empty``.
    """
    decoded = decode(read_bounded(path, limits))
    builder = BlockBuilder(limits)
    if decoded.guessed:
        builder.warn(f"the encoding was guessed: {decoded.encoding}")
    add_paragraphs(decoded.text, builder)
    return builder.finish("text/plain", "text")


def add_paragraphs(text: str, builder: BlockBuilder) -> None:
    """Add one block a paragraph.

    Raises:
        Rejected: ``too_large``.
    """
    for paragraph in _PARAGRAPH_END.split(_LINE_ENDS.sub("\n", text)):
        builder.add(paragraph)


def read_bounded(path: Path, limits: Limits) -> bytes:
    """The bytes of a file that is text as a whole, unless they are more than the allowed text takes in any encoding.

    Raises:
        Rejected: ``too_large``.
    """
    if path.stat().st_size > _MOST_BYTES_PER_CHARACTER * limits.max_text_chars:
        raise Rejected("too_large", f"the file holds more than {limits.max_text_chars} characters of text")
    return path.read_bytes()
