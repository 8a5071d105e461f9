"""List numbers as they are printed: ``2.1``, ``(a)``, ``iv.``, ``•`` (ISO/IEC 29500-1, 17.9).

A file holds no numbers, only rules to count by; python-docx leaves them out. Paragraphs of lists with the same definition go on
counting each other's numbers, as in Word; a list that overrides a start begins anew where it is first used.
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass
from typing import Any

from worker.extract.blocks import clean, shortened
from worker.extract.docx_number_formats import formatted
from worker.extract.docx_styles import Style, Styles, W, number, value_of

LEVELS = 9
_PLACE = re.compile("%([1-9])")
# The longest template of a label, and the longest printed label, in characters: "CHAPTER XXXVIII – " has 18. Each list item
# repeats the label, so a small file with a long one would become a large text.
_LONGEST_TEMPLATE, _LONGEST_LABEL = 100, 30
_DASHES = frozenset("-\u2010\u2011\u2012\u2013\u2014")
_SUFFIXES = {"nothing": "", "space": " "}


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a list. ``restart`` is how many levels above it start it anew; 0: none does."""

    start: int
    format: str
    template: str
    restart: int
    legal: bool
    suffix: str
    style: str | None


@dataclass(frozen=True, slots=True)
class _List:
    """A ``w:num``: the definition whose counters it uses, its levels, and the starts that it overrides."""

    definition: str
    levels: dict[int, Level]
    starts: dict[int, int]

    def start(self, level: int) -> int:
        """What the level's first paragraph is numbered."""
        return self.starts.get(level, self.levels[level].start)


class Numbering:
    """The lists of one document, and how far each has counted."""

    def __init__(self, root: Any, styles: Styles) -> None:
        self._styles = styles
        children = list(root) if root is not None else []
        self._definitions = {child.get(f"{W}abstractNumId", ""): child for child in children if child.tag == f"{W}abstractNum"}
        self._elements = {child.get(f"{W}numId", ""): child for child in children if child.tag == f"{W}num"}
        self._lists: dict[str, _List | None] = {}
        self._levels: dict[str, dict[int, Level]] = {}
        self._counts: dict[str, list[int | None]] = {}
        self._begun: set[tuple[str, int]] = set()
        # The lists with a label that was cut.
        self.cut: set[str] = set()

    def afresh(self) -> Numbering:
        """The same lists, not counted yet: a header, a note and a comment have numbers of their own."""
        fresh = copy(self)
        fresh.restart()
        return fresh

    def restart(self) -> None:
        """Forget how far each list has counted."""
        self._counts = {}
        self._begun = set()

    def label(self, style: Style, properties: Any) -> str:
        """Count one paragraph and return what is printed in front of it, the space behind it included; "" outside lists.

        ``properties`` is its ``w:numPr``, or None where only its style speaks.
        """
        list_id, level = style.list_id, style.list_level
        own = value_of(properties, "numId")
        if own is not None:
            list_id, level = own, 0
        if not list_id or list_id == "0" or list_id not in self._elements:
            return ""
        if list_id not in self._lists:
            self._lists[list_id] = self._list(list_id)
        found = self._lists[list_id]
        if found is None:
            return ""
        if own is None and style.list_style:
            level = next((at for at, one in found.levels.items() if one.style == style.list_style), level)
        at = number(value_of(properties, "ilvl"))
        level = (level or 0) if at is None else at
        if level not in found.levels:
            return ""
        printed = _printed(found.levels, level, self._count(list_id, found, level))
        text = shortened(printed, _LONGEST_LABEL)
        if not text:
            return ""
        if len(text) < len(printed):
            self.cut.add(list_id)
        return text + found.levels[level].suffix

    def _count(self, list_id: str, found: _List, level: int) -> list[int | None]:
        counts = self._counts.setdefault(found.definition, [None] * LEVELS)
        if level in found.starts and (list_id, level) not in self._begun:
            counts[level] = None
        self._begun.update((list_id, at) for at in range(level + 1))
        # A level that is passed over counts as used: what follows on it is its second.
        for at in range(level):
            if counts[at] is None and at in found.levels:
                counts[at] = found.start(at)
        before = counts[level]
        counts[level] = found.start(level) if before is None else before + 1
        for deeper in range(level + 1, LEVELS):
            if deeper not in found.levels or level < found.levels[deeper].restart:
                counts[deeper] = None
        return counts

    def _list(self, list_id: str) -> _List | None:
        element = self._elements[list_id]
        definition = value_of(element, "abstractNumId") or ""
        link = value_of(self._definitions.get(definition), "numStyleLink")
        if link is not None:
            # The definition stands in another list, which a numbering style names; one step is all that Word writes.
            linked = self._elements.get(self._styles.list_of(link) or "")
            definition = value_of(linked, "abstractNumId") or definition
        root = self._definitions.get(definition)
        if root is None:
            return None
        if definition not in self._levels:
            self._levels[definition] = dict(_levels(root))
        levels = dict(self._levels[definition])
        starts = {}
        for override in element.iterchildren(f"{W}lvlOverride"):
            levels.update(_levels(override))
            at, start = number(override.get(f"{W}ilvl")), number(value_of(override, "startOverride"))
            if at is not None and start is not None:
                starts[at] = start
        return _List(definition, levels, starts)


def _levels(parent: Any) -> list[tuple[int, Level]]:
    found = []
    for element in parent.iterchildren(f"{W}lvl"):
        at = number(element.get(f"{W}ilvl"))
        if at is None or at >= LEVELS:
            continue
        restart = number(value_of(element, "lvlRestart"))
        legal = value_of(element, "isLgl")
        level = Level(
            start=number(value_of(element, "start")) or 0,
            format=value_of(element, "numFmt") or "decimal",
            template=(value_of(element, "lvlText") or "")[:_LONGEST_TEMPLATE],
            restart=at if restart is None else min(restart, at),
            legal=legal is not None and legal not in ("0", "false", "off"),
            suffix=_SUFFIXES.get(value_of(element, "suff") or "", " "),
            style=value_of(element, "pStyle"),
        )
        found.append((at, level))
    return found


def _printed(levels: dict[int, Level], level: int, counts: list[int | None]) -> str:
    own = levels[level]
    if own.format == "bullet":
        # The character itself belongs to a font of symbols, often in the private use area, or is an "o".
        text = own.template.strip()
        return text if text in _DASHES else "•"

    def place(match: re.Match[str]) -> str:
        at = int(match[1]) - 1
        if at > level or at not in levels:
            return ""
        return formatted(counts[at] or 0, "decimal" if own.legal else levels[at].format)

    return clean(_PLACE.sub(place, own.template))
