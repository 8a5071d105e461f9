"""What kind of document a ZIP container holds, by its directory and the one part that names its type.

Standard library zipfile; the names are those of the formats' standards (OPC, OCF, ODF) and of the vendors.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path

from worker.domain.errors import Rejected, Unsupported
from worker.extract.sniff import OOXML

# Behind the directory: a comment of 64 KiB at most, and the records of ZIP64 before that.
_END_BYTES = 65_535 + 22 + 20 + 56
# All that zipfile was seen to raise on broken input.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    LookupError,
    ValueError,
    OverflowError,
    OSError,
)

# More than any document has; a directory of that length is not read.
_MAX_ENTRIES = 20_000
_MAX_DIRECTORY_BYTES = 6_000_000
_MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9][a-z0-9.+_-]{0,99}")
_CONTENT_TYPES = "[content_types].xml"
# What the part of an OPC package declares, and the media type that it has then.
_PACKAGES = (
    ("ms-excel.sheet.binary.macroEnabled.main", "application/vnd.ms-excel.sheet.binary.macroEnabled.12"),
    ("spreadsheetml", OOXML + "spreadsheetml.sheet"),
    ("ms-visio.", "application/vnd.ms-visio.drawing"),
    ("ms-package.xps-", "application/oxps"),
)
# A part that only one kind of container has.
_TELLING_PARTS = (
    ("androidmanifest.xml", "application/vnd.android.package-archive"),
    ("index/document.iwa", "application/vnd.apple.iwork"),
    ("index.zip", "application/vnd.apple.iwork"),
    ("index.apxl", "application/vnd.apple.iwork"),
    ("meta-inf/container.xml", "application/epub+zip"),
    ("meta-inf/manifest.mf", "application/java-archive"),
    ("doc.kml", "application/vnd.google-earth.kmz"),
)


def container_types(path: Path) -> tuple[str, str]:
    """The declared types of a ZIP container (its ``[Content_Types].xml`` or ``mimetype``) and its best single media type.

    Raises:
        Rejected: ``damaged``, the ZIP directory or that part can't be read; ``bomb``, a document with countless entries.
        Unsupported: another archive with countless entries.
    """
    try:
        _refuse_countless_entries(path)
        with zipfile.ZipFile(path) as archive:
            names = {name.lower(): name for name in archive.namelist()}
            part = next((part for part in (_CONTENT_TYPES, "mimetype") if part in names), None)
            declared = ""
            if part:
                with archive.open(names[part]) as stream:
                    # Without zero bytes UTF-16 is ASCII where it matters here.
                    declared = stream.read(2_000_000).replace(b"\0", b"").decode("utf-8", "replace")
    except _ZIP_ERRORS as error:
        raise Rejected("damaged", f"the ZIP container cannot be read ({type(error).__name__})") from error
    if part == "mimetype":
        media_type = declared.strip().lower()
        return declared, media_type if _MEDIA_TYPE.fullmatch(media_type) else "an unknown ZIP container"
    if part:
        other = "an Office Open XML container of another kind"
        return declared, next((media_type for word, media_type in _PACKAGES if word in declared), other)
    return "", next((media_type for name, media_type in _TELLING_PARTS if name in names), "application/zip")


def unpacked_bytes(path: Path) -> int:
    """The bytes of a container's entries, as its directory declares them; 0 for a directory that can't be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except _ZIP_ERRORS:
        return 0


def _refuse_countless_entries(path: Path) -> None:
    """Look at the record behind the directory (APPNOTE.TXT 4.3.14, 4.3.16) before zipfile reads the directory as a whole."""
    with path.open("rb") as file:
        first = file.read(200)
        file.seek(max(0, file.seek(0, 2) - _END_BYTES))
        tail = file.read(_END_BYTES)
    end = len(tail) - 22 if tail[-22:-18] == b"PK\x05\x06" and tail.endswith(b"\0\0") else tail.rfind(b"PK\x05\x06")
    if end < 0:
        return
    entries, size = struct.unpack_from("<HL", tail, end + 10)
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07":
        entries, size = struct.unpack_from("<QQ", tail, end - 44)
    if entries <= _MAX_ENTRIES and size <= _MAX_DIRECTORY_BYTES:
        return
    # Writers of documents put the part that names the type first.
    if first[30:49].lower() == _CONTENT_TYPES.encode() or first[30:38] == b"mimetype":
        raise Rejected("bomb", f"the container has more than {_MAX_ENTRIES} entries")
    raise Unsupported("no extractor reads this type: application/zip")
