"""Facts about a file's bytes: magic numbers, and what shape of text it is.

Own code: libmagic (python-magic) needs a system library and its database does not look into OOXML containers; filetype
and puremagic know magic numbers only. The tables are the published signatures of the formats.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from worker.domain.errors import Rejected, Unsupported
from worker.extract.encodings import looks_binary

HEAD_BYTES = 65_536
OOXML = "application/vnd.openxmlformats-officedocument."

WORD_PARTS = (
    "wordprocessingml.document.main+xml",
    "wordprocessingml.template.main+xml",
    "ms-word.document.macroEnabled.main+xml",
    "ms-word.template.macroEnabledTemplate.main+xml",
)
SLIDE_PARTS = (
    "presentationml.presentation.main+xml",
    "presentationml.slideshow.main+xml",
    "presentationml.template.main+xml",
    "ms-powerpoint.presentation.macroEnabled.main+xml",
    "ms-powerpoint.slideshow.macroEnabled.main+xml",
)

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Stream names in an OLE directory are UTF-16 ([MS-CFB] 2.6.1); EncryptedPackage is [MS-OFFCRYPTO] 2.3.4.4.
_OLE_STREAMS = (
    ("WordDocument", "application/msword"),
    ("Workbook", "application/vnd.ms-excel"),
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
    ("__substg1.0_", "application/vnd.ms-outlook"),
)
_BINARY_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"RIFF", "a RIFF container (image, audio or video)"),
    (b"BM", "image/bmp"),
    (b"{\\rtf", "application/rtf"),
    (b"%!PS", "application/postscript"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"(\xb5/\xfd", "application/zstd"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "application/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/x-matroska"),
    (b"SQLite format 3\0", "application/vnd.sqlite3"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"\xca\xfe\xba\xbe", "application/java-vm"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
)
# Two letters prove nothing: these count only in front of binary data.
_WEAK_MAGIC = frozenset({b"BM", b"MZ", b"ID3", b"RIFF", b"PAR1", b"BZh", b"wOFF", b"wOF2", b"OggS", b"fLaC"})
_BINARY_SUFFIXES = frozenset(
    [
        ".pdf",
        ".docx",
        ".docm",
        ".dotx",
        ".pptx",
        ".pptm",
        ".ppsx",
        ".xlsx",
        ".xlsm",
        ".doc",
        ".ppt",
        ".xls",
        ".odt",
        ".ods",
        ".odp",
        ".epub",
        ".zip",
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
    ]
)
# Atomic groups: a comment that was read once is not read anew in another way, or thirty comments would take a day.
_PROLOGUE = r"(?>\s+|<!--.*?-->|<\?xml[^>]*\?>)*+"
_HTML_PAGE = re.compile(
    _PROLOGUE + r"<(?:!doctype\s+(?:html|\")|(?:html|head|body|frameset)(?:\s[^<>]*)?/?>)", re.IGNORECASE | re.DOTALL
)
_HTML_FRAGMENT = re.compile(
    _PROLOGUE + r"<(?:title|meta|link|script|style|base|table|div|p|h[1-6]|center|font|span|ul|ol|dl|a|b|i|img|br|hr|pre|form|"
    r"article|section|main|header|footer|nav|blockquote|noscript|iframe)(?:\s[^<>]*)?/?>",
    re.IGNORECASE | re.DOTALL,
)


def is_zip(head: bytes) -> bool:
    """A ZIP with at least one entry, an empty one, or a spanned one (APPNOTE.TXT 4.3.6, 4.3.16, 8.5.3)."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"))


def refuse_known_binary(path: Path, head: bytes, suffix: str) -> None:
    """Raise what a file of a known type without an extractor ends in.

    Raises:
        Rejected: ``encrypted``, an OLE container that holds an encrypted Office file.
        Unsupported: with the type that was found.
    """
    if head.startswith(_OLE):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find("EncryptedPackage".encode("utf-16-le")) >= 0:
                raise Rejected("encrypted", "the Office file needs a password")
            for stream, media_type in _OLE_STREAMS:
                if data.find(stream.encode("utf-16-le")) >= 0:
                    raise Unsupported(f"no extractor reads this type: {media_type}")
        raise Unsupported("no extractor reads this type: application/x-ole-storage")
    for magic, media_type in _BINARY_MAGIC:
        if head.startswith(magic) and (magic not in _WEAK_MAGIC or looks_binary(head)):
            raise Unsupported(f"no extractor reads this type: {media_type}")
    if head[4:8] == b"ftyp" and looks_binary(head):
        raise Unsupported("no extractor reads this type: video/mp4")
    if head[257:262] == b"ustar":
        raise Unsupported("no extractor reads this type: application/x-tar")


def is_buried_pdf(head: bytes) -> bool:
    """A PDF with other bytes in front of its header, which readers accept within 1024 bytes (ISO 32000-1, annex H.3.4.1)."""
    return b"%PDF-" in head[:1029] and b" obj" in head


def text_shape(head: bytes) -> str | None:
    """``html`` for a page, ``text`` for other text, None for binary data. A text that only mentions a tag is not a page."""
    if looks_binary(head):
        return None
    return "html" if _HTML_PAGE.match(_ascii(head)) else "text"


def is_html_fragment(head: bytes) -> bool:
    """Whether text begins with an element of HTML, as a part of a page does, and many a Markdown file."""
    return _HTML_FRAGMENT.match(_ascii(head)) is not None


def _ascii(head: bytes) -> str:
    # A zero byte in every other place: UTF-16 without them is ASCII where it matters here.
    return head.replace(b"\0", b"").decode("latin-1").lstrip("\xef\xbb\xbf\xff\xfe")


def refuse_text_posing_as_binary(head: bytes, suffix: str) -> None:
    """Raise for bare text under a name that promises PDF, Office or an image: to index it would be to index debris.

    Raises:
        Rejected: ``damaged`` where PDF objects are in it, else ``type_mismatch``.
    """
    if suffix not in _BINARY_SUFFIXES:
        return
    if suffix == ".pdf" and (b" obj" in head or b"trailer" in head or b"startxref" in head):
        raise Rejected("damaged", "the file has no PDF header")
    raise Rejected("type_mismatch", f"the name ends in {suffix} and the file is plain text")
