"""HTML: what a reader of the page sees, in document order.

lxml.html (BSD, C, reads broken markup); alternatives: selectolax (faster, a second parser to keep), html5lib (exact and
20 times slower), trafilatura (drops what it takes for boilerplate, and so loses text).
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import Any

from lxml import etree

from worker.domain.errors import Rejected
from worker.domain.text import BlockKind, Extraction
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.encodings import decode

_DECLARED = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]{1,40})", re.IGNORECASE)
_XML_DECLARED = re.compile(rb"\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.\-]{1,40})")
_SPACES = re.compile(r"[ \t\r\n\f\xa0]+")

_SKIPPED = frozenset({"script", "style", "template", "noscript", "head", "object", "svg", "iframe", "frame"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "dir",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "main",
        "menu",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_LINES = frozenset({"br", "li", "option"})


class _Page:
    """Turns a walk over the elements into blocks. ``rows`` is not None inside a table of data."""

    def __init__(self, builder: BlockBuilder) -> None:
        self.builder = builder
        self.parts: list[str] = []
        self.rows: list[str] | None = None
        self.cells: list[str] = []
        self.data_table: Any = None
        self.pre = 0

    def text(self, text: str | None) -> None:
        if text:
            self.parts.append(text if self.pre else _SPACES.sub(" ", text))

    def take(self) -> str:
        """The text since the last block, white space folded as a browser does."""
        joined = "".join(self.parts)
        self.parts.clear()
        if self.pre:
            return joined
        return "\n".join(line.strip() for line in re.sub(" {2,}", " ", joined).split("\n") if line.strip())

    def flush(self, kind: BlockKind = "paragraph") -> None:
        if self.data_table is None:
            self.builder.add(self.take(), kind)
        else:
            self.parts.append(" ")

    def start(self, element: Any, tag: str) -> None:
        if tag in _HEADINGS or tag in _BLOCKS:
            self.flush()
        elif tag in _LINES:
            self.parts.append(" " if self.data_table is not None else "\n")
        elif tag == "img":
            self.text(f" {_image_text(element)} ")
        if tag == "table" and self.data_table is None and _holds_data(element):
            self.data_table, self.rows = element, []
        elif tag == "pre":
            self.pre += 1
        elif tag in ("td", "th", "tr") and self.data_table is not None:
            self.parts.clear()
        self.text(element.text)

    def end(self, element: Any, tag: str) -> None:
        if self.rows is not None:
            if tag in ("td", "th", "caption"):
                self.cells.append(" ".join(self.take().split()))
            elif tag in ("tr", "table"):
                if any(self.cells):
                    self.rows.append(" | ".join(self.cells))
                self.cells.clear()
        if element is self.data_table:
            self.data_table = None
            self.builder.add("\n".join(self.rows or ()), "table")
            self.rows = None
            self.parts.clear()
        elif tag in _HEADINGS and self.data_table is None:
            self.builder.add_heading(_HEADINGS[tag], self.take())
        elif tag in _BLOCKS:
            self.flush()
        if tag == "pre":
            self.pre -= 1


def _image_text(image: Any) -> str:
    """The alternative text: what the author says in the picture's place."""
    return image.get("alt") or ""


def _holds_data(table: Any) -> bool:
    """A table whose rows are lines of data; one with tables, headings or single cells in it only lays out a page."""
    # The first that iter gives is the table itself.
    if sum(1 for _ in islice(table.iter("table"), 2)) > 1:
        return False
    if next(table.iter(*_HEADINGS), None) is not None:
        return False
    return any(len(row.findall("td")) + len(row.findall("th")) > 1 for row in table.iter("tr"))


def extract(path: Path, limits: Limits) -> Extraction:
    """Read an HTML file: one block an element that starts a new paragraph, one a table (a row is a line), one a list.

    Raises:
        Rejected: ``type_mismatch`` (binary data), ``damaged``, ``too_large``.
        NoText: ``empty``.
    """
    data = path.read_bytes()
    declared = _DECLARED.search(data[:65_536]) or _XML_DECLARED.search(data)
    decoded = decode(data, declared[1].decode("ascii") if declared else None)
    builder = BlockBuilder(limits)
    if decoded.guessed:
        builder.warn(f"the encoding was guessed: {decoded.encoding}")
    title = add_page(decoded.text, builder)
    return builder.finish("text/html", "html", title)


def add_page(markup: str, builder: BlockBuilder) -> str | None:
    """Add the blocks of a page, its title first, and return the title.

    Raises:
        Rejected: ``damaged``, ``too_large``.
    """
    # huge_tree: without it libxml2 cuts a long text silently; the sandbox bounds the memory.
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True)
    root = etree.fromstring(markup.replace("\0", "").encode("utf-8", "replace") or b" ", parser)
    if root is None:
        return None
    if root.tag != "html":
        raise Rejected("damaged", "the file has no HTML root element")
    title = " ".join("".join(next(root.iter("title"), root.makeelement("title")).itertext()).split())
    builder.add(title, "heading")
    page = _Page(builder)
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        tag = element.tag if isinstance(element.tag, str) else ""
        skipped = tag in _SKIPPED or tag == "title" or not tag
        if event == "start":
            if skipped:
                walk.skip_subtree()
            else:
                page.start(element, tag)
        else:
            if not skipped:
                page.end(element, tag)
            page.text(element.tail)
    page.flush()
    return title or None
