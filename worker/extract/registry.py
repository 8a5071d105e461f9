"""Which format a file has, by its content, and which extractor reads it.

To add a format: write one module with ``extract(path: Path, limits: Limits) -> Extraction`` and add one line to
``FORMATS``. Extractors are imported by name, in the sandbox only: the worker's own process never loads a parser.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from worker.domain.errors import NoText, PermanentError, Rejected, Unsupported
from worker.domain.text import Extraction
from worker.extract import containers, sniff, sniff_text
from worker.extract.blocks import Limits
from worker.extract.xml_errors import check_memory


@dataclass(frozen=True, slots=True)
class Format:
    """One line of the registry. A file is of this format if

    ``magic`` stands at its beginning (white space aside), or it is a ZIP container with ``content_type`` in its
    ``[Content_Types].xml`` or ``mimetype`` part, or it is text and ``looks_like`` is its shape (``sniff.text_shape``),
    or it is text, nothing else claims it, and its name ends in one of ``text_suffixes``. Mail and JSON are told by their content
    as well (``sniff_text``), unless the suffix names another format than plain text.
    """

    name: str
    media_type: str
    module: str
    magic: tuple[bytes, ...] = ()
    content_types: tuple[str, ...] = ()
    looks_like: str | None = None
    text_suffixes: tuple[str, ...] = ()

    def most_characters(self, path: Path) -> int:
        """Return the most characters of text that an honest file of this format and size holds.

        Packed formats repeat without taking bytes: a ZIP container may hold its unpacked bytes, and besides what it refers
        to more than once. Of 278 real files (tests/benchmarks/corpus.py) a DOCX has the most characters per byte of a file, 4.0,
        and a text file has the most per unpacked byte, 1.0; a nested JSON file of short values has 8.
        """
        size = path.stat().st_size
        if self.content_types:
            return _SMALL_FILE + containers.unpacked_bytes(path) + _PER_PACKED_BYTE * size
        return _SMALL_FILE + (_PER_PACKED_BYTE if self.magic else _PER_BYTE) * size


# Characters that any file may hold, and more for each of its bytes. A small file is let be: it is soon read and soon embedded.
_SMALL_FILE = 1_000_000
_PER_PACKED_BYTE, _PER_BYTE = 50, 20

FORMATS: tuple[Format, ...] = (
    Format("pdf", "application/pdf", "worker.extract.pdf", magic=(b"%PDF-",)),
    Format("docx", sniff.OOXML + "wordprocessingml.document", "worker.extract.docx", content_types=sniff.WORD_PARTS),
    Format("pptx", sniff.OOXML + "presentationml.presentation", "worker.extract.pptx", content_types=sniff.SLIDE_PARTS),
    Format("xlsx", sniff.OOXML + "spreadsheetml.sheet", "worker.extract.xlsx", content_types=sniff.SHEET_PARTS),
    Format("html", "text/html", "worker.extract.html", looks_like="html", text_suffixes=(".html", ".htm", ".xhtml")),
    Format("markdown", "text/markdown", "worker.extract.markdown", text_suffixes=(".md", ".markdown", ".mkd", ".mdown")),
    Format("eml", "message/rfc822", "worker.extract.eml", text_suffixes=(".eml", ".mbox", ".mht", ".mhtml")),
    Format("json", "application/json", "worker.extract.json_text", text_suffixes=(".json", ".jsonl", ".ndjson")),
    Format("csv", "text/csv", "worker.extract.delimited", text_suffixes=(".csv", ".tsv", ".tab")),
    Format("text", "text/plain", "worker.extract.text", text_suffixes=(".txt", ".text", ".log")),
)


def detect(path: Path, name: str, formats: Iterable[Format] = FORMATS) -> Format:
    """Name the format of a file. ``name`` is only a hint: its suffix decides between kinds of text.

    Raises:
        Unsupported: no extractor reads it; the message has the type that was found.
        Rejected: ``encrypted`` (an encrypted Office file), ``damaged`` (a broken ZIP), ``type_mismatch`` (no text, and the
            name says text; or bare text, and the name says PDF or Office).
        NoText: ``empty``, the file has no bytes.
    """
    formats = tuple(formats)
    with path.open("rb") as file:
        head = file.read(sniff.HEAD_BYTES)
    if not head:
        raise NoText("empty", "the file has no bytes")
    start = head.lstrip(b"\xef\xbb\xbf\x00\t\n\r\x0c ")
    for format in formats:
        if start.startswith(format.magic or (b"\xff" * 8,)):
            return format
    suffix = Path(name).suffix.lower()
    if sniff.is_zip(head):
        return _container(path, formats)
    sniff.refuse_known_binary(path, head, suffix)
    claimed = next((format.media_type for format in formats if suffix in format.text_suffixes), None)
    # A mail may carry binary parts. One that calls itself a text is read as one, where its source reads as it is.
    may_be_mail = claimed in (None, "message/rfc822") or (claimed == "text/plain" and sniff_text.hides_text(head))
    if may_be_mail and sniff_text.is_mail(head, named=claimed == "message/rfc822"):
        return _named(formats, "message/rfc822")
    shape = sniff.text_shape(head)
    if shape is None:
        if sniff.is_buried_pdf(head):
            return _named(formats, "application/pdf")
        if any(suffix in format.text_suffixes for format in formats):
            raise Rejected("type_mismatch", f"the name ends in {suffix} and the file holds binary data")
        raise Unsupported("no extractor reads this type: application/octet-stream")
    for format in formats:
        if format.looks_like == shape:
            return format
    if claimed not in (None, "text/plain"):
        return _named(formats, claimed)
    if claimed is None and sniff.is_html_fragment(head):
        return _named(formats, "text/html")
    sniff.refuse_text_posing_as_binary(head, suffix)
    return _named(formats, "application/json" if sniff_text.is_json(path, head) else "text/plain")


def extract(path: Path, name: str, limits: Limits, formats: Iterable[Format] = FORMATS) -> Extraction:
    """Detect the format and read the file, in this process: only the sandbox's child and debugging call this.

    Raises:
        PermanentError: each failure, typed. What a parser raises on a file is ``damaged``; running out of memory is ``memory``.
        OSError: the file can't be opened.
    """
    format = None
    try:
        format = detect(path, name, formats)
        read = importlib.import_module(format.module).extract
        result: Extraction = read(path, replace(limits, max_chars_of_size=format.most_characters(path)))
    except PermanentError:
        raise
    except MemoryError:
        raise Rejected("memory", "reading the file takes more memory than allowed") from None
    except Exception as error:
        if format is None and isinstance(error, OSError):
            raise
        try:
            check_memory(error)
        except MemoryError:
            raise Rejected("memory", "reading the file takes more memory than allowed") from None
        # The error's own words may quote the document.
        kind = format.name if format else "a file of any type"
        raise Rejected("damaged", f"the file cannot be read as {kind} ({type(error).__name__})") from error
    return result


def preload(formats: Iterable[Format] = FORMATS) -> None:
    """Import every extractor, so that a forked child finds them ready."""
    for format in formats:
        importlib.import_module(format.module)


def _named(formats: tuple[Format, ...], media_type: str) -> Format:
    for format in formats:
        if format.media_type == media_type:
            return format
    raise Unsupported(f"no extractor reads this type: {media_type}")


def _container(path: Path, formats: tuple[Format, ...]) -> Format:
    declared, media_type = containers.container_types(path)
    for format in formats:
        if any(content_type in declared for content_type in format.content_types):
            return format
    raise Unsupported(f"no extractor reads this type: {media_type}")
