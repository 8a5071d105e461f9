"""The text of one paragraph, in order, with what hangs on it.

Nearly all paragraphs hold runs of text and nothing else: lxml filters those by tag in C. Others are walked element by element.
"""

from __future__ import annotations

from typing import Any

from worker.extract import docx_symbols
from worker.extract.docx_graphics import REFERENCES, A
from worker.extract.docx_styles import W

_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_V = "{urn:schemas-microsoft-com:vml}"

ALTERNATE = f"{_MC}AlternateContent"
# Properties, and what a reader of the accepted document does not see.
SKIPPED = frozenset(
    f"{W}{name}"
    for name in (
        *("pPr", "rPr", "tblPr", "tblPrEx", "tblGrid", "trPr", "tcPr", "sectPr", "sdtPr", "sdtEndPr", "del", "moveFrom"),
        *("instrText", "delText", "delInstrText", "rt", "footnoteRef", "endnoteRef", "annotationRef"),
    )
)
_BOX = f"{W}txbxContent"
_SYMBOL = f"{W}sym"
_TEXT = frozenset({f"{W}t", f"{A}t", f"{_M}t"})
_FIXED = {f"{W}tab": "\t", f"{W}ptab": "\t", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-", f"{A}br": "\n"}
_NOTES = {f"{W}footnoteReference": "footnote", f"{W}endnoteReference": "endnote", f"{W}commentReference": "comment"}
_PLAIN = (f"{W}t", f"{W}tab", f"{W}ptab", f"{W}br", f"{W}cr", f"{W}noBreakHyphen")
# Where one of these is in a paragraph, its text is more than the texts in it: w:tabs are tab stops, whose elements are w:tab.
_SPECIAL = (
    *(f"{W}{name}" for name in ("tabs", "del", "moveFrom", "rt", "drawing", "pict", "object", "sym", "txbxContent")),
    *(f"{_M}t", ALTERNATE),
    *_NOTES,
)


def is_plain(element: Any) -> bool:
    """Whether all paragraphs in an element hold runs of text and nothing else."""
    return next(element.iter(*_SPECIAL), None) is None


def inline(paragraph: Any, pending: list[Any], plain: bool = False) -> str:
    """The text of a paragraph; ``plain`` says that ``is_plain`` holds for what it stands in.

    ``pending`` takes what is to be read behind it: a text box's element, or (kind, id) of a note, or
    ("graphic", relationship id), or ("text", text) of a word drawn as a picture.
    """
    if plain or is_plain(paragraph):
        parts = []
        for node in paragraph.iter(*_PLAIN):
            text = node.text
            parts.append(_FIXED.get(node.tag, "") if text is None else text)
        joined = "".join(parts)
        if joined.isascii() or docx_symbols.PRIVATE.search(joined) is None:
            return joined
    parts = []
    _collect(paragraph, parts, pending)
    return "".join(parts)


def branch(alternate: Any) -> Any:
    """The one branch of alternate content that is read: the first choice with text or a drawing in it, else the first."""
    branches = list(alternate.iterchildren(f"{_MC}Choice", f"{_MC}Fallback"))
    for found in branches:
        if next(found.iter(*_TEXT, *REFERENCES, _SYMBOL), None) is not None:
            return found
    return branches[0] if branches else alternate


def _collect(element: Any, parts: list[str], pending: list[Any]) -> None:
    for child in element:
        tag = child.tag
        if tag in _TEXT:
            text = child.text or ""
            parts.append(docx_symbols.in_font(text, _font(element)) if docx_symbols.PRIVATE.search(text) else text)
        elif tag in _FIXED:
            parts.append(_FIXED[tag])
        elif tag in SKIPPED:
            continue
        elif tag in _NOTES:
            pending.append((_NOTES[tag], child.get(f"{W}id", "")))
        elif tag == _BOX:
            pending.append(child)
        elif tag == _SYMBOL:
            parts.append(docx_symbols.symbol(child.get(f"{W}font", ""), child.get(f"{W}char", "")))
        elif tag in REFERENCES:
            pending.append(("graphic", child.get(REFERENCES[tag], "")))
        elif tag == f"{_V}textpath":
            pending.append(("text", child.get("string", "")))
        elif tag == ALTERNATE:
            _collect(branch(child), parts, pending)
        else:
            if tag == f"{A}p" and parts:
                parts.append("\n")
            if len(child):
                _collect(child, parts, pending)


def _font(run: Any) -> str:
    fonts = run.find(f"{W}rPr/{W}rFonts")
    return (fonts.get(f"{W}ascii") or fonts.get(f"{W}hAnsi") or "") if fonts is not None else ""
