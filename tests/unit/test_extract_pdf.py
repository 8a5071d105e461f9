from __future__ import annotations

import contextlib
import io
import re
from datetime import datetime
from pathlib import Path

import pytest
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer

from worker.domain.errors import NoText, Rejected
from worker.domain.text import Extraction
from worker.extract import pdf, pdf_facts, pdf_fallback
from worker.extract.blocks import NO_METADATA, BlockBuilder, Limits
from worker.extract.pdf_layout import BAD_FROM, Line, badness, compounds, paragraphs
from worker.extract.registry import extract


def read(folder: Path, data: bytes, limits: Limits = Limits()) -> Extraction:  # noqa: B008 - Limits is frozen, so sharing it is safe
    path = folder / "file"
    path.write_bytes(data)
    return extract(path, "file", limits)


def drawn(*pages: str, encrypt: StandardEncryption | None = None, picture_on: int = 0) -> bytes:
    """A PDF with one line of text a page; a page may have a drawing."""
    out = io.BytesIO()
    canvas = Canvas(out, A4, encrypt=encrypt)
    canvas.setTitle("Its title")
    for number, text in enumerate(pages, 1):
        canvas.drawString(72, 700, text)
        if number == picture_on:
            canvas.rect(100, 100, 200, 200, fill=1)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def test_paragraphs_are_joined_from_lines_and_keep_their_page(tmp_path: Path) -> None:
    sentences = [" ".join(f"word{number}{letter}" for number in range(60)) + "." for letter in "ab"]
    out = io.BytesIO()
    style = getSampleStyleSheet()["BodyText"]
    SimpleDocTemplate(out).build([flow for text in sentences for flow in (Paragraph(text, style), Spacer(1, 12))])
    extraction = read(tmp_path, out.getvalue())
    assert [(block.text, block.page) for block in extraction.blocks] == [(sentences[0], 1), (sentences[1], 1)]
    assert (extraction.extractor, extraction.page_count) == ("pdfium", 1)


def test_pages_count_from_one_and_the_title_is_read(tmp_path: Path) -> None:
    extraction = read(tmp_path, drawn("first page", "second page"))
    assert [(block.text, block.page) for block in extraction.blocks] == [("first page", 1), ("second page", 2)]
    assert (extraction.title, extraction.page_count, extraction.warnings) == ("Its title", 2, ())


def test_an_empty_user_password_is_no_obstacle(tmp_path: Path) -> None:
    data = drawn("readable", encrypt=StandardEncryption("", "owner", strength=128))
    assert read(tmp_path, data).blocks[0].text == "readable"


def test_a_real_password_is_encrypted(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        read(tmp_path, drawn("secret", encrypt=StandardEncryption("user", "owner", strength=128)))
    assert caught.value.code == "encrypted"


@pytest.mark.parametrize(("picture_on", "code"), [(1, "needs_ocr"), (0, "empty")])
def test_a_pdf_without_text_says_whether_there_is_something_to_see(tmp_path: Path, picture_on: int, code: str) -> None:
    with pytest.raises(NoText) as caught:
        read(tmp_path, drawn("", "", picture_on=picture_on))
    assert caught.value.code == code


def test_pages_without_text_are_listed_where_others_have_some(tmp_path: Path) -> None:
    assert read(tmp_path, drawn("text", "", "text", picture_on=2)).warnings == ("pages without text: 2",)


@pytest.mark.parametrize("data", [b"%PDF-1.4\nnothing else", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer <</Root 1 0 R>>\n%%EOF"])
def test_a_ruin_is_damaged(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        read(tmp_path, data)
    assert caught.value.code == "damaged"


def test_too_many_pages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        read(tmp_path, drawn("a", "b", "c"), Limits(max_pages=2))
    assert caught.value.code == "too_many_pages"


def test_a_page_that_one_engine_skips_shifts_no_page_number(tmp_path: Path) -> None:
    data = drawn("first", "second").replace(b"/Type /Page\n", b"/Type /Pagx\n", 1)
    extraction = read(tmp_path, data)
    assert [(block.text, block.page) for block in extraction.blocks] == [("second", 2)]
    assert extraction.warnings == ("pages without text: 1",)


def test_a_page_tree_that_pdfium_loses_its_way_in_is_read_by_pdfminer(tmp_path: Path) -> None:
    data = re.sub(rb"/Kids \[ (\d+) 0 R", rb"/Kids [ 99 0 R \1 0 R", drawn("first", "second"))
    extraction = read(tmp_path, data)
    assert [(block.text, block.page) for block in extraction.blocks] == [("first", 1), ("second", 2)]
    assert extraction.extractor == "pdfminer"


def test_pdfminer_reads_the_page_on_which_pdfium_finds_nothing_though_text_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(drawn("first", "second"))
    # The fault is injected: what pdfium would say of a font that it can't map.
    pages = {0: pdf._Page("first", [Line("first")]), 1: pdf._Page("", [], has_text=True)}
    builder = BlockBuilder(Limits())
    seconds = pdf._second_opinion(path, pages, Limits(), builder)
    assert (seconds[0].text, seconds[1].text.strip()) == ("first", "second")
    extraction = pdf._finish(seconds, None, NO_METADATA, builder)
    assert (extraction.extractor, extraction.metadata.engines) == ("pdfium+pdfminer", "pdfium 1; pdfminer 2")


def test_a_second_opinion_that_takes_too_long_leaves_what_there_is_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(drawn("first", "second"))

    def never_done(_: object) -> pdf_fallback.ReadPage:
        while True:
            with contextlib.suppress(Exception):  # as pdfminer does in many places
                sum(range(10_000))

    monkeypatch.setattr(pdf_fallback, "_read", never_done)
    monkeypatch.setattr(pdf, "_SECOND_OPINION_SECONDS", 0.2)
    pages = {0: pdf._Page("first", [Line("first")]), 1: pdf._Page("", [], has_text=True)}
    builder = BlockBuilder(Limits())
    assert pdf._second_opinion(path, pages, Limits(), builder) == pages
    assert builder.warnings == ["pages that read badly, and were not read a second time: 1"]


def test_one_broken_page_is_read_a_second_time_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(drawn("first", "second", "third"))
    pages = {number: pdf._Page(text, [Line(text)]) for number, text in enumerate(("first", "second"))}
    seconds = pdf._second_opinion(path, {**pages, 2: pdf._Page("", [], broken=True)}, Limits(), BlockBuilder(Limits()))
    assert [seconds[number].text.strip() for number in range(3)] == ["first", "second", "third"]


@pytest.mark.parametrize("engine", ["pdfium", "pdfminer"])
def test_an_engine_can_be_named(tmp_path: Path, engine: str) -> None:
    extraction = read(tmp_path, drawn("first", "second", "third"), Limits(pdf_engine=engine))
    assert (extraction.extractor, extraction.metadata.engines) == (engine, f"{engine} 1-3")
    assert [block.text for block in extraction.blocks] == ["first", "second", "third"]


def test_what_the_file_says_of_itself_is_kept(tmp_path: Path) -> None:
    out = io.BytesIO()
    canvas = Canvas(out, lang="en-GB")
    canvas.setAuthor("A. Uthor")
    canvas.drawString(72, 700, "text")
    canvas.save()
    known = read(tmp_path, out.getvalue()).metadata
    assert (known.author, known.language) == ("A. Uthor", "en-GB")
    assert datetime.fromisoformat(str(known.created)).tzinfo is not None


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("D:20240102030405+01'00'", "2024-01-02T03:04:05+01:00"),
        ("D:20240102030405Z", "2024-01-02T03:04:05+00:00"),
        ("20240102030405", "2024-01-02T03:04:05"),
        ("D:202401", "2024-01-01"),
        ("D:20241302", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_date_is_iso_8601_or_none(written: str, read_as: str | None) -> None:
    assert pdf_facts.iso_date(written) == read_as


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("An ordinary sentence, with words and 12 numbers. " * 10, False),
        ("", False),
        ("Überraschung für Łódź und naïve Gemüter " * 10, False),
        ("漢字かな交じり文には空白がない。" * 30, False),
        ("\ue001\ue002\ue003 ab", True),
        ("(cid:12)(cid:7) abc", True),
        ("\ufffd\x01\x02 text", True),
        ("Contents . . . . . . . . . . . . 12\n" * 30, False),
        ("thistexthasnospacesanywhere" * 20, True),
        ("l e t t e r s p a c e d " * 30, True),
    ],
)
def test_bad_text_is_known_by_its_glyphs_and_spaces(text: str, bad: bool) -> None:
    assert (badness(text) > BAD_FROM) is bad


def lines(*rows: tuple[str, float, float], width: float = 300.0) -> list[Line]:
    """Lines of 10 points as (text, left, bottom); the right edge follows from the text, at 5 points a letter."""
    return [Line(text, left, bottom, left + 5 * len(text), bottom + 10) for text, left, bottom in rows]


def test_a_hyphen_at_a_line_end_joins_the_word() -> None:
    assert paragraphs(lines(("a long exam-", 0, 100), ("ple of it", 0, 88))) == ["a long example of it"]
    assert paragraphs(lines(("a long exam\ufffe", 0, 100), ("ple of it", 0, 88))) == ["a long example of it"]


@pytest.mark.parametrize("mark", ["-", "\ufffe", "\x02"])
def test_a_word_keeps_the_hyphen_that_is_its_own(mark: str) -> None:
    assert paragraphs(lines((f"the Rhine{mark}", 0, 100), ("Main area", 0, 88))) == ["the Rhine-Main area"]
    assert paragraphs(lines((f"of COVID{mark}", 0, 100), ("19 it was", 0, 88))) == ["of COVID-19 it was"]
    elsewhere = compounds(["A Well-Known fact."])
    text = lines((f"is well{mark}", 0, 100), ("known and", 0, 88))
    assert paragraphs(text, elsewhere.__contains__) == ["is well-known and"]
    assert paragraphs(text) == ["is wellknown and"]


def test_a_soft_hyphen_never_stays() -> None:
    assert paragraphs(lines(("the exam\xad", 0, 100), ("Ple of it", 0, 88))) == ["the examPle of it"]


def test_a_line_with_room_left_was_broken_on_purpose() -> None:
    assert paragraphs(lines(("Dear Sir,", 0, 100), ("thank you for your long letter of May", 0, 88))) == [
        "Dear Sir,\nthank you for your long letter of May"
    ]


@pytest.mark.parametrize(("word", "between"), [("mammon", " "), ("little", "\n")])
def test_a_word_of_broad_letters_needs_more_room_than_one_of_narrow_letters(word: str, between: str) -> None:
    # Room for 7 letters of 5 points, and half a point.
    page = [Line("x" * 29, 0, 112, 140.5, 122), *lines(("in the old words of a", 0, 100), (word, 0, 88))]
    assert paragraphs(page) == [f"{'x' * 29} in the old words of a{between}{word}"]


def test_a_gap_another_size_or_another_column_begins_a_paragraph() -> None:
    gap = lines(("one", 0, 100), ("two", 0, 60))
    size = [Line("Heading", 0, 100, 90, 120), Line("body text of it", 0, 88, 80, 98)]
    column = lines(("end of the left column", 0, 100), ("top of the right", 200, 500))
    assert [len(paragraphs(case)) for case in (gap, size, column)] == [2, 2, 2]


def test_an_indented_line_behind_a_full_stop_begins_a_paragraph() -> None:
    assert len(paragraphs(lines(("The end.", 0, 100), ("Next one", 15, 88)))) == 2
