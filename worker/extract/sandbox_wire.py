"""What crosses the border between the sandbox and the worker: JSON, because the child that writes it is not trusted.

Everything read here is checked: types, lengths, ranges, known codes. Anything else is ``crashed``, as a parser that was taken
over would be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from worker.domain.errors import NoText, PermanentError, Rejected, Unsupported
from worker.domain.text import Metadata, Reading, Section, Span
from worker.extract.blocks import clean, shortened_line

# The longest code and the longest message of an error, in characters.
_CODE, _MESSAGE = 40, 300


class RefusedAnswer(Rejected):
    """An answer that no honest child writes. ``field`` names the wrong field; None if the answer can't be parsed at all."""

    def __init__(self, field: str | None) -> None:
        about = f" (the field {field!r} is not as it should be)" if field else ""
        super().__init__("crashed", f"the parser ended without a readable answer{about}")
        self.args = (field,)
        self.field = field


def encode_result(reading: Reading) -> bytes:
    """The bytes of a success. Headings are written once each and referred to by number."""
    headings: dict[str | None, int] = {}
    sections = [
        (part.char_start, part.char_end, part.page, headings.setdefault(part.heading, len(headings))) for part in reading.sections
    ]
    answer = {
        "text": reading.text,
        "sections": sections,
        "headings": list(headings),
        "spans": reading.spans,
        "media_type": reading.media_type,
        "extractor": reading.extractor,
        "title": reading.title,
        "page_count": reading.page_count,
        "warnings": reading.warnings,
        "metadata": asdict(reading.metadata),
    }
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def encode_error(error: PermanentError) -> bytes:
    """The bytes of a typed refusal."""
    message = shortened_line(error.message, _MESSAGE) or ""
    return json.dumps({"error": type(error).__name__, "code": error.code, "message": message}).encode()


def decode_answer(data: bytes, max_text_chars: int, chunk_size: int) -> Reading:
    """The reading that a child wrote.

    Raises:
        PermanentError: the one the child wrote; ``too_large`` or ``crashed`` for an answer that no honest child writes.
    """
    try:
        answer = json.loads(data)
        if "error" in answer:
            raise _error(answer)
        reading = _reading(answer, chunk_size)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise RefusedAnswer(error.name if isinstance(error, _BadField) else None) from None
    if len(reading.text) > max_text_chars:
        raise Rejected("too_large", f"the file holds more than {max_text_chars} characters of text")
    return reading


class _BadField(ValueError):
    """A field of an answer has a value of the wrong kind."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@contextmanager
def _field(name: str) -> Iterator[None]:
    """Turn any error in the block into one that names the field.

    Raises:
        _BadField: anything is wrong with the field.
    """
    try:
        yield
    except Exception as error:
        raise _BadField(name) from error


def _error(answer: dict[str, Any]) -> PermanentError:
    with _field("code"):
        code = _text(answer["code"])
        if len(code) > _CODE or not code.replace("_", "").isalnum():
            raise ValueError("not a code")
    with _field("message"):
        message = shortened_line(_text(answer["message"]), _MESSAGE) or ""
    with _field("error"):
        if answer["error"] == "Unsupported":
            return Unsupported(message, code)
        return {"NoText": NoText, "Rejected": Rejected}[answer["error"]](code, message)


def _reading(answer: dict[str, Any], chunk_size: int) -> Reading:
    with _field("text"):
        text = _text(answer["text"])
    with _field("headings"):
        headings = [_optional(heading) for heading in answer["headings"]]
    with _field("sections"):
        sections = tuple(
            Section(*_range(start, end, len(text)), _count(page), headings[number])
            for start, end, page, number in answer["sections"]
        )
    with _field("spans"):
        spans = tuple(
            (_count(first), _count(last), *_range(start, end, len(text))) for first, last, start, end in answer["spans"]
        )
        _check(spans, chunk_size)
    strings = {}
    for name in ("media_type", "extractor"):
        with _field(name):
            strings[name] = _text(answer[name])
    with _field("title"):
        title = _optional(answer["title"])
    with _field("page_count"):
        page_count = _count(answer["page_count"])
    with _field("warnings"):
        warnings = tuple(map(_text, answer["warnings"]))
    with _field("metadata"):
        metadata = Metadata(**{name: _optional(value) for name, value in answer["metadata"].items()})
    return Reading(text, sections, spans, strings["media_type"], strings["extractor"], title, page_count, warnings, metadata)


def _check(spans: tuple[Span, ...], chunk_size: int) -> None:
    """A success has a chunk; none is too long; each begins and ends behind the one before it."""
    if not spans or any(end - start > chunk_size for _, _, start, end in spans):
        raise ValueError("no chunk, or one that is too long")
    if any(before[2] >= after[2] or before[3] >= after[3] for before, after in pairwise(spans)):
        raise ValueError("chunks without order")


def _range(start: Any, end: Any, length: int) -> tuple[int, int]:
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= length:
        raise ValueError("not a range of the text")
    return start, end


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or clean(value) != value:
        raise ValueError("not cleaned text")
    return value


def _count(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 < value < 2**31):
        raise ValueError("not a count")
    return value
