"""What an Office file says about itself in its core properties (ISO/IEC 29500-2, 11): title, author, dates, language.

Read as they stand: python-docx and python-pptx turn a bare year into the first of January, and a date that is none into an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from worker.domain.text import Metadata

_TERMS = "{http://purl.org/dc/terms/}"
_ELEMENTS = "{http://purl.org/dc/elements/1.1/}"
TITLE = f"{_ELEMENTS}title"
_CREATOR, _NAMED_LANGUAGE = f"{_ELEMENTS}creator", f"{_ELEMENTS}language"
_CREATED, _MODIFIED = f"{_TERMS}created", f"{_TERMS}modified"
NAMES = (TITLE, _CREATOR, _CREATED, _MODIFIED, _NAMED_LANGUAGE)
_DATE = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?)?)?")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*")


def title_and_metadata(core: Any, default_language: str | None = None) -> tuple[str | None, Metadata]:
    """Title and metadata of the root element of the core properties (None: the file has none).

    ``default_language`` is used where they say no language. A date or a language that is none is left out.
    """
    return _text(core, TITLE), metadata_of({name: _text(core, name) for name in NAMES}, default_language)


def metadata_of(said: Mapping[str, str | None], default_language: str | None = None) -> Metadata:
    """Metadata of the texts of those elements, by ``NAMES``."""
    return Metadata(
        author=said.get(_CREATOR),
        created=_matching(_DATE, said.get(_CREATED)),
        modified=_matching(_DATE, said.get(_MODIFIED)),
        language=_matching(_LANGUAGE, said.get(_NAMED_LANGUAGE)) or _matching(_LANGUAGE, default_language),
    )


def _text(core: Any, name: str) -> str | None:
    element = next(core.iterchildren(name), None) if core is not None else None
    return ("".join(element.itertext()).strip() or None) if element is not None else None


def _matching(pattern: re.Pattern[str], text: str | None) -> str | None:
    return text if text and pattern.fullmatch(text) else None
