"""DOCX, made by hand: what the libraries can't write, and what a hostile file writes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from worker.domain.errors import NoText, PermanentError, Rejected
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


def test_headings_and_items_carry_their_printed_numbers(tmp_path: Path) -> None:
    styles = xml(
        "w:styles",
        '<w:style w:type="paragraph" w:styleId="H2"><w:name w:val="heading 2"/>'
        '<w:pPr><w:numPr><w:ilvl w:val="1"/><w:numId w:val="4"/></w:numPr></w:pPr></w:style>',
    )

    def level(at: int, start: int, form: str, text: str) -> str:
        inside = f'<w:start w:val="{start}"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/>'
        return f'<w:lvl w:ilvl="{at}">{inside}</w:lvl>'

    sections, items = level(0, 2, "decimal", "%1") + level(1, 1, "decimal", "%1.%2"), level(0, 1, "lowerLetter", "(%1)")
    numbering = xml(
        "w:numbering",
        f'<w:abstractNum w:abstractNumId="1">{sections}</w:abstractNum><w:abstractNum w:abstractNumId="2">{items}</w:abstractNum>'
        '<w:num w:numId="4"><w:abstractNumId w:val="1"/></w:num><w:num w:numId="5"><w:abstractNumId w:val="2"/></w:num>',
    )
    item = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="5"/></w:numPr>'
    deleted = (
        f'<w:p><w:pPr>{item}<w:rPr><w:del w:id="1"/></w:rPr></w:pPr><w:del><w:r><w:delText>x</w:delText></w:r></w:del></w:p>'
    )
    body = (
        paragraph("Scope", '<w:pStyle w:val="H2"/>')
        + paragraph("first", item)
        + deleted
        + paragraph("second", item)
        + f"<w:tbl><w:tr><w:tc><w:p><w:pPr>{item}</w:pPr>{run('in a cell')}</w:p></w:tc>{cell('b')}</w:tr></w:tbl>"
    )
    extraction = read(tmp_path, container(body, {"s.xml": ("styles", styles), "n.xml": ("numbering", numbering)}))
    assert shown(extraction) == ["2.1 Scope", "(a) first", "(b) second", "(c) in a cell | b"]
    assert extraction.blocks[1].heading_path == ("2.1 Scope",)


def test_notes_stand_behind_their_paragraph_and_are_read_once(tmp_path: Path) -> None:
    def notes(kind: str, *texts: str) -> str:
        inside = "".join(
            f'<w:{kind} w:id="{number}"><w:p><w:r><w:{kind}Ref/></w:r>{run(text)}</w:p></w:{kind}>'
            for number, text in enumerate(texts, 1)
        )
        return xml(f"w:{kind}s", f'<w:{kind} w:id="0" w:type="separator"><w:p>{run("rule")}</w:p></w:{kind}>{inside}')

    parts: dict[str, tuple[str, str | bytes]] = {
        "f.xml": ("footnotes", notes("footnote", "foot one", "foot two")),
        "e.xml": ("endnotes", notes("endnote", "end")),
        "c.xml": ("comments", notes("comment", "said", "said of nothing")),
    }
    reference = '<w:r><w:{0}Reference w:id="{1}"/></w:r>'
    body = (
        f"<w:p>{run('A')}{reference.format('footnote', 1)}{run('B')}{reference.format('endnote', 1)}"
        f"{reference.format('footnote', 1)}</w:p>"
        f"<w:tbl><w:tr><w:tc><w:p>{run('left')}{reference.format('footnote', 2)}</w:p></w:tc>{cell('right')}</w:tr></w:tbl>"
        f"<w:p>{run('C')}{reference.format('comment', 1)}</w:p>"
    )
    expected = ["AB", "foot one", "end", "left | right", "foot two", "C", "said", "said of nothing"]
    extraction = read(tmp_path, container(body, parts))
    assert shown(extraction) == expected
    assert [block.text for block in extraction.blocks if block.kind == "note"] == [
        *("foot one", "end", "foot two", "said", "said of nothing")
    ]


def test_moved_text_is_read_where_it_was_moved_to(tmp_path: Path) -> None:
    body = (
        f"<w:p>{run('stays')}<w:moveFrom>{run(' moved')}</w:moveFrom></w:p>"
        f"<w:p><w:moveTo>{run('moved')}</w:moveTo>{run(' here')}</w:p>"
    )
    assert shown(read(tmp_path, container(body))) == ["stays", "moved here"]


def test_deleted_rows_and_cells_are_left_out_at_any_depth(tmp_path: Path) -> None:
    gone = f"<w:tr><w:trPr><w:del w:id='1'/></w:trPr>{cell('gone')}{cell('gone')}</w:tr>"
    kept = f"<w:tr>{cell('a')}{cell('gone', '<w:cellDel/>')}{cell('b')}</w:tr>"
    inner = f"<w:tbl><w:tr>{cell('c')}{cell('d')}</w:tr>{gone}</w:tbl>"
    body = f"<w:tbl>{kept}{gone}<w:ins><w:tr><w:tc>{inner}</w:tc>{cell('e')}</w:tr></w:ins></w:tbl>"
    assert shown(read(tmp_path, container(body))) == ["a | b\nc | d | e"]


def test_a_cell_merged_either_way_is_read_once(tmp_path: Path) -> None:
    below = cell("shadow", "<w:vMerge/>")
    beside = cell("shadow", '<w:hMerge w:val="continue"/>')
    high, wide = cell("high", '<w:vMerge w:val="restart"/>'), cell("wide", '<w:hMerge w:val="restart"/>')
    first = f"<w:tr>{high}{wide}{beside}</w:tr>"
    body = f"<w:tbl>{first}<w:tr>{below}{cell('x')}{cell('y')}</w:tr></w:tbl>"
    assert shown(read(tmp_path, container(body))) == ["high | wide |\n | x | y"]


def test_a_table_of_one_column_is_a_frame_around_its_blocks(tmp_path: Path) -> None:
    inner = f"<w:tbl><w:tr>{cell('a')}{cell('b')}</w:tr></w:tbl>"
    body = f"<w:tbl><w:tr><w:tc><w:p>{run('above')}</w:p>{inner}<w:p>{run('below')}</w:p></w:tc></w:tr></w:tbl>"
    extraction = read(tmp_path, container(body))
    assert [(block.text, block.kind) for block in extraction.blocks] == [
        *(("above", "paragraph"), ("a | b", "table"), ("below", "paragraph"))
    ]


def test_symbols_are_read_as_what_they_show(tmp_path: Path) -> None:
    def in_font(font: str) -> str:
        return f'<w:r><w:rPr><w:rFonts w:ascii="{font}"/></w:rPr><w:t>\uf061</w:t></w:r>'

    symbols = (
        '<w:sym w:font="Wingdings" w:char="F0FC"/><w:sym w:font="Symbol" w:char="F0B0"/>'
        '<w:sym w:font="Unknown" w:char="F041"/><w:sym w:font="Arial" w:char="20AC"/><w:sym w:font="Symbol" w:char="no"/>'
    )
    body = f"<w:p><w:r>{symbols}</w:r></w:p><w:p>{run('angle ')}{in_font('Symbol')}{in_font('Other')}</w:p>"
    assert shown(read(tmp_path, container(body))) == ["✓°€", "angle α"]


def test_hyphens_that_steer_line_breaks_do_not_break_words(tmp_path: Path) -> None:
    body = "<w:p><w:r><w:t>e</w:t><w:noBreakHyphen/><w:t>mail so</w:t><w:softHyphen/><w:t>ft ha\xadrd</w:t></w:r></w:p>"
    assert shown(read(tmp_path, container(body))) == ["e-mail soft hard"]


def test_tab_stops_are_no_tabs_and_hidden_text_is_read(tmp_path: Path) -> None:
    stops = '<w:tabs><w:tab w:val="left" w:pos="720"/></w:tabs>'
    body = f"<w:p><w:pPr>{stops}</w:pPr>{run('a')}<w:r><w:tab/><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>"
    assert shown(read(tmp_path, container(body))) == ["a\thidden"]


def test_formulas_and_words_drawn_as_pictures_are_read(tmp_path: Path) -> None:
    body = (
        f"<w:p>{run('so ')}<m:oMath><m:r><m:t>x=1</m:t></m:r></m:oMath>"
        "<w:r><w:pict><v:shape><v:textpath string='DRAFT'/></v:shape></w:pict></w:r></w:p>"
    )
    assert shown(read(tmp_path, container(body))) == ["so x=1", "DRAFT"]


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


def test_a_damaged_part_beside_the_text_leaves_a_warning(tmp_path: Path) -> None:
    parts: dict[str, tuple[str, str | bytes]] = {
        name: (kind, "<broken") for name, kind in {"f.xml": "footnotes", "s.xml": "styles", "n.xml": "numbering"}.items()
    }
    extraction = read(tmp_path, container(paragraph("x"), parts))
    assert (shown(extraction), extraction.warnings) == (["x"], ("a part of the file is damaged and was left out",))


def test_a_style_without_values_says_nothing(tmp_path: Path) -> None:
    styles = '<w:style w:type="paragraph" w:styleId="S"><w:name/><w:basedOn/></w:style>'
    data = container(paragraph("x", '<w:pStyle w:val="S"/>'), {"s.xml": ("styles", xml("w:styles", styles))})
    assert [(block.text, block.kind) for block in read(tmp_path, data).blocks] == [("x", "paragraph")]


def test_only_pictures_need_ocr(tmp_path: Path) -> None:
    with pytest.raises(NoText) as caught:
        read(tmp_path, container("<w:p/>", {"media/a.png": ("image", b"png")}))
    assert caught.value.code == "needs_ocr"


def test_a_long_body_is_read_to_its_end(tmp_path: Path) -> None:
    """Longer than what is a tree at once, and no paragraph ends where a piece does."""
    texts = [f"paragraph {number} " + "word " * (number % 50) for number in range(30_000)]
    assert shown(read(tmp_path, container("".join(map(paragraph, texts))))) == [text.strip() for text in texts]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda data: data.replace(b"</w:body>", b""),
        lambda data: data.replace(b"w:body", b"w:other"),
        lambda data: data[: len(data) // 2],
    ],
)
def test_a_broken_body_is_damaged(tmp_path: Path, wrong: object) -> None:
    assert callable(wrong)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(container(paragraph("x") * 9))) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, wrong(data) if name == "word/document.xml" else data)
    with pytest.raises(Rejected) as caught:
        read(tmp_path, buffer.getvalue())
    assert caught.value.code == "damaged"


@pytest.mark.timeout(20)
def test_a_long_run_of_spaces_takes_its_length_and_not_the_square_of_it(tmp_path: Path) -> None:
    body = f"<w:p>{run('a' + ' ' * 100_000 + 'b ')}<w:r><w:br/><w:t>c</w:t></w:r></w:p>"
    assert shown(read(tmp_path, container(body)))[0].split() == ["a", "b", "c"]


@pytest.mark.parametrize("depth", [40, 80, 100_000])
@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("<w:sdt><w:sdtContent>", "</w:sdtContent></w:sdt>"),
        ("<w:tbl><w:tr><w:tc>", "</w:tc></w:tr></w:tbl>"),
        (f"<w:tbl><w:tr>{cell('x')}<w:tc>", "</w:tc></w:tr></w:tbl>"),
        ("<w:p><w:r><w:txbxContent>", "</w:txbxContent></w:r></w:p>"),
    ],
)
def test_deep_nesting_is_read_or_damaged_and_nothing_else(tmp_path: Path, depth: int, opened: str, closed: str) -> None:
    data = container(opened * depth + paragraph("deep") + closed * depth)
    if depth < 256 // 3:
        assert "deep" in shown(read(tmp_path, data))[-1]
    else:
        with pytest.raises(PermanentError) as caught:
            read(tmp_path, data)
        assert caught.value.code == "damaged"
