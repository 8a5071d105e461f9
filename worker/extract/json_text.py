"""JSON and JSON Lines: a line ``path.to.key: value`` for each value, a block for each record.

worker.extract.json_walk walks (it names the alternatives). Paths leave out the place in an array: one element more in front would
change every line behind it, and with them every chunk and its embedding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction
from worker.extract import text as plain_text
from worker.extract.blocks import BlockBuilder, Limits, shortened_line
from worker.extract.embedded_data import is_base64
from worker.extract.encodings import decode
from worker.extract.json_walk import Event, walk

# Objects and arrays of one file: empty ones give no text, so that no other limit counts them.
MAX_CONTAINERS = 5_000_000
_BLOCK_CHARACTERS = 2_000
_LINE_CHARACTERS = 500
# A longer string, or one of several lines, is prose: paragraphs of their own under the path.
_PROSE_CHARACTERS = 200
# Deeper paths are shown without their middle, or else a file of brackets alone would be a text of quadratic length.
_PATH_START, _PATH_END = 4, 12
# A longer name is written in full only once, and cut in later paths, or else a small file would become a large text.
_NAME_CHARACTERS = 60
# The key under which notebooks and mails in JSON hold a picture or another file; SVG is text.
_FILE_KEY = re.compile(r"(?:image/(?!svg)|audio/|video/|font/|application/(?:pdf|zip|octet-stream|vnd\.openxml))[\w.+-]*")
# Of a line whose events are kept while it is found to be whole; a longer one is walked twice.
_KEPT_CHARACTERS = 100_000


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a JSON file, or one of JSON values a line; what is not JSON is read as plain text, with a warning.

    Raises:
        Rejected: ``type_mismatch`` (binary data), ``too_large`` (also more than ``MAX_CONTAINERS`` objects and arrays).
        NoText: ``empty``, also for an empty object or array.
    """
    decoded = decode(plain_text.read_bounded(path, limits))
    builder = BlockBuilder(limits)
    if decoded.guessed:
        builder.warn(f"the encoding was guessed: {decoded.encoding}")
    writer = _Writer(builder)
    try:
        broken = _read(decoded.text, writer)
    except ValueError as error:
        del writer, builder
        read = plain_text.extract(path, limits)
        return replace(read, warnings=(*read.warnings, f"the file is no valid JSON and was read as plain text: {error}"))
    if broken:
        builder.warn(f"lines that are no valid JSON were read as plain text: {broken}")
    if writer.deepest > _PATH_START + _PATH_END:
        builder.warn(f"names in the middle of paths of more than {_PATH_START + _PATH_END} names were left out")
    return builder.finish("application/json", "json", writer.title)


def _read(text: str, writer: _Writer) -> int:
    """Write all values; return how many lines of JSON Lines are broken.

    Raises:
        ValueError: the text is not JSON.
    """
    if not text.strip():
        raise NoText("empty", "the file is sound and holds no text")
    if not _has_lines(text):
        writer.write(walk(text))
        return 0
    writer.values_are_records = True
    broken = 0
    for line in _lines(text):
        events = _whole(line)
        if events is None:
            broken += 1
            writer.plain(line)
        else:
            writer.write(events)
    return broken


def _has_lines(text: str) -> bool:
    """JSON Lines: the first line is a whole object or array, the second begins another. A broken line then spoils only itself."""
    lines = _lines(text)
    first, second = next(lines, ""), next(lines, "")
    return first[:1] in ("{", "[") and second[:1] in ("{", "[") and _whole(first) is not None


def _lines(text: str) -> Iterator[str]:
    """The lines that are not blank, one at a time: split, they would be a second copy of the text."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if line := text[start:end].strip():
            yield line
        start = end + 1


def _whole(line: str) -> Iterable[Event] | None:
    """The events of a line, or None where it is broken, which shows at its end."""
    try:
        if len(line) <= _KEPT_CHARACTERS:
            return list(walk(line))
        for _ in walk(line):
            pass
    except ValueError:
        return None
    return walk(line)


@dataclass(slots=True)
class _Open:
    """An object or array that was begun. ``record`` is True where a block of its own began with it."""

    is_array: bool
    named: bool
    record: bool
    empty: bool = True


class _Writer:
    """Turns events into lines, and lines into blocks."""

    def __init__(self, builder: BlockBuilder) -> None:
        self.title: str | None = None
        self.deepest = 0
        self._containers = 0
        # JSON Lines: each outermost value gives one block.
        self.values_are_records = False
        self._builder = builder
        self._open: list[_Open] = []
        self._names: list[str] = []
        self._lines: list[str] = []
        self._characters = 0
        # Whether the last line is a list of scalars of the innermost array, which the next one joins.
        self._list_grows = False
        self._in_record = False
        self._long_names: dict[str, str] = {}

    def write(self, events: Iterable[Event]) -> None:
        """Write whole values, each in blocks of its own.

        Raises:
            ValueError: what ``events`` raises; this writer is of no more use then.
        """
        for event in events:
            if event.kind == "start":
                self._start(event)
            elif event.kind == "end":
                self._end()
            else:
                self._value(event)
            if not self._open:
                self._flush()

    def plain(self, text: str) -> None:
        """Add a piece of text that is no JSON."""
        self._flush()
        self._builder.add(text)

    def _start(self, event: Event) -> None:
        self._containers += 1
        if self._containers > MAX_CONTAINERS:
            raise Rejected("too_large", f"the file holds more than {MAX_CONTAINERS} objects and arrays")
        is_array = event.text == "["
        outer = self._open[-1] if self._open else None
        # The elements of the outermost array of objects are the records; beside them, each part of the outermost value.
        record = not self._in_record and (outer.is_array and not is_array if outer else self.values_are_records)
        if record or (len(self._open) == 1 and not self._in_record):
            self._flush()
        self._in_record = self._in_record or record
        if outer:
            outer.empty = False
        if event.key is not None:
            self._names.append(event.key)
            self.deepest = max(self.deepest, len(self._names))
        self._open.append(_Open(is_array, event.key is not None, record))
        self._list_grows = False

    def _end(self) -> None:
        done = self._open.pop()
        if done.empty and self._names:
            self._line("[]" if done.is_array else "{}")
        if done.named:
            self._names.pop()
        if done.record:
            self._in_record = False
        if done.record or (len(self._open) == 1 and not self._in_record):
            self._flush()
        self._list_grows = False

    def _value(self, event: Event) -> None:
        outer = self._open[-1] if self._open else None
        is_first = outer is None or outer.empty or event.key is not None
        if outer:
            outer.empty = False
        if self._is_file(event):
            # Older notebooks divide a file into strings, one per line of base64.
            self._builder.leave_out(is_first)
            return
        if event.key is not None:
            self._names.append(event.key)
            self.deepest = max(self.deepest, len(self._names))
        if event.kind == "string" and event.key == "title" and len(self._open) == 1 and self.title is None:
            self.title = event.text
        if event.kind == "string" and (len(event.text) > _PROSE_CHARACTERS or "\n" in event.text.strip()):
            self._prose(event.text)
        elif self._list_grows and len(self._lines[-1]) + len(event.text) < _LINE_CHARACTERS:
            self._lines[-1] += f", {event.text}"
            self._characters += len(event.text) + 2
        else:
            self._line(event.text)
            self._list_grows = outer is not None and outer.is_array
        if event.key is not None:
            self._names.pop()

    def _is_file(self, event: Event) -> bool:
        """Whether a value is the base64 of a file whose type its key names."""
        key = event.key if event.key is not None else self._names[-1] if self._names else ""
        return event.kind == "string" and _FILE_KEY.fullmatch(key) is not None and is_base64(event.text)

    def _prose(self, text: str) -> None:
        self._flush()
        path = self._path()
        # The path stands in the first block of the string, with its first paragraph.
        plain_text.add_paragraphs(f"{path}:\n{text.strip()}" if path else text, self._builder)

    def _line(self, text: str) -> None:
        path = self._path()
        line = f"{path}: {text}" if path else text
        if self._characters + len(line) > _BLOCK_CHARACTERS:
            self._flush()
        self._lines.append(line)
        self._characters += len(line) + 1

    def _path(self) -> str:
        names = self._names
        if len(names) > _PATH_START + _PATH_END:
            names = [*names[:_PATH_START], "…", *names[-_PATH_END:]]
        return ".".join(name if len(name) <= _NAME_CHARACTERS else self._shown(name) for name in names)

    def _shown(self, name: str) -> str:
        """A long name: in full the first time, later only its beginning."""
        if name in self._long_names:
            return self._long_names[name]
        self._long_names[name] = f"{shortened_line(name[: 2 * _NAME_CHARACTERS], _NAME_CHARACTERS) or ''}…"
        return name

    def _flush(self) -> None:
        self._list_grows = False
        if self._lines:
            self._builder.add("\n".join(self._lines))
            self._lines = []
            self._characters = 0
