"""What crosses the border between the sandbox and the worker: JSON, because the child that writes it is not trusted.

Everything read here is checked: types, lengths, known codes. Anything else is ``crashed``, as a parser that was taken over
would be.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, get_args

from worker.domain.errors import NoText, PermanentError, Rejected, Unsupported
from worker.domain.text import Block, BlockKind, Extraction, Metadata
from worker.extract.blocks import clean

_KINDS = frozenset(get_args(BlockKind))
_MESSAGE = 300


def encode_result(extraction: Extraction) -> bytes:
    """The bytes of a success. Heading paths are written once each and referred to by number."""
    paths: dict[tuple[str, ...], int] = {}
    blocks = [
        [block.text, block.kind, block.page, paths.setdefault(block.heading_path, len(paths))] for block in extraction.blocks
    ]
    answer = {
        "paths": list(paths),
        "blocks": blocks,
        "media_type": extraction.media_type,
        "extractor": extraction.extractor,
        "title": extraction.title,
        "page_count": extraction.page_count,
        "warnings": extraction.warnings,
        "metadata": asdict(extraction.metadata),
    }
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def encode_error(error: PermanentError) -> bytes:
    """The bytes of a typed refusal."""
    return json.dumps({"error": type(error).__name__, "code": error.code, "message": error.message}).encode()


def decode_answer(data: bytes, max_text_chars: int) -> Extraction:
    """The extraction that a child wrote.

    Raises:
        PermanentError: the one the child wrote; ``too_large`` or ``crashed`` for an answer that no honest child writes.
    """
    try:
        answer = json.loads(data)
        if "error" in answer:
            raise _error(answer)
        extraction = _extraction(answer)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise Rejected("crashed", "the parser ended without a readable answer") from None
    if sum(len(block.text) for block in extraction.blocks) > max_text_chars:
        raise Rejected("too_large", f"the file holds more than {max_text_chars} characters of text")
    return extraction


def _error(answer: dict[str, Any]) -> PermanentError:
    code, message = _text(answer["code"])[:40], _text(answer["message"])[:_MESSAGE]
    if not code.replace("_", "").isalnum():
        raise ValueError("not a code")
    if answer["error"] == "Unsupported":
        return Unsupported(message, code)
    return {"NoText": NoText, "Rejected": Rejected}[answer["error"]](code, message)


def _extraction(answer: dict[str, Any]) -> Extraction:
    paths = [tuple(map(_text, path)) for path in answer["paths"]]
    blocks = tuple(_block(text, kind, page, paths[path]) for text, kind, page, path in answer["blocks"])
    if not blocks:
        raise ValueError("a success without a block")
    return Extraction(
        blocks,
        _text(answer["media_type"]),
        _text(answer["extractor"]),
        _optional(answer["title"]),
        _count(answer["page_count"]),
        tuple(map(_text, answer["warnings"])),
        Metadata(**{name: _optional(value) for name, value in answer["metadata"].items()}),
    )


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


def _block(text: Any, kind: Any, page: Any, path: tuple[str, ...]) -> Block:
    if kind not in _KINDS or not _text(text):
        raise ValueError("not a block")
    return Block(text, kind, _count(page), path)


def _text(value: Any) -> str:
    if not isinstance(value, str) or clean(value) != value:
        raise ValueError("not cleaned text")
    return value


def _count(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 < value < 2**31):
        raise ValueError("not a count")
    return value
