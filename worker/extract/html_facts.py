"""What an HTML file says about itself in its head: encoding, title, author, dates, language."""

from __future__ import annotations

import re
from typing import Any

from worker.domain.text import Metadata

_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_DECLARED = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.\-]{1,40})", re.IGNORECASE)
_XML_DECLARED = re.compile(rb"\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.\-]{1,40})")
_PROLOGUE = 65_536

# The first that a page has is taken. Dublin Core, Open Graph, schema.org and Highwire names, as pages in the field use them.
_AUTHORS = ("author", "dc.creator", "dcterms.creator", "article:author", "citation_author")
_CREATED = (
    "article:published_time",
    "og:published_time",
    "dcterms.created",
    "dc.date.created",
    "dcterms.issued",
    "dc.date.issued",
    "dcterms.date",
    "dc.date",
    "datepublished",
    "citation_publication_date",
    "date",
    "pubdate",
)
_MODIFIED = ("article:modified_time", "og:updated_time", "dcterms.modified", "dc.date.modified", "datemodified", "last-modified")
_LANGUAGES = ("content-language", "dc.language", "dcterms.language", "og:locale")
_DATE = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:[T ]\d\d:\d\d[0-9:.]{0,13} ?(?:Z|[+-]\d\d:?\d\d)?)?)?)?")
_REFRESH = re.compile(r"\s*(\d{1,9})(?:\.\d*)?\s*(?:[;,]?\s*(?:url\s*=\s*)?[\"']?(.*?)[\"']?\s*)?", re.IGNORECASE | re.DOTALL)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,4}")


def declared_encoding(data: bytes) -> str | None:
    """The encoding that the page names in its first 64 KiB, outside comments; None where it names none."""
    head = _COMMENT.sub(b"", data[:_PROLOGUE])
    declared = _DECLARED.search(head) or _XML_DECLARED.search(head)
    return declared[1].decode("ascii") if declared else None


def title(root: Any) -> str:
    """The page's title, which is not a drawing's; empty where it has none."""
    for element in root.iter("title"):
        if element.getparent() is None or element.getparent().tag in ("head", "html", "body"):
            return " ".join("".join(element.itertext()).split())
    return ""


def metadata(root: Any) -> Metadata:
    """What the page's ``meta`` elements and its ``lang`` say. A date that is not ISO 8601 is left out."""
    said: dict[str, str] = {}
    for element in root.iter("meta"):
        name = element.get("name") or element.get("property") or element.get("itemprop") or element.get("http-equiv")
        content = (element.get("content") or "").strip()
        if name and content:
            said.setdefault(name.strip().lower(), content)
    return Metadata(
        author=_first(said, _AUTHORS, _author),
        created=_first(said, _CREATED, iso_date),
        modified=_first(said, _MODIFIED, iso_date),
        language=language(root.get("lang") or root.get("xml:lang")) or _first(said, _LANGUAGES, language),
    )


def refresh(root: Any) -> str | None:
    """Where a page sends its readers, as a text browser says it: ``Refresh (5 sec) https://…``; None for nowhere."""
    for element in root.iter("meta"):
        if element.get("http-equiv", "").strip().lower() == "refresh" and (
            match := _REFRESH.fullmatch(element.get("content", ""))
        ):
            return f"Refresh ({match[1]} sec) {match[2] or ''}"
    return None


def iso_date(value: str) -> str | None:
    """The date or time, if it is one of ISO 8601 (slashes are taken for hyphens)."""
    date = value.strip().replace("/", "-")
    return date if _DATE.fullmatch(date) else None


def language(value: str | None) -> str | None:
    """The first BCP 47 tag of a list, or None."""
    tag = (value or "").split(",")[0].strip().replace("_", "-")
    return tag if _LANGUAGE.fullmatch(tag) else None


def _author(value: str) -> str | None:
    """Open Graph has the address of a profile here, which is nobody's name."""
    return None if "://" in value else value


def _first(said: dict[str, str], names: tuple[str, ...], read: Any) -> str | None:
    for name in names:
        value = read(said[name]) if name in said else None
        if value:
            return str(value)
    return None
