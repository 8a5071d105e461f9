"""What every Office Open XML container passes before it is read: checks, then a stream of each part, or a repaired copy.

Standard library zipfile. It never gives more bytes for an entry than the directory declares, and fails on more: so the
declared sizes bound what can be read, and what is read is counted here besides.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from lxml import etree

from worker.domain.errors import Rejected
from worker.extract.xml_errors import check_memory

MAX_ENTRIES = 20_000
MAX_INFLATED = 500_000_000
# Office files in the field reach about 60; deflate's limit is 1032. Small entries may compress better than that.
MAX_RATIO = 150
RATIO_FROM = 20_000_000
_BLOCK = 131_072
# A DOCTYPE in UTF-8 and in both UTF-16 orders; the declaration is case-sensitive (XML 1.0, 2.8).
_DOCTYPES = (b"<!DOCTYPE", "<!DOCTYPE".encode("utf-16-le"), "<!DOCTYPE".encode("utf-16-be"))
_LONGEST_DOCTYPE = max(map(len, _DOCTYPES))
# Flag bit 0 of an entry: encrypted (APPNOTE.TXT 4.4.4).
_ENCRYPTED = 0x1
XML_SUFFIXES = (".xml", ".rels", ".vml")
# ISO/IEC 29500 "Strict" uses other namespace names for the same vocabulary; the libraries know the Transitional ones.
_STRICT = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/")
_TRANSITIONAL = rb"http://schemas.openxmlformats.org/\1/2006/"
_RELATIONSHIP = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"


class Container:
    """The checked entries of an open ZIP. All that is ever read of them, twice or not, is counted against ``allowed`` bytes."""

    def __init__(self, archive: zipfile.ZipFile, allowed: int) -> None:
        _check_directory(archive.infolist())
        self._archive = archive
        self._allowed = self._left = allowed
        self.entries = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
        # Part names are compared without regard to case (ISO/IEC 29500-2, 6.2.2.3).
        self.names = {name.lower(): name for name in self.entries}

    def blocks(self, name: str) -> Iterator[bytes]:
        """The content of the entry that has exactly this name and is XML, in order.

        Raises:
            Rejected: ``bomb``, ``damaged``, ``forbidden_doctype``.
        """
        tail = b""
        for block in self._inflated(name):
            _refuse_doctype(tail + block)
            tail = block[-_LONGEST_DOCTYPE:]
            yield block

    def xml(self, name: str) -> bytes:
        """The same as a whole.

        Raises:
            Rejected: as ``blocks``.
        """
        data = self.binary(name)
        _refuse_doctype(data)
        return data

    def binary(self, name: str) -> bytes:
        """The content of an entry that is something else, or of which nothing is known.

        Raises:
            Rejected: ``bomb``, ``damaged``.
        """
        return b"".join(self._inflated(name))

    def _inflated(self, name: str) -> Iterator[bytes]:
        # Not around the yield: what a reader of the blocks raises is no fault of the container.
        with _damaged_if_broken():
            stream = self._archive.open(self.entries[name])
        with stream:
            while True:
                with _damaged_if_broken():
                    block = stream.read(_BLOCK)
                if not block:
                    return
                self._left -= len(block)
                if self._left < 0:
                    raise Rejected("bomb", f"the container inflates to more than {self._allowed} bytes")
                yield block


@contextmanager
def _damaged_if_broken() -> Iterator[None]:
    """Say in our words what zipfile raises for a broken container.

    Raises:
        Rejected: ``damaged``.
    """
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise Rejected("damaged", f"the ZIP container cannot be read ({type(error).__name__})") from error


@contextmanager
def opened(source: Path | IO[bytes], allowed: int = MAX_INFLATED) -> Iterator[Container]:
    """Open a container for reading its parts one by one.

    Raises:
        Rejected: ``bomb`` (too many entries, too many bytes, or a compression ratio that no document has), ``damaged`` (a broken
            ZIP), ``encrypted`` (ZIP encryption), ``forbidden_doctype`` (Office never writes one; entities hide text or files).
    """
    # The file is closed even where an error's traceback still holds a part's stream.
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        with _damaged_if_broken():
            archive = zipfile.ZipFile(file)
        with archive:
            yield Container(archive, allowed)


def open_checked(path: Path, main_types: tuple[str, ...]) -> io.BytesIO:
    """Check the container and return a copy for the library: XML parts whole, media empty, dead relationships left out.

    ``main_types`` are the content types of the main part that the format takes; all become the first, which is the one that the
    library opens (a template or a file with macros has the same content).

    Raises:
        Rejected: as ``checked``.
    """
    copy = io.BytesIO()
    with opened(path) as container, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as repaired:
        _copy(container, repaired, main_types)
    copy.seek(0)
    return copy


def _copy(container: Container, repaired: zipfile.ZipFile, main_types: tuple[str, ...]) -> None:
    for name in container.entries:
        if not name.lower().endswith(XML_SUFFIXES):
            repaired.writestr(name, b"")
            continue
        member = name
        data = transitional(container.xml(name))
        if name.lower() == "[content_types].xml":
            member = "[Content_Types].xml"
            for other in main_types[1:]:
                data = data.replace(_content_type(other), _content_type(main_types[0]))
        elif name.lower().endswith(".rels"):
            data = _live_relationships(name, data, container.names)
        repaired.writestr(member, data)


def _check_directory(entries: list[zipfile.ZipInfo]) -> None:
    """Check what the directory of a container declares.

    Raises:
        Rejected: ``bomb``, ``encrypted``.
    """
    if len(entries) > MAX_ENTRIES:
        raise Rejected("bomb", f"the container has more than {MAX_ENTRIES} entries")
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise Rejected("encrypted", "the container's entries need a password")
    if any(entry.file_size > RATIO_FROM and entry.file_size > MAX_RATIO * max(1, entry.compress_size) for entry in entries):
        raise Rejected("bomb", f"an entry inflates more than {MAX_RATIO} times")
    if sum(entry.file_size for entry in entries) > MAX_INFLATED:
        raise Rejected("bomb", f"the container inflates to more than {MAX_INFLATED} bytes")


def _refuse_doctype(data: bytes) -> None:
    """Refuse an XML part with a document type declaration.

    Raises:
        Rejected: ``forbidden_doctype``.
    """
    if any(doctype in data for doctype in _DOCTYPES):
        raise Rejected("forbidden_doctype", "a part has a document type declaration")


def transitional(data: bytes) -> bytes:
    """An XML part with the namespaces of "Transitional", which the libraries know."""
    return _STRICT.sub(_TRANSITIONAL, data) if b"http://purl.oclc.org/ooxml/" in data else data


def _content_type(name: str) -> bytes:
    prefix = "application/vnd." if name.startswith("ms-") else "application/vnd.openxmlformats-officedocument."
    return (prefix + name).encode("ascii")


def _live_relationships(name: str, data: bytes, names: dict[str, str]) -> bytes:
    """The relationships whose target is in the container, under the name it has there; the libraries fail on others."""
    try:
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        check_memory(error)
        raise Rejected("damaged", "a part with relationships is no XML") from error
    base = "/" + posixpath.dirname(posixpath.dirname(name))
    for relationship in root.findall(_RELATIONSHIP):
        if relationship.get("TargetMode") == "External":
            continue
        target = relationship.get("Target", "")
        real = names.get(posixpath.normpath(posixpath.join(base, target)).lstrip("/").lower())
        if real is None:
            root.remove(relationship)
        else:
            relationship.set("Target", "/" + real)
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True))
