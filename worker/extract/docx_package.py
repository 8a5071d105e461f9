"""The parts of a DOCX container, each for itself: no copy of the container, no tree of a part that nobody asks for.

``ooxml`` opens and checks it. Standard library zipfile and lxml, which are what python-docx opens a package with; python-docx
itself parses every part and keeps every picture in memory, which for one full of pictures costs more than reading its text.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from lxml import etree

from worker.domain.errors import Rejected
from worker.extract import ooxml
from worker.extract.blocks import BlockBuilder
from worker.extract.xml_errors import check_memory

_RELATIONSHIP = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_USUAL_MAIN = "word/document.xml"
# How much of the body is in memory as a tree while it is read.
_FEED_BYTES = 1_000_000


class Relationship(NamedTuple):
    """``kind`` is the last step of its type: header, styles, chart …; ``part`` the name of a part that exists."""

    kind: str
    part: str


class Package:
    """An open container. ``main`` is the name of the part with the body."""

    def __init__(self, container: ooxml.Container) -> None:
        self._container = container
        self._names = container.names
        # All of them, and not only those that are used: a document type declaration is refused wherever it stands.
        self._xml = {name: container.xml(name) for name in container.entries if name.lower().endswith(ooxml.XML_SUFFIXES)}
        self._relationships: dict[str, dict[str, Relationship]] = {}
        self.main = next((part for kind, part in self.relationships("").values() if kind == "officeDocument"), _USUAL_MAIN)
        if self.main not in self._xml:
            raise Rejected("damaged", "the container has no main part")

    def relationships(self, part: str) -> dict[str, Relationship]:
        """id -> relationship of a part ("" is the container) to parts that exist, in order of appearance."""
        if part not in self._relationships:
            folder, name = posixpath.split(part)
            rels = self._names.get(posixpath.join(folder, "_rels", f"{name}.rels").lower())
            self._relationships[part] = {}
            for item in self.root(rels).iterchildren(_RELATIONSHIP) if rels in self._xml else ():
                target = posixpath.normpath(posixpath.join("/", folder, item.get("Target", ""))).lstrip("/").lower()
                if item.get("TargetMode") != "External" and target in self._names:
                    kind = item.get("Type", "").rsplit("/", 1)[-1]
                    self._relationships[part][item.get("Id", "")] = Relationship(kind, self._names[target])
        return self._relationships[part]

    def related(self, kind: str, part: str | None = None) -> list[str]:
        """The parts that a part (the main one unless told) has a relationship of this kind to."""
        found = self.relationships(self.main if part is None else part).values()
        return list(dict.fromkeys(relationship.part for relationship in found if relationship.kind == kind))

    def root(self, part: str) -> Any:
        """The root element of an XML part.

        Raises:
            Rejected: ``damaged`` (no XML, or nested deeper than libxml2's 256 elements).
            MemoryError: the parser ran out of memory.
        """
        try:
            return etree.fromstring(self.xml(part), _parser(etree.XMLParser))
        except etree.XMLSyntaxError as error:
            raise _refusal(error) from None

    def root_or_none(self, part: str, builder: BlockBuilder) -> Any:
        """The root element of a part beside the main one; one that is damaged leaves a warning instead of its text."""
        try:
            return self.root(part)
        except Rejected as error:
            if error.code != "damaged":
                raise
            warn_once(builder, "a part of the file is damaged and was left out")
            return None

    def xml(self, part: str) -> bytes:
        """The bytes of an XML part in the namespaces of "Transitional".

        Raises:
            Rejected: ``damaged``, the part is no XML.
        """
        if part not in self._xml:
            raise Rejected("damaged", "a part that should be XML is something else")
        return ooxml.transitional(self._xml[part])

    def binary(self, part: str) -> bytes:
        """The bytes of another part.

        Raises:
            Rejected: ``bomb``, ``damaged``.
        """
        return self._xml[part] if part in self._xml else self._container.binary(part)

    def body(self, tag: str) -> Iterator[Any]:
        """The children of the main part's first element ``tag``, one by one; each is dropped when the next is asked for.

        Raises:
            Rejected: as ``root``, and ``damaged`` where there is no such element.
        """
        data = self.xml(self.main)
        # Nobody reads it twice.
        del self._xml[self.main]
        parser = _parser(etree.XMLPullParser, events=("start",), tag=tag)
        body = None
        try:
            for start in range(0, len(data), _FEED_BYTES):
                parser.feed(data[start : start + _FEED_BYTES])
                if body is None:
                    body = next((element for _, element in parser.read_events()), None)
                # The last child may not be whole yet.
                if body is not None:
                    yield from body[:-1]
                    del body[:-1]
            parser.close()
        except etree.XMLSyntaxError as error:
            raise _refusal(error) from None
        if body is None:
            raise Rejected("damaged", "the main part has no body")
        yield from body


@contextmanager
def open_package(source: Path | IO[bytes]) -> Iterator[Package]:
    """Open and check a container.

    Raises:
        Rejected: as ``ooxml.opened``.
    """
    with ooxml.opened(source) as container:
        yield Package(container)


def warn_once(builder: BlockBuilder, warning: str) -> None:
    """Warn of something that a file may hold thousands of."""
    if warning not in builder.warnings:
        builder.warn(warning)


def _parser(kind: Any, **options: Any) -> Any:
    """Without huge_tree: libxml2 then refuses more than 256 levels, so that no walk runs out of Python's stack."""
    return kind(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True, **options)


def _refusal(error: etree.XMLSyntaxError) -> Rejected:
    check_memory(error)
    return Rejected("damaged", "a part is no well-formed XML, or nested deeper than 256 elements")
