"""What a PDF says about itself: the Info dictionary and the catalog, as pdfium gives them."""

from __future__ import annotations

import ctypes
import re
from datetime import datetime

import pypdfium2
import pypdfium2.raw as pdfium

from worker.domain.text import Metadata

# ISO 32000-1, 7.9.4: D:YYYYMMDDHHmmSSOHH'mm, of which everything behind the year may be missing.
_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-])(\d\d)'?(\d\d)?'?)?")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


def metadata(document: pypdfium2.PdfDocument) -> Metadata:
    """Author, dates and language; whatever can't be read is None."""
    return Metadata(
        author=document.get_metadata_value("Author") or None,
        created=iso_date(document.get_metadata_value("CreationDate")),
        modified=iso_date(document.get_metadata_value("ModDate")),
        language=_language(document),
    )


def iso_date(value: str) -> str | None:
    """``D:20240102030405+01'00'`` -> ``2024-01-02T03:04:05+01:00``; a day without a time stays one; None for no date."""
    match = _DATE.fullmatch(value.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, utc, sign, hours, minutes = match.groups()
    date = f"{year}-{month or '01'}-{day or '01'}"
    zone = "+00:00" if utc else f"{sign}{hours}:{minutes or '00'}" if sign else ""
    time = f"T{hour}:{minute or '00'}:{second or '00'}{zone}" if hour else ""
    try:
        datetime.fromisoformat(date + time)
    except ValueError:
        return None
    return date + time


def _language(document: pypdfium2.PdfDocument) -> str | None:
    length = pdfium.FPDFCatalog_GetLanguage(document.raw, None, 0)
    if not 2 < length <= 200:
        return None
    buffer = ctypes.create_string_buffer(length)
    pdfium.FPDFCatalog_GetLanguage(document.raw, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), length)
    language = buffer.raw[:length].decode("utf-16-le", "ignore").strip("\0")
    return language if _LANGUAGE.fullmatch(language) else None
