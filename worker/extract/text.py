"""Plain text, and whatever reads well as plain text (JSON, logs, source code): paragraphs are split at blank lines.

No library: the work is in worker.extract.encodings, which names its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from worker.domain.text import Extraction
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.encodings import Decoded, decode

_PARAGRAPH_END = re.compile(r"\n[ \t\xa0]*\n|\f")


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a text file: one block a paragraph.

    Raises:
        Rejected: ``type_mismatch`` (binary data), ``too_large``.
        NoText: ``empty``.
    """
    return paragraphs(decode(path.read_bytes()), limits)


def paragraphs(decoded: Decoded, limits: Limits) -> Extraction:
    """The blocks of a text that is decoded already.

    Raises:
        Rejected: ``too_large``.
        NoText: ``empty``.
    """
    builder = BlockBuilder(limits)
    if decoded.guessed:
        builder.warn(f"the encoding was guessed: {decoded.encoding}")
    for paragraph in _PARAGRAPH_END.split(decoded.text.replace("\r\n", "\n").replace("\r", "\n")):
        builder.add(paragraph)
    return builder.finish("text/plain", "text")
