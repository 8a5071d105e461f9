"""DOCX and PPTX, made by the libraries and, where those can't, by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import docx
import pptx
import pytest
from docx.oxml.parser import parse_xml
from lxml import etree
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.opc.package import Part
from pptx.opc.packuri import PackURI
from pptx.util import Inches

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction
from worker.extract.blocks import Limits
from worker.extract.registry import extract

SCHEMAS = "http://schemas.openxmlformats.org"
NAMESPACES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:v="urn:schemas-microsoft-com:vml"'
)


def read(folder: Path, document: docx.document.Document | pptx.presentation.Presentation) -> Extraction:
    path = folder / "file"
    document.save(str(path))
    return extract(path, "file", Limits())


def shown(extraction: Extraction) -> list[tuple[str, str]]:
    return [(block.text, block.kind) for block in extraction.blocks]


def body(folder: Path, xml: str) -> list[tuple[str, str]]:
    """What is read of a document with these elements as its body."""
    document = docx.Document()
    for element in etree.fromstring(f"<x {NAMESPACES}>{xml}</x>"):
        document.element.body.insert(-1, parse_xml(etree.tostring(element)))
    return shown(read(folder, document))


def run(text: str) -> str:
    return f"<w:r><w:t xml:space='preserve'>{text}</w:t></w:r>"


def test_body_tables_and_headings_come_in_order_with_their_path(tmp_path: Path) -> None:
    document = docx.Document()
    document.core_properties.title = "The report"
    document.add_heading("One", 1)
    document.add_paragraph("Under one.")
    table = document.add_table(2, 2)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {number}"
    document.add_heading("Two", 2)
    document.add_paragraph("Under two.")
    extraction = read(tmp_path, document)
    assert [(block.text, block.kind, block.heading_path) for block in extraction.blocks] == [
        ("One", "heading", ()),
        ("Under one.", "paragraph", ("One",)),
        ("cell 0 | cell 1\ncell 2 | cell 3", "table", ("One",)),
        ("Two", "heading", ("One",)),
        ("Under two.", "paragraph", ("One", "Two")),
    ]
    assert (extraction.title, extraction.extractor) == ("The report", "docx")


def test_a_merged_cell_is_read_once(tmp_path: Path) -> None:
    document = docx.Document()
    table = document.add_table(2, 3)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    table.cell(0, 2).merge(table.cell(1, 2)).text = "high"
    table.cell(1, 0).text, table.cell(1, 1).text = "a", "b"
    assert shown(read(tmp_path, document)) == [("wide | high\na | b |", "table")]


def test_a_table_in_a_cell_is_read_in_its_row(tmp_path: Path) -> None:
    document = docx.Document()
    table = document.add_table(1, 2)
    table.cell(0, 0).text = "outer"
    table.cell(0, 1).add_table(1, 1).cell(0, 0).text = "inner"
    assert shown(read(tmp_path, document)) == [("outer | inner", "table")]


def test_headers_and_footers_are_read_once(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_paragraph("Body.")
    for section in (document.sections[0], document.add_section()):
        section.header.is_linked_to_previous = False
        section.footer.is_linked_to_previous = False
        section.header.paragraphs[0].text = "Letterhead"
        section.footer.paragraphs[0].text = "Foot"
    assert shown(read(tmp_path, document)) == [("Letterhead", "note"), ("Body.", "paragraph"), ("Foot", "note")]


def test_a_comment_stands_behind_its_paragraph(tmp_path: Path) -> None:
    document = docx.Document()
    paragraph = document.add_paragraph("Claimed.")
    document.add_comment(paragraph.runs, "Is it so?", author="A")
    document.add_paragraph("Next.")
    assert [text for text, _ in shown(read(tmp_path, document))] == ["Claimed.", "Is it so?", "Next."]


def test_insertions_are_read_and_deletions_are_not(tmp_path: Path) -> None:
    xml = f"<w:p>{run('kept ')}<w:ins>{run('added')}</w:ins><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    assert body(tmp_path, xml) == [("kept added", "paragraph")]


def test_links_fields_and_content_controls_are_read(tmp_path: Path) -> None:
    xml = (
        f"<w:sdt><w:sdtPr/><w:sdtContent><w:p><w:hyperlink>{run('link')}</w:hyperlink>"
        f"<w:fldSimple w:instr='PAGE'>{run(' 7')}</w:fldSimple><w:r><w:instrText>HIDDEN</w:instrText><w:tab/></w:r>"
        f"<w:smartTag>{run('tagged')}</w:smartTag><w:r><w:br/><w:t>line</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    )
    assert body(tmp_path, xml) == [("link 7\ttagged\nline", "paragraph")]


def test_a_text_box_in_alternate_content_is_read_once_behind_its_paragraph(tmp_path: Path) -> None:
    box = f"<w:txbxContent><w:p>{run('in the box')}</w:p></w:txbxContent>"
    xml = (
        f"<w:p>{run('before')}<w:r><mc:AlternateContent>"
        f"<mc:Choice Requires='wps'><w:drawing><wps:txbx>{box}</wps:txbx></w:drawing>"
        f"</mc:Choice><mc:Fallback><w:pict><v:textbox>{box}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    assert body(tmp_path, xml) == [("before", "paragraph"), ("in the box", "paragraph")]


def test_a_document_without_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoText) as caught:
        read(tmp_path, docx.Document())
    assert caught.value.code == "empty"


def rebuilt(folder: Path, change: Callable[[str, bytes], bytes | None]) -> Extraction:
    """A document of one sentence whose container was changed entry by entry; None leaves an entry out."""
    whole = io.BytesIO()
    document = docx.Document()
    document.add_paragraph("A sentence.")
    document.save(whole)
    path = folder / "file"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = change(name, source.read(name))
            if data is not None:
                target.writestr(name, data)
    return extract(path, "file.docx", Limits())


def test_a_doctype_in_any_part_is_refused(tmp_path: Path) -> None:
    entity = b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><w:document"
    with pytest.raises(Rejected) as caught:
        rebuilt(tmp_path, lambda name, data: data.replace(b"<w:document", entity) if name.endswith("document.xml") else data)
    assert caught.value.code == "forbidden_doctype"


def test_a_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    def blow_up(name: str, data: bytes) -> bytes:
        return data.replace(b"<w:body>", b"<w:body>" + b" " * 30_000_000) if name.endswith("document.xml") else data

    with pytest.raises(Rejected) as caught:
        rebuilt(tmp_path, blow_up)
    assert caught.value.code == "bomb"


def test_a_missing_picture_or_part_does_not_lose_the_text(tmp_path: Path) -> None:
    extraction = rebuilt(tmp_path, lambda name, data: None if "theme" in name or "styles" in name else data)
    assert shown(extraction) == [("A sentence.", "paragraph")]


def test_a_missing_main_part_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        rebuilt(tmp_path, lambda name, data: None if name == "word/document.xml" else data)
    assert caught.value.code == "damaged"


def test_strict_office_namespaces_and_templates_are_read(tmp_path: Path) -> None:
    def strict(name: str, data: bytes) -> bytes:
        data = data.replace(b"document.main+xml", b"template.main+xml") if name == "[Content_Types].xml" else data
        for part in (b"officeDocument", b"wordprocessingml"):
            old = b"http://schemas.openxmlformats.org/" + part + b"/2006/"
            data = data.replace(old, b"http://purl.oclc.org/ooxml/" + part + b"/")
        return data

    assert shown(rebuilt(tmp_path, strict)) == [("A sentence.", "paragraph")]


def test_slides_give_titles_text_tables_groups_and_notes_by_number(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    first = presentation.slides.add_slide(presentation.slide_layouts[1])
    first.shapes.title.text = "Opening"
    first.placeholders[1].text = "Point one\nPoint two"
    first.notes_slide.notes_text_frame.text = "Say hello."
    second = presentation.slides.add_slide(presentation.slide_layouts[6])
    box = Inches(0), Inches(0), Inches(1), Inches(1)
    group = second.shapes.add_group_shape()
    group.shapes.add_group_shape().shapes.add_textbox(*box).text_frame.text = "deep in a group"
    table = second.shapes.add_table(2, 2, *box).table
    for number in range(4):
        table.cell(number // 2, number % 2).text = f"c{number}"
    extraction = read(tmp_path, presentation)
    assert [(block.text, block.kind, block.page, block.heading_path) for block in extraction.blocks] == [
        ("Opening", "heading", 1, ()),
        ("Point one\nPoint two", "paragraph", 1, ("Opening",)),
        ("Say hello.", "note", 1, ("Opening",)),
        ("deep in a group", "paragraph", 2, ()),
        ("c0 | c1\nc2 | c3", "table", 2, ()),
    ]
    assert extraction.page_count == 2


def test_a_chart_gives_its_words_and_a_merged_cell_is_read_once(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[6])
    box = Inches(0), Inches(0), Inches(1), Inches(1)
    data = CategoryChartData()
    data.categories = ["Spring", "Autumn"]
    data.add_series("North", (41, 42))
    chart = slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *box, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "Sales"
    table = slide.shapes.add_table(2, 2, *box).table
    for cell, text in zip(table.iter_cells(), ["wide", "", "a", "b"], strict=True):
        cell.text = text
    table.cell(0, 0).merge(table.cell(0, 1))
    table.cell(0, 1).text = "shadow"
    assert shown(read(tmp_path, presentation)) == [("Sales\nNorth\nSpring\nAutumn", "paragraph"), ("wide |\na | b", "table")]


OLD_COMMENT = f'<p:cmLst xmlns:p="{SCHEMAS}/presentationml/2006/main"><p:cm><p:text>old form</p:text></p:cm></p:cmLst>'
NEW_COMMENT = f'<n:cmLst xmlns:n="x" xmlns:a="{SCHEMAS}/drawingml/2006/main"><a:p><a:r><a:t>new form</a:t></a:r></a:p></n:cmLst>'


@pytest.mark.parametrize(("xml", "text"), [(OLD_COMMENT, "old form"), (NEW_COMMENT, "new form")])
def test_comments_stand_at_the_end_of_their_slide(tmp_path: Path, xml: str, text: str) -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = "Said"
    part = Part(PackURI("/ppt/comments/comment1.xml"), "application/xml", presentation.part.package, xml.encode())
    slide.part.relate_to(part, f"{SCHEMAS}/officeDocument/2006/relationships/comments")
    assert shown(read(tmp_path, presentation)) == [("Said", "heading"), (text, "note")]


def test_slides_tell_their_author_dates_and_language(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    presentation.slides.add_slide(presentation.slide_layouts[5]).shapes.title.text = "x"
    properties = presentation.core_properties
    properties.author, properties.title = "Ada", "T"
    properties.created = properties.modified = datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    extraction = read(tmp_path, presentation)
    found = extraction.metadata
    assert (extraction.title, found.author, found.created) == ("T", "Ada", "2020-02-03T04:05:06Z")
    assert (found.modified, found.language) == ("2020-02-03T04:05:06Z", "en-US")


def test_slides_without_text_say_so(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    presentation.slides.add_slide(presentation.slide_layouts[6])
    with pytest.raises(NoText) as caught:
        read(tmp_path, presentation)
    assert caught.value.code == "empty"
