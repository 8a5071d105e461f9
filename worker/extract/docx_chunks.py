"""Alternative content (``w:altChunk``): a part in another format that Word takes into the text when it opens the file.

HTML, also inside MIME (what HTML-to-Word converters write), text, and DOCX are read; of the rest a warning says that it was left
out. lxml.html and the standard library's email; the HTML extractor would read the same, but from a file.
"""

from __future__ import annotations

import email
import email.policy
import io
import re
from collections.abc import Callable
from typing import IO

from worker.domain.errors import PermanentError
from worker.extract import html, sniff
from worker.extract.blocks import BlockBuilder
from worker.extract.docx_package import warn_once
from worker.extract.encodings import decode
from worker.extract.text import add_paragraphs

_MIME = re.compile(rb"\s*(?:MIME-Version|Content-Type|From|Subject|Date):", re.IGNORECASE)


def read_chunk(data: bytes, builder: BlockBuilder, read_docx: Callable[[IO[bytes]], None] | None) -> None:
    """Add a chunk's text to the blocks, or a warning.

    ``read_docx`` reads a whole DOCX into the same builder; None where that DOCX itself is a chunk.

    Raises:
        Rejected: ``too_large``, and what a DOCX in it is refused for.
    """
    if sniff.is_zip(data):
        if read_docx is not None:
            read_docx(io.BytesIO(data))
        else:
            warn_once(builder, "an embedded document inside an embedded document was left out")
        return
    if _MIME.match(data):
        data = _html_of(data)
    try:
        text = decode(data).text if data and not data.startswith(b"{\\rtf") else ""
    except PermanentError:
        text = ""
    if not text.strip():
        warn_once(builder, "an embedded document of another format was left out")
    elif sniff.text_shape(data[: sniff.HEAD_BYTES]) == "html":
        html.add_page(text, builder)
    else:
        add_paragraphs(text, builder)


def _html_of(data: bytes) -> bytes:
    """The first HTML or text part of a MIME message (MHTML)."""
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    for part in message.walk():
        if part.get_content_type() in ("text/html", "text/plain"):
            payload = part.get_payload(decode=True)
            return payload if isinstance(payload, bytes) else b""
    return b""
