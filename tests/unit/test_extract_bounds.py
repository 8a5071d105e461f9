"""A small file does not become a large text, and the time and memory of reading grow with the size of the file."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pptx
import pytest
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches
from reportlab.pdfgen.canvas import Canvas

from tests.support import docx_files, workbooks
from worker.domain.chunking import chunk
from worker.domain.errors import Rejected
from worker.domain.text import Extraction, assemble
from worker.extract.blocks import Limits
from worker.extract.reading import Order
from worker.extract.registry import extract
from worker.extract.sandbox import Sandbox
from worker.services.extraction import order_for
from worker.settings import Settings

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
MOST = 1_000_000


def read(folder: Path, name: str, data: bytes | str) -> Extraction:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return extract(path, name, Limits())


def length(extraction: Extraction) -> int:
    return len(assemble(extraction.blocks).text)


def numbering(text: str, format: str = "decimal", levels: int = 1) -> dict[str, tuple[str, str | bytes]]:
    items = "".join(
        f'<w:lvl w:ilvl="{level}"><w:start w:val="780"/><w:numFmt w:val="{format}"/><w:lvlText w:val={quoteattr(text)}/></w:lvl>'
        for level in range(levels)
    )
    lists = f'<w:abstractNum w:abstractNumId="0">{items}</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
    return {"numbering.xml": ("numbering", docx_files.xml("w:numbering", lists))}


@pytest.mark.parametrize(
    ("text", "format", "levels"),
    [("%1" * 300, "decimal", 1), ("%1%2%3%4%5%6%7%8%9", "lowerLetter", 9), ("A very long label. " * 30, "decimal", 1)],
)
def test_a_long_label_on_each_of_many_list_items_is_cut_and_a_warning_says_so(
    tmp_path: Path, text: str, format: str, levels: int
) -> None:
    number = f'<w:numPr><w:ilvl w:val="{levels - 1}"/><w:numId w:val="1"/></w:numPr>'
    data = docx_files.container(docx_files.paragraph("item", number) * 20_000, numbering(text, format, levels))
    extraction = read(tmp_path, "a.docx", data)
    assert len(data) < 20_000
    assert length(extraction) < MOST
    assert "long labels of list items were cut" in extraction.warnings


def test_a_usual_label_is_whole_and_no_warning_is_given(tmp_path: Path) -> None:
    number = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>'
    extraction = read(tmp_path, "a.docx", docx_files.container(docx_files.paragraph("item", number), numbering("CHAPTER %1 –")))
    assert ([block.text for block in extraction.blocks], extraction.warnings) == (["CHAPTER 780 – item"], ())


def test_a_chart_that_every_note_refers_to_is_read_once(tmp_path: Path) -> None:
    words = "".join(f"<a:p><a:r><a:t>word {number}</a:t></a:r></a:p>" for number in range(2_000))
    drawing = '<w:p><w:r><w:drawing><c:chart r:id="chart.xml"/></w:drawing></w:r></w:p>'
    notes = "".join(f'<w:footnote w:id="{number}">{drawing}</w:footnote>' for number in range(1, 1_000))
    references = "".join(f'<w:p><w:r><w:footnoteReference w:id="{number}"/></w:r></w:p>' for number in range(1, 1_000))
    parts: dict[str, tuple[str, str | bytes]] = {
        "footnotes.xml": ("footnotes", docx_files.xml("w:footnotes", notes)),
        "chart.xml": ("chart", docx_files.xml("c:chartSpace", words)),
    }
    more = {"word/_rels/footnotes.xml.rels": docx_files.relationships({"chart.xml": ("chart", "chart.xml")})}
    extraction = read(tmp_path, "a.docx", docx_files.container(references, parts, more))
    text = assemble(extraction.blocks).text
    assert text.count("word 7\n") == 1


def test_a_slide_and_a_chart_that_are_referred_to_many_times_are_read_once(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = "Tides"
    chart = CategoryChartData()
    chart.categories = [f"month {number}" for number in range(500)]
    chart.add_series("level", [1.0] * 500)
    frame = slide.shapes.add_chart(XL_CHART_TYPE.LINE, Inches(1), Inches(1), Inches(5), Inches(5), chart)
    from copy import deepcopy

    for _ in range(300):
        slide.shapes.element.append(deepcopy(frame._element))
    slides = presentation.slides._sldIdLst
    for _ in range(300):
        slides.append(deepcopy(slides[0]))
    out = io.BytesIO()
    presentation.save(out)
    text = assemble(read(tmp_path, "a.pptx", out.getvalue()).blocks).text
    assert (text.count("Tides"), text.count("month 77")) == (1, 1)


def xlsx_of(cells: int, string: int) -> Callable[[Path], Extraction]:
    row = "<row>" + '<c t="s"><v>0</v></c>' * 100 + "</row>"
    return lambda folder: workbooks.sheet_xml(folder, row * (cells // 100), f"<si><t>{'long ' * (string // 5)}</t></si>")


def pdf_of(uses: int, lines: int) -> Callable[[Path], Extraction]:
    """A PDF of one page of text that each page draws."""

    def made(folder: Path) -> Extraction:
        out = io.BytesIO()
        canvas = Canvas(out, pageCompression=1)
        canvas.beginForm("page")
        for line in range(lines):
            canvas.drawString(0, 8 * line, f"{line} words of a long text that repeats, as no honest text does. " * 4)
        canvas.endForm()
        for number in range(uses):
            # Never in the same place: what is, counts as a header or a footer.
            canvas.setFont("Helvetica", 4)
            canvas.translate(20 + number % 7, 40 + number % 31)
            canvas.doForm("page")
            canvas.showPage()
        canvas.save()
        return read(folder, "a.pdf", out.getvalue())

    return made


@pytest.mark.parametrize("made", [xlsx_of(20_000, 1_000), pdf_of(300, 90)], ids=["xlsx", "pdf"])
def test_a_little_text_that_is_repeated_to_much_more_than_the_file_holds_is_a_bomb(
    tmp_path: Path, made: Callable[[Path], Extraction], monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.extract import registry

    # Pages cost a file some 200 bytes each: a smaller allowance shows the same without 20,000 of them.
    monkeypatch.setattr(registry, "_PER_PACKED_BYTE", 10)
    with pytest.raises(Rejected) as caught:
        made(tmp_path)
    assert caught.value.code == "bomb"


def test_an_honest_file_of_repeated_text_is_read_however_well_it_packs(tmp_path: Path) -> None:
    data = docx_files.container(docx_files.paragraph("The same sentence in every paragraph of a long form. " * 2) * 30_000)
    assert len(data) < 40_000
    assert length(read(tmp_path, "a.docx", data)) > 3_000_000
    status = "Waiting for an answer of the customer"
    rows = "".join(f"<row><c><v>{number}</v></c><c t='s'><v>0</v></c></row>" for number in range(60_000))
    assert length(workbooks.sheet_xml(tmp_path, rows, f"<si><t>{status}</t></si>")) > 2_000_000


def test_a_number_of_308_digits_is_shown_as_excel_shows_it(tmp_path: Path) -> None:
    extraction = workbooks.workbook(
        tmp_path,
        lambda book: book.add_worksheet("S").write_number("A1", 1e307, book.add_format({"num_format": "0.00%"})),
    )
    assert [block.text for block in extraction.blocks][-1] == "1E+307"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.md", "- a\n" * 400_000),
        ("table.md", "| a | b |\n|---|---|\n" + "| a | b |\n" * 250_000),
        ("paragraphs.md", "a\n\n" * 150_000),
    ],
)
def test_long_markdown_is_read_with_the_default_limits(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    order = order_for(name, len(text), Settings())
    with Sandbox() as sandbox:
        # On a machine of half the speed too: the memory is what this is about.
        reading = sandbox.read(path, Order(name, 4 * order.timeout, order.memory, order.max_text_chars, 4000, 400))
    assert len(reading.text) >= len(text) - 2


def test_a_tag_of_countless_attributes_is_refused_before_the_parser_and_a_usual_one_is_read(tmp_path: Path) -> None:
    def page(count: int) -> str:
        return "<html><body><p " + " ".join(f"a{number}=1" for number in range(count)) + ">Open it.</p></body></html>"

    assert [block.text for block in read(tmp_path, "a.html", page(500)).blocks] == ["Open it."]
    started = time.process_time()
    for refused in (page(1_001), page(300_000), f"<p title='<b>' data-x=\"'>\">{page(2_000)}"):
        with pytest.raises(Rejected, match="attributes") as caught:
            read(tmp_path, "a.html", refused)
        assert caught.value.code == "too_large"
    # Measured: 0.4 s. In the square of their number, 300,000 attributes take 290 s.
    assert time.process_time() - started < 30


SLOW_IN_SQUARES: dict[str, Callable[[int], str]] = {
    "unclosed.html": lambda n: "<b>a" * n,
    "comments.html": lambda n: "<p>x" + "<!--a" * 4 * n,
    "rows.html": lambda n: "<table>" + "<tr><td>a<td>b" * n,
    "columns.html": lambda n: "<table><tr>" + "<td>a" * 2 * n,
    "headings.html": lambda n: "<h1>a</h1>" * n,
    "blanks.txt": lambda n: "x" + "\xa0 \t" * 8 * n + "x",
    "invisible.txt": lambda n: "x" + "\u200b" * 20 * n + "x",
    "marks.txt": lambda n: "e" + "\u0301" * 10 * n,
    "stops.txt": lambda n: '."' * 10 * n,
    "quotes.csv": lambda n: "a,b\n" + '"x,y\n' * 3 * n,
    "fields.csv": lambda n: "a," * 8 * n + "\n" + "1," * 8 * n,
    "keys.json": lambda n: "{" + ",".join(f'"k{number}":{number}' for number in range(4 * n)) + "}",
    "deep.json": lambda n: '{"a":[1,' * n + "1" + "]}" * n,
    "headers.eml": lambda n: "From: a@b\nMessage-ID: <a@b>\nTo: c@d\n" + "".join(f"X-{i}: v\n" for i in range(5 * n)) + "\nbody",
    "folded.eml": lambda n: "From: a@b\nMessage-ID: <a@b>\nTo: c@d\nSubject: a\n" + " b\n" * 4 * n + "\nbody",
    "nested.eml": lambda n: "From: a@b\nMessage-ID: <a@b>\nTo: c@d\n" + "Content-Type: message/rfc822\n\n" * n,
    "brackets.md": lambda n: "[a](" * 4 * n,
    "quotes.md": lambda n: "> a\n" + "b\n" * 3 * n,
    "data.md": lambda n: "![](data:image/png;base64," * 2 * n,
}


@pytest.mark.parametrize("name", SLOW_IN_SQUARES)
def test_the_time_of_reading_grows_with_the_length_of_a_file(tmp_path: Path, name: str) -> None:
    def spent(factor: int) -> float:
        path = tmp_path / name
        path.write_text(SLOW_IN_SQUARES[name](2_000 * factor))
        started = time.process_time()
        document = assemble(extract(path, name, Limits()).blocks)
        chunk(document)
        return time.process_time() - started

    spent(1)
    # Eight times the length takes eight times as long; in squares, sixty-four times. What takes no time shows nothing.
    assert spent(8) < 32 * max(spent(1), 0.02)


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not beside this checkout")
@pytest.mark.parametrize("name", ["heading500.md", "subject500.eml", "num_longlvltext.docx", "html_attr_22k.html"])
def test_the_shared_cases_hold(name: str) -> None:
    path = CASES / name
    with Sandbox() as sandbox:
        order = order_for(name, path.stat().st_size, Settings())
        if name.endswith(".html"):
            with pytest.raises(Rejected, match="attributes"):
                sandbox.read(path, order)
        else:
            assert 0 < len(sandbox.read(path, order).text) < MOST
