"""The parts of an Office Open XML package, streamed: their elements, their relationships, the package's properties.

lxml's pull parser (iterparse, fed by hand: so that what it holds between two elements is bounded). Alternative:
xml.parsers.expat, which builds nothing and costs a Python call per tag.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lxml import etree

from worker.domain.errors import Rejected
from worker.domain.text import Metadata
from worker.extract import ooxml, ooxml_properties
from worker.extract.xml_errors import check_memory

# The tree of what was fed is some ten times as large. No row, string, comment or shape of an honest file comes near.
MAX_BETWEEN = 16_000_000
_PACKAGE = "{http://schemas.openxmlformats.org/package/2006/relationships}"


@dataclass(frozen=True, slots=True)
class Relationship:
    """``kind`` is the last word of the type's URI, as ``worksheet``; ``part`` the entry's name, None if there is none."""

    id: str
    kind: str
    part: str | None


def elements(blocks: Iterable[bytes], *tags: str) -> Iterator[Any]:
    """The elements with these tags, each whole and only until the next is asked for; then its memory is given back.

    Raises:
        Rejected: ``too_large``, too much stands between two of them.
        lxml.etree.XMLSyntaxError: the part is no well-formed XML.
    """
    parser = etree.XMLPullParser(
        ("end",), tag=tags, resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
    )
    waiting = 0
    first = True
    for block in blocks:
        # The namespaces are declared on the root element.
        parser.feed(ooxml.transitional(block) if first else block)
        first = False
        waiting += len(block)
        for _, element in parser.read_events():
            waiting = 0
            yield element
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
        if waiting > MAX_BETWEEN:
            raise Rejected("too_large", f"a part has {MAX_BETWEEN} bytes without the end of a row, a string or a note")
    parser.close()


def relationships(container: ooxml.Container, part: str = "") -> list[Relationship]:
    """Those of a part in their order; without a name, those of the package. External ones are left out."""
    folder, name = posixpath.split(part)
    source = container.names.get(posixpath.join(folder, "_rels", f"{name}.rels").lower())
    if source is None:
        return []
    found = []
    for element in elements(container.blocks(source), f"{_PACKAGE}Relationship"):
        if element.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", folder, element.get("Target", ""))).lstrip("/")
            kind = element.get("Type", "").rpartition("/")[2]
            found.append(Relationship(element.get("Id", ""), kind, container.names.get(target.lower())))
    return found


def properties(container: ooxml.Container) -> tuple[str | None, Metadata]:
    """The title and the other core properties; broken ones count as none."""
    values: dict[str, str | None] = {}
    try:
        for relationship in relationships(container):
            if relationship.kind == "core-properties" and relationship.part is not None:
                for element in elements(container.blocks(relationship.part), *ooxml_properties.NAMES):
                    values[element.tag] = element.text
    except etree.XMLSyntaxError as error:
        check_memory(error)
    return values.get(ooxml_properties.TITLE), ooxml_properties.metadata_of(values)
