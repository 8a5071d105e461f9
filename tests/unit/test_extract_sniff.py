"""What a file is taken for: pages and Markdown, ZIP containers, text in any encoding, invisible text."""

from __future__ import annotations

import struct
import time
import zipfile
from pathlib import Path

import pytest

from worker.domain.errors import NoText, Rejected, Unsupported
from worker.extract import registry, sniff
from worker.extract.blocks import Limits, clean
from worker.extract.encodings import decode
from worker.extract.registry import detect, extract


def file(folder: Path, data: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("start", "name", "format"),
    [
        ('<p align="center">x</p>\n\n# Title', "README.md", "markdown"),
        ('<a name="top"></a>\n# Title', "README.md", "markdown"),
        ("<!-- note -->\n<div>\n# Title", "README.md", "markdown"),
        ("<b>note</b> to myself", "note.txt", "text"),
        ("<!DOCTYPE html><p>x", "README.md", "html"),
        ("<!-- note --><html><body>x", "note.txt", "html"),
        ("<p>x</p>", "page", "html"),
        ("<p>x</p>", "page.html", "html"),
        ("<div>x</div>", "report.doc", "html"),
    ],
)
def test_a_name_decides_what_a_fragment_is_and_a_whole_page_decides_itself(
    tmp_path: Path, start: str, name: str, format: str
) -> None:
    assert detect(file(tmp_path, start.encode()), name).name == format


def test_comments_in_front_of_text_are_looked_at_once() -> None:
    start = time.process_time()
    assert sniff.text_shape(b"<!--a-->" * 5000 + b"zzz") == "text"
    assert time.process_time() - start < 2


def container(folder: Path, parts: dict[str, str]) -> Path:
    path = folder / "container"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("parts", "media_type"),
    [
        ({"mimetype": "application/vnd.oasis.opendocument.text"}, "application/vnd.oasis.opendocument.text"),
        ({"mimetype": "application/epub+zip\n"}, "application/epub+zip"),
        ({"META-INF/container.xml": ""}, "application/epub+zip"),
        ({"META-INF/MANIFEST.MF": ""}, "application/java-archive"),
        ({"META-INF/MANIFEST.MF": "", "AndroidManifest.xml": ""}, "application/vnd.android.package-archive"),
        ({"Index/Document.iwa": ""}, "application/vnd.apple.iwork"),
        ({"[Content_Types].xml": "application/vnd.ms-excel.sheet.binary.macroEnabled.main"}, "sheet.binary.macroEnabled.12"),
        ({"[Content_Types].xml": "application/vnd.ms-visio.drawing.main+xml"}, "application/vnd.ms-visio.drawing"),
        ({"[Content_Types].xml": "application/x-private"}, "an Office Open XML container of another kind"),
        ({"mimetype": "<script>alert(1)</script>"}, "an unknown ZIP container"),
        ({"mimetype": "text/plain; secret words of a document"}, "an unknown ZIP container"),
        ({"mimetype": ""}, "an unknown ZIP container"),
    ],
)
def test_a_container_is_named_and_never_quoted(tmp_path: Path, parts: dict[str, str], media_type: str) -> None:
    with pytest.raises(Unsupported) as caught:
        detect(container(tmp_path, parts), "file.bin")
    assert str(caught.value).endswith(media_type)


@pytest.mark.parametrize(("first", "error"), [("[Content_Types].xml", Rejected), ("mimetype", Rejected), ("a.txt", Unsupported)])
def test_a_directory_of_countless_entries_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, error: type[Exception]
) -> None:
    path = container(tmp_path, {first: "x"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<HH", data, len(data) - 22 + 8, 60_000, 60_000)
    path.write_bytes(data)
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", lambda _: pytest.fail("the directory was read"))
    with pytest.raises(error):
        detect(path, "a.docx")


@pytest.mark.parametrize("cut", [5, 30, 60, 90, -10, -23])
def test_a_broken_container_is_damaged(tmp_path: Path, cut: int) -> None:
    path = container(tmp_path, {"[Content_Types].xml": "x" * 50})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(Rejected) as caught:
        extract(path, "a.docx", Limits())
    assert caught.value.code == "damaged"


def test_what_sniffing_itself_raises_is_damaged_without_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(head: bytes) -> bool:
        raise RecursionError(f"private {head!r}")

    monkeypatch.setattr(registry.sniff, "is_zip", fail)
    with pytest.raises(Rejected) as caught:
        extract(file(tmp_path, b"words"), "a.txt", Limits())
    assert (caught.value.code, "private" in str(caught.value)) == ("damaged", False)


def test_a_file_that_is_not_there_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        extract(tmp_path / "none", "a.txt", Limits())


@pytest.mark.parametrize("invisible", ["\u200b", "\u2060\u200e\n\u200f", "\ufeff\u200d", "\u3164\u2800 \ufe0f", "\u202a\u202c"])
def test_a_file_of_invisible_characters_has_no_text(tmp_path: Path, invisible: str) -> None:
    with pytest.raises(NoText) as caught:
        extract(file(tmp_path, invisible.encode() * 20), "a.txt", Limits())
    assert caught.value.code == "empty"


@pytest.mark.parametrize("word", ["می‌خواهم", "क्‍ष", "👩‍🚀"])
def test_joiners_within_a_word_stay(word: str) -> None:
    assert clean(word) == word


def test_a_text_longer_than_any_encoding_allows_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("the file was read"))
    for name in ("a.txt", "a.md"):
        path = tmp_path / "file"
        with path.open("wb") as big:
            big.write(b"word " * 100)
        with pytest.raises(Rejected) as caught:
            extract(path, name, Limits(max_text_chars=100))
        assert caught.value.code == "too_large"


def test_line_ends_of_all_kinds_are_line_ends(tmp_path: Path) -> None:
    blocks = extract(file(tmp_path, "a\r\nb\rc\x85d\u2028e\u2029f\x0cg\n\nh".encode()), "a.log", Limits()).blocks
    assert [block.text for block in blocks] == ["a\nb\nc\nd\ne", "f", "g", "h"]


def test_front_matter_gives_markdown_its_metadata(tmp_path: Path) -> None:
    source = "---\ntitle: 'Guide'\nauthors: [Ann, \"Bo\"]\ndate: 2024-05-01\nlastmod: yesterday\nlang: pt_BR\n---\ntext\n"
    extraction = extract(file(tmp_path, source.encode()), "a.md", Limits())
    metadata = extraction.metadata
    assert (extraction.title, metadata.author, metadata.created, metadata.modified, metadata.language) == (
        "Guide",
        "Ann, Bo",
        "2024-05-01",
        None,
        "pt-BR",
    )


SENTENCES = {
    "Wir fanden größere Häuser, schöne Straßen und süße Äpfel.": ["cp1252", "iso8859-15", "cp850", "mac_roman"],
    "À la fin de l’été, les élèves français étaient très âgés.": ["cp1252", "mac_roman"],
    "El niño pequeño comió más piñas en España, ¿verdad?": ["cp1252", "iso8859-15"],
    "Łódź żegna się z późną jesienią, a śnieg pokrywa łąki.": ["cp1250", "iso8859-2", "cp852"],
    "Příliš žluťoučký kůň úpěl ďábelské ódy o zítřejším dni.": ["cp1250", "iso8859-2"],
    "Düşünüyorum ki güneşli günlerde çocuklar bahçede oynuyor, şarkı söylüyor.": ["cp1254", "iso8859-9"],
    "Η γλώσσα και η ζωή των ανθρώπων είναι δύσκολη.": ["cp1253", "iso8859-7"],
    "Однажды в студёную зимнюю пору я из лесу вышел.": ["cp1251", "koi8-r", "cp866", "iso8859-5", "mac_cyrillic"],
    "В чащах юга жил бы цитрус? Да, но фальшивый экземпляр!": ["cp1251", "koi8-r", "cp866", "mac_cyrillic"],
    "בראשית ברא אלהים את השמים ואת הארץ": ["cp1255", "cp862"],
    "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق": ["cp1256", "iso8859-6"],
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์": ["cp874"],
    "すべての人間は、生まれながらにして自由である。": ["cp932", "euc_jp", "iso2022_jp"],
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.": ["cp949", "iso2022_kr"],
    "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。": ["gb18030"],
    "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心。": ["big5"],
}


@pytest.mark.parametrize(("text", "encoding"), [(text, encoding) for text, many in SENTENCES.items() for encoding in many])
def test_one_sentence_is_enough_to_tell_its_encoding(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)).text == text


def test_a_few_broken_bytes_do_not_change_the_encoding() -> None:
    text = "すべての人間は、生まれながらにして自由である。\n" * 20
    assert decode(text.encode("cp932") + b"\xff\xfe\n").text.startswith(text)
