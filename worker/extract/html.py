"""HTML: what a reader of the page sees, in document order.

lxml.html (BSD, C, reads broken markup); alternatives: selectolax (faster, a second parser to keep), html5lib (exact and
20 times slower), trafilatura (drops what it takes for boilerplate, and so loses text).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxml import etree

from worker.domain.errors import Rejected
from worker.domain.text import Extraction
from worker.extract import html_facts
from worker.extract.blocks import NO_METADATA, BlockBuilder, Limits
from worker.extract.encodings import decode
from worker.extract.html_walk import Page

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]*)([^<>]*)>")
# These stay when a page is flattened: what is in them is no markup, or they can't stand in one another.
_FLAT_NAMES = """
    script style title textarea iframe noframes noembed xmp plaintext template head body html meta p br hr img input li dt dd
    option td th tr
"""
_INLINE_NAMES = """
    a abbr acronym b bdi bdo big blink cite code del dfn em font i ins kbd label mark nobr q s samp small span strike strong sub
    sup time tt u var wbr
"""
_FLAT = frozenset(_FLAT_NAMES.split())
_INLINE = frozenset(_INLINE_NAMES.split())
# libxml2's time for the attributes of a tag grows with the square of their number: 22,000 take 1.6 s. A real tag has fewer than
# 50.
_MOST_ATTRIBUTES = 1_000
# XML allows an empty <title/> or <script/>, which an HTML parser takes for the beginning of one that never ends.
_SELF_CLOSED = re.compile(r"<(title|script|style|textarea|iframe|noframes|noembed|xmp)(\s[^<>]*)?/>", re.IGNORECASE)


def extract(path: Path, limits: Limits) -> Extraction:
    """Read an HTML file: one block an element that starts a new paragraph, one a table (a row is a line), one a list.

    Raises:
        Rejected: ``type_mismatch`` (binary data), ``damaged``, ``too_large``.
        NoText: ``empty``.
    """
    data = path.read_bytes()
    decoded = decode(data, html_facts.declared_encoding(data))
    builder = BlockBuilder(limits)
    if decoded.guessed:
        builder.warn(f"the encoding was guessed: {decoded.encoding}")
    title, root = add_page(decoded.text, builder)
    return builder.finish("text/html", "html", title, metadata=NO_METADATA if root is None else html_facts.metadata(root))


def add_page(markup: str, builder: BlockBuilder) -> tuple[str | None, Any]:
    """Add the blocks of a page, its title first; return its title or first heading, and its root element, if there are any.

    Raises:
        Rejected: ``damaged``, ``too_large``.
    """
    text = markup.replace("\0", "")
    if text.lstrip()[:5] == "<?xml":
        text = _SELF_CLOSED.sub(r"<\1\2></\1>", text)
    root, whole = _parse(text)
    if not whole:
        builder.warn("elements stand in one another too deeply: the page's structure was left out")
        root, whole = _parse(_TAG.sub(_flattened, text))
        if not whole:
            raise Rejected("damaged", "elements stand in one another too deeply to be read")
    if root is None:
        return None, None
    title = html_facts.title(root)
    builder.add(title, "heading")
    builder.add(html_facts.refresh(root) or "", "note")
    page = Page(builder, lambda markup: _parse(markup)[0])
    page.walk(root)
    return title or page.first_heading, root


def _parse(text: str) -> tuple[Any, bool]:
    """The root element, or None where there is none, and whether the parser came to the end of the text.

    libxml2 stops without an error at 2048 elements in one another, which a page with that many unclosed <font> has.

    Raises:
        Rejected: ``too_large``, a tag has too many attributes.
    """
    # huge_tree: without it libxml2 cuts a long text silently; the sandbox bounds the memory.
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True)
    data = text.encode("utf-8", "replace") or b" "
    if len(data) > 2 * _MOST_ATTRIBUTES:
        _refuse_many_attributes(data)
    root = etree.fromstring(data, parser)
    last = parser.error_log.last_error
    return root, last is None or last.type != etree.ErrorTypes.ERR_RESOURCE_LIMIT


class _AttributeCounter:
    """A parser target, with which lxml builds no tree and takes time linear in the length of the markup."""

    def start(self, _tag: str, attributes: Mapping[str, str]) -> None:
        if len(attributes) > _MOST_ATTRIBUTES:
            raise Rejected("too_large", f"a tag of the page has more than {_MOST_ATTRIBUTES} attributes")

    def close(self) -> None:
        """Return nothing: lxml requires this method."""


def _refuse_many_attributes(data: bytes) -> None:
    """Refuse markup with a tag of too many attributes, before the tree is built.

    Raises:
        Rejected: ``too_large``, a tag has too many attributes.
    """
    etree.fromstring(data, etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True, target=_AttributeCounter()))


def _flattened(tag: re.Match[str]) -> str:
    name = tag[2].lower()
    if name in _FLAT:
        return tag[0]
    return "" if name in _INLINE else "<p>"
