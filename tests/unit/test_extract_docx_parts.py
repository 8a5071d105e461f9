"""DOCX, made by hand: what stands in parts of its own beside the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.docx_files import (
    SCHEMAS,
    container,
    paragraph,
    read,
    run,
    shown,
    xml,
)

CHART = xml(
    "c:chartSpace",
    "<c:title><a:p><a:r><a:t>Sales</a:t></a:r></a:p></c:title><c:ser><c:tx><c:strRef><c:strCache><c:pt><c:v>North</c:v></c:pt>"
    "</c:strCache></c:strRef></c:tx><c:cat><c:strCache><c:pt><c:v>Spring</c:v></c:pt><c:pt><c:v>North</c:v></c:pt></c:strCache>"
    "</c:cat><c:val><c:numCache><c:pt><c:v>41</c:v></c:pt></c:numCache></c:val></c:ser>",
)
DIAGRAM = xml("dgm:dataModel", "<dgm:pt><dgm:t><a:p><a:r><a:t>Plan</a:t></a:r></a:p></dgm:t></dgm:pt>")


def test_the_words_of_charts_and_diagrams_are_notes_behind_their_paragraph(tmp_path: Path) -> None:
    drawing = "<w:r><w:drawing>{}</w:drawing></w:r>"
    chart, diagram = drawing.format('<c:chart r:id="chart.xml"/>'), drawing.format('<dgm:relIds r:dm="data.xml"/>')
    body = f"<w:p>{run('see')}{chart}</w:p><w:p>{diagram}{chart}</w:p>{paragraph('end')}"
    parts: dict[str, tuple[str, str | bytes]] = {"chart.xml": ("chart", CHART), "data.xml": ("diagramData", DIAGRAM)}
    extraction = read(tmp_path, container(body, parts))
    assert [(block.text, block.kind) for block in extraction.blocks] == [
        *(("see", "paragraph"), ("Sales\nNorth\nSpring", "note"), ("Plan", "note"), ("end", "paragraph"))
    ]


HTML = "<!DOCTYPE html><html><head><title>t</title></head><body><p>one <b>two</b></p><ul><li>three</ul>"
MIME = (
    "MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n"
    "Content-Transfer-Encoding: quoted-printable\r\n\r\n<html><body><p>f=C3=BCnf</p></body></html>\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.html", HTML, ["t", "one two", "three"]),
        ("a.txt", "one\n\ntwo", ["one", "two"]),
        ("a.mht", MIME, ["fünf"]),
        ("a.docx", container(paragraph("inner")), ["inner"]),
    ],
)
def test_an_embedded_document_is_read_in_its_place(tmp_path: Path, name: str, content: str | bytes, expected: list[str]) -> None:
    chunk = f'<w:altChunk r:id="{name}"/>'
    body = paragraph("before") + chunk + chunk + paragraph("after")
    assert shown(read(tmp_path, container(body, {name: ("aFChunk", content)}))) == ["before", *expected, "after"]


def test_embedded_documents_that_are_not_read_leave_a_warning(tmp_path: Path) -> None:
    inner = container(paragraph("inner") + '<w:altChunk r:id="b.docx"/>', {"b.docx": ("aFChunk", container(paragraph("deep")))})
    body = '<w:altChunk r:id="a.docx"/><w:altChunk r:id="a.rtf"/>'
    extraction = read(tmp_path, container(body, {"a.docx": ("aFChunk", inner), "a.rtf": ("aFChunk", "{\\rtf1 x}")}))
    assert shown(extraction) == ["inner"]
    assert extraction.warnings == (
        *("an embedded document inside an embedded document was left out",),
        *("an embedded document of another format was left out",),
    )


CORE = (
    f'<cp:coreProperties xmlns:cp="{SCHEMAS}/package/2006/metadata/core-properties" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:dcterms="http://purl.org/dc/terms/"><dc:title>T</dc:title><dc:creator>Ada</dc:creator>'
    "<dcterms:created>2020-02-03T04:05:06Z</dcterms:created><dcterms:modified>{}</dcterms:modified>"
    "<dc:language>{}</dc:language></cp:coreProperties>"
)
IN_FRENCH = '<w:docDefaults><w:rPrDefault><w:rPr><w:lang w:val="fr-FR"/></w:rPr></w:rPrDefault></w:docDefaults>'


def test_a_document_tells_its_author_dates_and_language(tmp_path: Path) -> None:
    data = container(paragraph("x"), more={"docProps/core.xml": CORE.format("2021", "de-CH")})
    extraction = read(tmp_path, data)
    found = extraction.metadata
    assert (extraction.title, found.author, found.created) == ("T", "Ada", "2020-02-03T04:05:06Z")
    assert (found.modified, found.language) == ("2021", "de-CH")


def test_a_language_is_that_of_the_styles_where_the_properties_have_none_and_a_date_is_a_date(tmp_path: Path) -> None:
    styles: dict[str, tuple[str, str | bytes]] = {"s.xml": ("styles", xml("w:styles", IN_FRENCH))}
    settings: dict[str, tuple[str, str | bytes]] = {"t.xml": ("settings", xml("w:settings", '<w:themeFontLang w:val="it-IT"/>'))}
    core = {"docProps/core.xml": CORE.format("yesterday", "the French one")}
    found = read(tmp_path, container(paragraph("x"), {**styles, **settings}, core)).metadata
    assert (found.modified, found.language) == (None, "fr-FR")
    assert read(tmp_path, container(paragraph("x"), settings)).metadata.language == "it-IT"
