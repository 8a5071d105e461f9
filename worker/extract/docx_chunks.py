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

from lxml import etree

from worker.domain.errors import PermanentError
from worker.extract import sniff
from worker.extract.blocks import BlockBuilder
from worker.extract.docx_package import warn_once
from worker.extract.encodings import decode

_MIME = re.compile(rb"\s*(?:MIME-Version|Content-Type|From|Subject|Date):", re.IGNORECASE)
_SKIPPED = ("script", "style", "head", "template", "title")
_BLOCKS = frozenset(
    [
        *(
            "address",
            "blockquote",
            "body",
            "br",
            "dd",
            "div",
            "dl",
            "dt",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "hr",
            "li",
            "ol",
            "p",
        ),
        *("pre", "section", "table", "td", "th", "tr", "ul"),
    ]
)
_SPACES = re.compile(r"[ \t\r\n\f]+")


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
        _html(text, builder)
    else:
        for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
            builder.add(paragraph)


def _html_of(data: bytes) -> bytes:
    """The first HTML or text part of a MIME message (MHTML)."""
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    for part in message.walk():
        if part.get_content_type() in ("text/html", "text/plain"):
            payload = part.get_payload(decode=True)
            return payload if isinstance(payload, bytes) else b""
    return b""


def _html(text: str, builder: BlockBuilder) -> None:
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    root = etree.fromstring(text.replace("\0", "").encode("utf-8", "replace"), parser)
    parts: list[str] = []

    def flush() -> None:
        builder.add(_SPACES.sub(" ", "".join(parts)))
        parts.clear()

    if root is None:
        return
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        if element.tag in _SKIPPED:
            if event == "start":
                walk.skip_subtree()
        elif event == "start":
            if element.tag in _BLOCKS:
                flush()
            parts.append(element.text or "")
        elif element.tag in _BLOCKS:
            flush()
        if event == "end":
            parts.append(element.tail or "")
    flush()
