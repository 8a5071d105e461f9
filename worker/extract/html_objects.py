"""What a page shows of something that is no text: a picture, a film, a plug-in, a page in a frame.

The author's words for it come first, what stands within it for readers who can't see it comes second, and both are read where
they stand. Only without them a thing is known by its file, as in text browsers: a picture by the bare name (``sales 2024``), all
else by a note that says what it is: ``[embed: menu10]``, ``[frame: contents]``, ``[video: tour]``.

Nothing is said of what the page does not show either (pixels that count visitors, frames of a script's own), of what has no file
(``about:blank``, ``data:``), and of a frame from another site whose author wrote no title: advertisements and buttons, whose
addresses name nothing that anybody would search for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice
from typing import Any
from urllib.parse import unquote

# What each is called in its note.
_KINDS = {
    "applet": "applet",
    "audio": "audio",
    "bgsound": "sound",
    "embed": "embed",
    "frame": "frame",
    "iframe": "frame",
    "object": "object",
    "video": "video",
}
# These may hold words for readers who can't see them; a frame's are bare text until they are parsed.
_WITH_FALLBACK = frozenset(["applet", "audio", "object", "video"])
# Within them, these speak for the whole.
_SPEAKING = frozenset(["img", "embed", "object", "applet", "iframe", "input"])
# How many elements are looked at for words: objects may stand in one another, and each looks for itself.
_LOOKED_AT = 200
_ADDRESS = re.compile(r"\s*(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?P<host>[/\\]{2}[^/\\?#]*)?(?P<path>[^?#]*)")
_FILES = frozenset(["http", "https", "ftp", "file"])
_HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_TINY = re.compile(r"\s*[01](?:px)?\s*", re.IGNORECASE)
_LONGEST_NAME = 100


def note(element: Any, tag: str) -> str:
    """What stands in the place of an embedded thing, or nothing: for another element, and where words of its own are read."""
    kind = _KINDS.get(tag)
    if kind is None or _is_hidden(element) or _has_words(element, tag):
        return ""
    name = _title(element) or (element.get("name", "").strip() if tag == "frame" else "") or _named_by_file(element, tag)
    return f" [{kind}: {name}] " if name and len(name) <= _LONGEST_NAME else ""


def picture_name(image: Any) -> str:
    """What a picture shows whose author wrote no words for it: its file's name without the suffix. An empty text is meant so."""
    return "" if image.get("alt") is not None or _is_hidden(image) else _file_name(image.get("src", ""))


def _title(element: Any) -> str:
    return " ".join((element.get("title") or element.get("aria-label") or "").split())


def _named_by_file(element: Any, tag: str) -> str:
    source = _SOURCES[tag](element)
    address = _ADDRESS.match(source)
    return "" if tag == "iframe" and address and address["host"] else _file_name(source)


def _file_name(source: str) -> str:
    address = _ADDRESS.match(source)
    if address is None or (address["scheme"] or "http").lower() not in _FILES:
        return ""
    return unquote(address["path"].rstrip("/ \t\r\n").rpartition("/")[2]).partition(".")[0].strip()


def _has_words(element: Any, tag: str) -> bool:
    """Whether something is read in its place: its fallback, or the page that a frame brings along."""
    if tag == "iframe" and (element.get("srcdoc") or "").strip():
        return True
    if tag == "iframe":
        return bool((element.text or "").strip())
    # libxml2 puts what follows an <embed> into it: that is no word for it.
    if tag not in _WITH_FALLBACK:
        return False
    looked_at = list(islice(element.iterdescendants(), _LOOKED_AT))
    texts = (element.text, *(text for inner in looked_at for text in (inner.text, inner.tail)))
    return (
        len(looked_at) == _LOOKED_AT
        or any(text and not text.isspace() for text in texts)
        or any(inner.tag in _SPEAKING for inner in looked_at)
    )


def _is_hidden(element: Any) -> bool:
    if element.get("hidden") is not None or _HIDING.search(element.get("style", "")):
        return True
    return any(_TINY.fullmatch(element.get(side, "")) for side in ("width", "height"))


def _source(element: Any) -> str:
    return str(element.get("src", ""))


def _first_source(element: Any) -> str:
    """A film's file, or the first of those that a browser may choose from."""
    source = element.find("source")
    return _source(element) or ("" if source is None else _source(source))


def _object_data(element: Any) -> str:
    """Plug-ins have the file in a parameter as well."""
    found = (item.get("value") for item in element.iterchildren("param") if item.get("name", "").lower() in ("movie", "src"))
    return element.get("data") or next(found, None) or ""


_SOURCES: dict[str, Callable[[Any], str]] = {
    "applet": lambda element: element.get("code") or element.get("archive") or "",
    "audio": _first_source,
    "bgsound": _source,
    "embed": _source,
    "frame": _source,
    "iframe": _source,
    "object": _object_data,
    "video": _first_source,
}
