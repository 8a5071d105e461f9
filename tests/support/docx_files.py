"""DOCX files made by hand, and short forms for what is read from them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from worker.domain.text import Extraction
from worker.extract.blocks import Limits
from worker.extract.registry import extract

SCHEMAS = "http://schemas.openxmlformats.org"
NAMESPACES = " ".join(
    f'xmlns:{prefix}="{name}"'
    for prefix, name in {
        "w": f"{SCHEMAS}/wordprocessingml/2006/main",
        "r": f"{SCHEMAS}/officeDocument/2006/relationships",
        "a": f"{SCHEMAS}/drawingml/2006/main",
        "c": f"{SCHEMAS}/drawingml/2006/chart",
        "dgm": f"{SCHEMAS}/drawingml/2006/diagram",
        "m": f"{SCHEMAS}/officeDocument/2006/math",
        "mc": f"{SCHEMAS}/markup-compatibility/2006",
        "v": "urn:schemas-microsoft-com:vml",
    }.items()
)
TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
RELATIONSHIPS = f'<Relationships xmlns="{SCHEMAS}/package/2006/relationships">'


def xml(name: str, inside: str) -> str:
    return f"<{name} {NAMESPACES}>{inside}</{name}>"


def relationships(targets: dict[str, tuple[str, str]]) -> str:
    """id -> (kind, target)."""
    items = (f'<Relationship Id="{id_}" Type="x/{kind}" Target="{target}"/>' for id_, (kind, target) in targets.items())
    return f"{RELATIONSHIPS}{''.join(items)}</Relationships>"


def container(body: str, parts: dict[str, tuple[str, str | bytes]] | None = None, more: dict[str, str] | None = None) -> bytes:
    """A DOCX. ``parts``: name under word/ -> (kind of its relationship, content); the relationship's id is the name."""
    parts = parts or {}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", TYPES)
        root = {"main": ("officeDocument", "word/document.xml"), "core": ("core-properties", "docProps/core.xml")}
        archive.writestr("_rels/.rels", relationships(root))
        archive.writestr("word/document.xml", xml("w:document", f"<w:body>{body}</w:body>"))
        targets = {name: (kind, name) for name, (kind, _) in parts.items()}
        archive.writestr("word/_rels/document.xml.rels", relationships(targets))
        for name, (_, content) in parts.items():
            archive.writestr(f"word/{name}", content)
        for name, text in (more or {}).items():
            archive.writestr(name, text)
    return buffer.getvalue()


def read(folder: Path, data: bytes) -> Extraction:
    path = folder / "file.docx"
    path.write_bytes(data)
    return extract(path, path.name, Limits())


def shown(extraction: Extraction) -> list[str]:
    return [block.text for block in extraction.blocks]


def run(text: str) -> str:
    return f"<w:r><w:t xml:space='preserve'>{text}</w:t></w:r>"


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{run(text)}</w:p>"


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr><w:p>{run(text)}</w:p></w:tc>"
