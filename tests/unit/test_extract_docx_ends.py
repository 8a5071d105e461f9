"""DOCX, made by hand: what a broken or hostile file writes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from tests.support.docx_files import (
    cell,
    container,
    paragraph,
    read,
    run,
    shown,
    xml,
)
from worker.domain.errors import NoText, PermanentError, Rejected


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
