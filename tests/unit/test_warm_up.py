"""The sandbox's server reads a file of its own making before it reads others': that file is a document like others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from worker.extract import warm_up
from worker.extract.reading import read


def test_the_file_goes_the_way_of_an_ordinary_document(tmp_path: Path) -> None:
    path = tmp_path / "warm-up.pdf"
    path.write_bytes(warm_up.document())
    reading = read(path, warm_up._ORDER)
    assert reading.extractor == "pdfium"
    assert reading.page_count == 10
    assert not reading.warnings
    assert {section.heading for section in reading.sections} >= {"Part B of it", "Part K of it"}
    assert reading.text.count("A running header") == 1
    assert "ends of lines in most documents" in reading.text
    # Long enough to be cut into chunks.
    assert len(reading.spans) > 2


@pytest.mark.skipif(sys.platform != "linux", reason="a file in memory is Linux's")
def test_it_is_read_without_a_file_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[bytes] = []
    monkeypatch.setattr(warm_up, "encode_result", lambda reading: answers.append(reading.text))
    warm_up.warm_up()
    assert len(answers) == 1


def test_where_it_cannot_be_read_the_server_starts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "document", lambda: b"%PDF-1.4 and nothing else")
    warm_up.warm_up()
