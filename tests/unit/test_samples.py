"""The sample documents: what the demo promises of them."""

from __future__ import annotations

import io
import json
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pypdfium2

from infra.samples import make_samples

SAMPLES = Path(__file__).parents[2] / "infra" / "samples"
DOCUMENTS = SAMPLES / "documents"


def _files() -> list[Path]:
    return sorted(path for path in DOCUMENTS.rglob("*") if path.is_file())


def _keys() -> set[str]:
    return {path.relative_to(DOCUMENTS).as_posix() for path in _files()}


def _pages(content: bytes) -> list[str]:
    with pypdfium2.PdfDocument(content) as document:
        return [page.get_textpage().get_text_bounded() for page in document]


def test_there_are_enough_documents_of_every_kind_and_they_are_small() -> None:
    kinds = Counter(path.suffix for path in _files())
    assert set(kinds) == {".pdf", ".docx", ".pptx", ".html", ".md", ".txt"}
    assert min(kinds.values()) >= 2
    assert sum(kinds.values()) >= 14
    assert sum(path.stat().st_size for path in _files()) < 600_000


def test_one_key_has_a_space_a_plus_a_percent_sign_and_letters_beyond_ascii() -> None:
    assert [key for key in _keys() if all(sign in key for sign in " +%") and not key.isascii()]


def test_every_name_can_be_checked_out_on_any_file_system() -> None:
    for key in _keys():
        assert not set('<>:"\\|?*\n\r\t') & set(key), key
        assert unicodedata.is_normalized("NFC", key), key
    assert len({key.casefold() for key in _keys()}) == len(_keys())


def test_two_languages_beyond_english_are_there_and_one_in_another_script() -> None:
    text = "".join((DOCUMENTS / key).read_text() for key in ("web/ja/sencha.html", "logbooks/greek-harbour-log.txt"))
    assert "煎茶" in text
    assert "λιμ" in text


def test_the_sources_give_the_documents_that_are_checked_in(tmp_path: Path) -> None:
    made = make_samples.write_all(tmp_path)
    assert len(made) >= 10
    for name in made:
        new, kept = (tmp_path / name).read_bytes(), (DOCUMENTS / name).read_bytes()
        # The bytes of a compressed file depend on the zlib of the machine; what is in it does not.
        if name.suffix == ".pdf":
            assert _pages(new) == _pages(kept), name
        elif name.suffix in {".docx", ".pptx"}:
            assert _members(new) == _members(kept), name
        else:
            assert new == kept, name


def _members(package: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_a_source_is_read_into_pages_of_headings_tables_notes_and_paragraphs() -> None:
    pages = make_samples.parse("# T\n\npara\n\n<!-- page -->\n\n## H\n\n| a | b |\n| 1 | 2 |\n\n> said")
    assert [[part.kind for part in page] for page in pages] == [["title", "paragraph"], ["heading", "table", "note"]]
    assert pages[1][1].rows == (("a", "b"), ("1", "2"))


def test_each_search_names_a_document_and_a_page_that_exist() -> None:
    searches: list[dict[str, Any]] = json.loads((SAMPLES / "searches.json").read_text())
    assert len(searches) == 3
    for search in searches:
        assert set(search) == {"query", "key", "page"}
        assert search["key"] in _keys()
    page = next(search["page"] for search in searches if search["key"].endswith(".pdf"))
    pages = _pages((DOCUMENTS / "energy/tidal-array-field-report.pdf").read_bytes())
    assert len(pages) >= 4
    assert ["trawl net" in text for text in pages].index(True) + 1 == page == 3


def test_a_search_is_a_paraphrase_and_no_quotation() -> None:
    for search in json.loads((SAMPLES / "searches.json").read_text()):
        if search["key"].endswith(".pdf"):
            text = " ".join(_pages((DOCUMENTS / search["key"]).read_bytes()))
        else:
            text = (SAMPLES / "sources" / f"{search['key']}.md").read_text()
        known, words = " ".join(text.split()).casefold(), search["query"].casefold().rstrip("?").split()
        assert not [words[at : at + 4] for at in range(len(words) - 3) if " ".join(words[at : at + 4]) in known], search["query"]
