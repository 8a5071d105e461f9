"""What every extractor gives crosses the border between the sandbox and the worker, wherever its texts are cut."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import escape, quoteattr

import pptx
import pytest
import xlsxwriter
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from tests.support import docx_files, pdfs
from worker.domain.errors import NoText, Rejected, Unsupported
from worker.domain.text import Block, Metadata, Reading, assemble
from worker.extract.blocks import BlockBuilder, Limits, clean, shortened, shortened_line
from worker.extract.reading import Order, read
from worker.extract.sandbox_wire import RefusedAnswer, decode_answer, encode_error, encode_result

# Blanks, zero-width characters, combining marks, controls, lone surrogates, and letters of one to four bytes.
ODD = (
    " \t\n\r\x0b\x0c\x1c\x85\xa0\xad\u2003\u2028\u2029\u3000\u200b\u200d\u202e"
    "\u2060\ufeff\u0301\ufe0f\x00\x01\x07\x7f\ud800\udfffA\U0001f468"
)
CUTS = (300, 500)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Texts with odd characters where texts are cut."""
    cut = draw(st.sampled_from(CUTS))
    before = draw(st.integers(cut - 6, cut))
    odd = draw(st.text(st.sampled_from(ODD), max_size=8))
    return "w" * before + odd + draw(st.sampled_from(["", "w", "w" * 20, " w" * 300]))


def xml_text(text: str) -> str:
    """What XML can hold of it."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


def docx(text: str) -> bytes:
    text = xml_text(text)
    core = (
        '<p:coreProperties xmlns:p="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(text)}</dc:title>'
        f"<dc:creator>{escape(text)}</dc:creator></p:coreProperties>"
    )
    body = docx_files.paragraph(escape(text), '<w:outlineLvl w:val="0"/>') + docx_files.paragraph("Body.")
    return docx_files.container(body, more={"docProps/core.xml": core})


def slides(text: str) -> bytes:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = xml_text(text)
    slide.placeholders[1].text = "Body."
    presentation.core_properties.title = xml_text(text)[:255]
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def workbook(text: str) -> bytes:
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    book.set_properties({"title": xml_text(text), "author": xml_text(text)})
    book.add_worksheet("S").write_string("A1", xml_text(text) or "x")
    book.close()
    return out.getvalue()


def pdf(text: str) -> bytes:
    def draw(canvas: pdfs.Canvas, number: int) -> None:
        canvas.setTitle(text.encode("utf-8", "replace").decode())
        canvas.setAuthor(text.encode("utf-8", "replace").decode())
        canvas.setFont("Helvetica", 24)
        canvas.drawString(20, 700, "Heading")
        canvas.setFont("Helvetica", 10)
        for line in range(20):
            canvas.drawString(20, 600 - 14 * line, "Body of the text, line by line.")

    return pdfs.pages(1, draw)


def mail(text: str) -> bytes:
    inner = EmailMessage()
    inner.set_content("Inner.")
    line = re.sub(r"[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", " ", text).encode("utf-8", "replace")
    attachment = (
        b'\n--b\nContent-Type: application/zip; name="' + line.replace(b'"', b"") + b'"\nContent-Disposition: attachment\n\nx'
    )
    top = b"From: " + line + b" <a@b.org>\nTo: c@d.org\nMessage-ID: <1@b>\nSubject: " + line + b"\nMIME-Version: 1.0\n"
    return top + b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n\nBody.' + attachment + b"\n--b--\n"


def page(text: str) -> bytes:
    shown = html.escape(text)
    head = f"<title>{shown}</title><meta name=author content={quoteattr(text)}>"
    return f"<html><head>{head}</head><body><h1>{shown}</h1><p>Body</body></html>".encode("utf-8", "surrogatepass")


MAKERS: dict[str, Callable[[str], bytes]] = {
    "txt": lambda text: text.encode("utf-8", "surrogatepass"),
    "md": lambda text: f'---\ntitle: "{text}"\nauthor: "{text}"\n---\n\n# {text}\n\nBody.\n'.encode("utf-8", "surrogatepass"),
    "html": page,
    "eml": mail,
    "json": lambda text: json.dumps({"title": text, text: [text, {"a": text}]}).encode(),
    "csv": lambda text: f'name,"{text}"\n1,"{text}"\n2,3\n'.encode("utf-8", "surrogatepass"),
    "docx": docx,
    "pptx": slides,
    "xlsx": workbook,
    "pdf": pdf,
}


@pytest.mark.parametrize("suffix", MAKERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=texts())
@example(text="w" * 499 + " " + "w" * 20)
@example(text="w" * 499 + "\xa0\u200b" + "w" * 20)
@example(text="w" * 299 + " " + "w" * 20)
def test_what_an_extractor_gives_crosses_the_border_unchanged(suffix: str, text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(MAKERS[suffix](text))
        try:
            reading = read(path, Order(f"file.{suffix}", 10, 10**9, 100_000, 200, 20))
        except NoText:
            event("no text")
            return
    assert decode_answer(encode_result(reading), 100_000, 200) == reading


@given(st.lists(texts(), max_size=4), st.lists(st.integers(0, 600), max_size=5), st.integers(1, 9))
@example(["\x00a", "b"], [0, 0, 1], 1)
@example(["a\u200b"], [1, 2, 2], 1)
def test_headings_warnings_metadata_and_page_breaks_of_any_text_cross_it_too(
    parts: list[str], places: list[int], page: int
) -> None:
    builder = BlockBuilder(Limits())
    for number, text in enumerate(parts):
        builder.add_heading(number % 3, text, page)
        breaks = [(at, page + index + 1) for index, at in enumerate(sorted(place for place in places if place <= len(text)))]
        builder.add(text, page=page, page_breaks=breaks)
        builder.warn(text)
    builder.add("end")
    title = parts[0] if parts else None
    extraction = builder.finish("a/b", "c", title, metadata=Metadata(author=title, language=title, engines=title))
    document = assemble(extraction.blocks)
    whole = Reading(
        document.text,
        document.sections,
        ((None, None, 0, len(document.text)),),
        extraction.media_type,
        extraction.extractor,
        extraction.title,
        None,
        extraction.warnings,
        extraction.metadata,
    )
    assert decode_answer(encode_result(whole), 10**6, 10**6) == whole


@given(texts(), st.integers(1, 600))
def test_what_was_cut_is_clean_and_no_longer_than_allowed(text: str, length: int) -> None:
    for cut in (shortened(text, length), shortened_line(text, length) or ""):
        assert clean(cut) == cut
        assert len(cut) <= length


@given(texts())
def test_the_message_of_a_refusal_crosses_it(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        decode_answer(encode_error(Rejected("damaged", text)), 100, 100)
    assert caught.value.code == "damaged"
    with pytest.raises(Unsupported):
        decode_answer(encode_error(Unsupported(text)), 100, 100)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "a "),
        ("headings", ["a\u0000"]),
        ("warnings", [" w"]),
        ("metadata", {"author": "a\n"}),
        ("text", "a "),
        ("spans", []),
    ],
)
def test_a_refused_answer_names_the_field_and_not_its_text(field: str, value: object) -> None:
    good = Reading("text", (), ((None, None, 0, 4),), "a/b", "c", None, None, (), Metadata())
    answer = json.loads(encode_result(good)) | {field: value}
    with pytest.raises(RefusedAnswer) as caught:
        decode_answer(json.dumps(answer).encode(), 100, 100)
    assert (caught.value.code, caught.value.field) == ("crashed", field)
    assert field in caught.value.message
    assert repr(value) not in caught.value.message


def test_a_page_of_a_paragraph_that_cleaning_leaves_empty_is_in_no_section() -> None:
    builder = BlockBuilder(Limits())
    builder.add("\x00one", page=1, page_breaks=[(1, 2), (4, 3)])
    assert builder.finish("a", "b").blocks == (Block("one", page=2),)
