"""The words of charts and diagrams (SmartArt), which stand in parts of their own, in Word and in PowerPoint files alike.

Titles, names of series and categories; a chart's numbers are left out. python-docx and python-pptx give a diagram's text nowhere.
"""

from __future__ import annotations

from typing import Any

A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_CX = "{http://schemas.microsoft.com/office/drawing/2014/chartex}"
# The element in a drawing that refers to a part, and the attribute with the relationship's id.
REFERENCES = {
    f"{_C}chart": f"{R}id",
    f"{_CX}chart": f"{R}id",
    "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds": f"{R}dm",
}
# Kinds of relationships to parts with such text.
KINDS = frozenset({"chart", "chartEx", "diagramData"})
_STRINGS = (f"{_C}strCache", f"{_C}strLit", f"{_C}lvl", f"{_CX}strDim", f"{_CX}tx")
_VALUES = (f"{_C}v", f"{_CX}pt", f"{_CX}v")


def words(root: Any) -> str:
    """The text of a chart's or a diagram's root element, a line each; what repeats (a title in two languages' caches) once."""
    lines = dict.fromkeys(map(_line, root.iter(f"{A}p")))
    for strings in root.iter(*_STRINGS):
        lines.update(dict.fromkeys((value.text or "").strip() for value in strings.iter(*_VALUES)))
    return "\n".join(filter(None, lines))


def _line(paragraph: Any) -> str:
    nodes = paragraph.iter(f"{A}t", f"{A}br")
    return "".join(node.text or "" if node.tag == f"{A}t" else " " for node in nodes).strip()
