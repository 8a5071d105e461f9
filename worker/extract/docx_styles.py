"""What a paragraph's style says about it: how deep a heading it is, and which list numbers it.

python-docx (MIT, kept) reads the styles part; its own ``Styles`` looks a style up by XPath through the whole part, so they are
put into a dict once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from docx.oxml.exceptions import InvalidXmlError
from docx.oxml.parser import parse_xml
from docx.oxml.styles import CT_Style, CT_Styles
from lxml import etree

from worker.extract.xml_errors import check_memory

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Style:
    """``heading``: 1 to 9, 0 for the title, None for body text. ``list_level``: 0 to 8, None where the list itself says it.

    ``list_style`` is the id of the style (this one or one it is based on) that names the list.
    """

    heading: int | None = None
    list_id: str | None = None
    list_level: int | None = None
    list_style: str = ""


def value_of(parent: Any, name: str) -> str | None:
    """The ``w:val`` of a child element, None where there is no such child."""
    child = next(parent.iterchildren(W + name), None) if parent is not None else None
    return None if child is None else child.get(f"{W}val", "")


def number(text: str | None) -> int | None:
    """A count in an attribute, None where it is none; nine digits are more than any document has of anything."""
    return int(text) if text and len(text) < 10 and text.isascii() and text.isdigit() else None


class Styles:
    """The styles of one document by id. Without a part, every paragraph is body text."""

    def __init__(self, part: bytes | None) -> None:
        self.language: str | None = None
        self._elements: dict[str, CT_Style] = {}
        self._known: dict[str, Style] = {}
        self._default = ""
        try:
            root = parse_xml(part) if part else None
        except etree.XMLSyntaxError as error:
            check_memory(error)
            # A text without its headings is worth more than none.
            root = None
        if isinstance(root, CT_Styles):
            self._read(root)

    def __getitem__(self, style_id: str | None) -> Style:
        """The style of a paragraph; the document's default where it names none, or one that does not exist."""
        name = style_id if style_id in self._elements else self._default
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def list_of(self, style_id: str) -> str | None:
        """The list that a numbering style stands for."""
        return self._find(style_id).list_id

    def _read(self, root: CT_Styles) -> None:
        for element in root.iterchildren(f"{W}style"):
            style_id = element.get(f"{W}styleId", "")
            self._elements[style_id] = element
            if element.get(f"{W}type") == "paragraph" and element.get(f"{W}default") in ("1", "true", "on"):
                self._default = style_id
        language = root.find(f"{W}docDefaults/{W}rPrDefault/{W}rPr/{W}lang")
        self.language = language.get(f"{W}val") if language is not None else None

    def _find(self, style_id: str) -> Style:
        """What the style says, or the first of those it is based on that says anything about it."""
        heading: int | None = None
        outline: int | None = None
        list_id: str | None = None
        list_level: int | None = None
        list_style = ""
        for _ in range(_MAX_DEPTH):
            style = self._elements.get(style_id)
            if style is None:
                break
            name, base = _name_and_base(style)
            properties = next(style.iterchildren(f"{W}pPr"), None)
            if heading is None and outline is None:
                heading = _named_heading(name)
                outline = number(value_of(properties, "outlineLvl"))
            numbering = next(properties.iterchildren(f"{W}numPr"), None) if properties is not None else None
            if list_id is None and numbering is not None:
                list_level = number(value_of(numbering, "ilvl")) if list_level is None else list_level
                list_id = value_of(numbering, "numId")
                list_style = style_id
            style_id = base
        if heading is None and outline is not None:
            heading = outline + 1 if outline < 9 else None
        return Style(heading, list_id, list_level, list_style)


def _name_and_base(style: CT_Style) -> tuple[str, str]:
    """The name of a style and the id of the one it is based on, "" where it has none."""
    try:
        return style.name_val or "", style.basedOn_val or ""
    except InvalidXmlError:
        # An element without its value: such a style says nothing.
        return "", ""


def _named_heading(name: str) -> int | None:
    """The level that a built-in style has by its name, whatever the language of the program that wrote the file."""
    name = name.lower()
    if name == "title":
        return 0
    return number(name[8:]) if name.startswith("heading ") else None
