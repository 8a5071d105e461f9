from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from worker.domain.errors import Rejected, Unsupported
from worker.extract.blocks import Limits
from worker.extract.registry import FORMATS, Format, detect, extract

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000)


def file(folder: Path, data: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "type_found"),
    [
        (OLE + "WordDocument".encode("utf-16-le"), "application/msword"),
        (OLE + "Workbook".encode("utf-16-le"), "application/vnd.ms-excel"),
        (OLE, "application/x-ole-storage"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "image/jpeg"),
        (b"\x7fELF" + bytes(50), "application/x-executable"),
        (b"MZ" + bytes(50), "application/vnd.microsoft.portable-executable"),
        (b"\0\0\0\x18ftypmp42" + bytes(50), "video/mp4"),
        (b"{\\rtf1 hello}", "application/rtf"),
        (bytes(range(256)) * 10, "application/octet-stream"),
    ],
)
def test_a_file_without_an_extractor_is_unsupported_with_its_type(tmp_path: Path, data: bytes, type_found: str) -> None:
    with pytest.raises(Unsupported, match=type_found) as caught:
        detect(file(tmp_path, data), "letter.pdf")
    assert caught.value.code == "unsupported_type"


@pytest.mark.parametrize(
    ("parts", "type_found"),
    [
        ({"readme.txt": "x"}, "application/zip"),
        ({"mimetype": "application/epub+zip"}, r"application/epub\+zip"),
        ({"[Content_Types].xml": "application/vnd.ms-excel.sheet.binary.macroEnabled.main"}, "ms-excel.sheet.binary"),
    ],
)
def test_a_container_without_an_extractor_is_unsupported_with_its_type(
    tmp_path: Path, parts: dict[str, str], type_found: str
) -> None:
    path = tmp_path / "file"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    with pytest.raises(Unsupported, match=type_found):
        detect(path, "a.docx")


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le"), "a.docx", "encrypted"),
        (b"PK\x03\x04 and no directory", "a.docx", "damaged"),
        (b"bare text", "a.pdf", "type_mismatch"),
        (b"1 0 obj << >> endobj trailer", "a.pdf", "damaged"),
        (bytes(range(256)) * 10, "a.md", "type_mismatch"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_rejected(tmp_path: Path, data: bytes, name: str, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        detect(file(tmp_path, data), name)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("data", "name", "format"),
    [
        (b"%PDF-1.7", "a.txt", "pdf"),
        (b"\n\n%PDF-1.7", "a", "pdf"),
        (b"\x80\x81\x00\x00\x01\x02\x03junk\n%PDF-1.4\n1 0 obj", "a.pdf", "pdf"),
        (b"<!-- note --><HTML><body>x", "a.pdf", "html"),
        (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC '-//W3C//DTD XHTML'><html>", "a.xml", "html"),
        ("\ufeff<html>".encode("utf-16-le"), "a", "html"),
        (b"From: me\n<p>not at the start", "a.html", "html"),
        (b"From: me\n<p>not at the start", "a.txt", "text"),
        (b"# Heading", "A.MD", "markdown"),
        (b"# Heading", "a.txt", "text"),
        (b"MZ is a good beginning for a word", "a.txt", "text"),
        (b"%PDF- is how a PDF begins"[1:], "a.txt", "text"),
        (b'{"a": 1}', "a.json", "json"),
        (b"a\tb", "a.tsv", "csv"),
    ],
)
def test_the_content_decides_and_the_name_is_the_last_hint(tmp_path: Path, data: bytes, name: str, format: str) -> None:
    assert detect(file(tmp_path, data), name).name == format


def test_a_format_is_one_module_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shouting.py").write_text(
        "from worker.domain.text import Block, Extraction\n"
        "def extract(path, limits):\n"
        "    return Extraction((Block(path.read_text().upper()),), 'text/x-shout', 'shout')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    formats = (Format("shout", "text/x-shout", "shouting", text_suffixes=(".shout",)), *FORMATS)
    assert extract(file(tmp_path, b"hello"), "a.shout", Limits(), formats).blocks[0].text == "HELLO"


def test_what_a_parser_raises_is_damaged_without_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing.py").write_text("def extract(path, limits):\n    raise KeyError(path.read_text())\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Rejected) as caught:
        extract(file(tmp_path, b"private words"), "a.x", Limits(), (Format("x", "text/x", "failing", text_suffixes=(".x",)),))
    assert (caught.value.code, "private" in str(caught.value)) == ("damaged", False)


def test_the_command_prints_blocks_and_refusals_as_json(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.png"
    good.write_text("# Title\n\nText.")
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    run = subprocess.run([sys.executable, "-m", "worker.extract", good, bad], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert (run.returncode, run.stderr) == (1, "")
    assert [line.get("text") for line in lines] == ["Title", "Text.", None, None]
    assert (lines[2]["blocks"], lines[3]["code"]) == (2, "unsupported_type")


def test_the_command_ends_quietly_where_its_output_is_closed(tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text("\n\n".join(f"Paragraph {number}." for number in range(20_000)))
    command = [sys.executable, "-m", "worker.extract", str(long)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == ""
    assert run.returncode == -signal.SIGPIPE


def test_the_registry_itself_loads_no_parser() -> None:
    parsers = "('lxml', 'docx', 'pptx', 'pypdfium2', 'pdfminer')"
    code = f"import sys, worker.extract.sandbox, worker.extract.registry; print([m for m in {parsers} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
