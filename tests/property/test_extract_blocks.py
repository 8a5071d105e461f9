from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.domain.errors import PermanentError
from worker.extract.blocks import clean
from worker.extract.reading import Order, read
from worker.extract.sandbox_wire import decode_answer, encode_result

# A success of four characters, apart from its chunks: one that is longer than the text, none, and two that begin together.
ANSWER = b"""{"text":"text","sections":[],"headings":[],"media_type":"a","extractor":"b","title":null,"page_count":null,\
"warnings":[],"metadata":{},"spans":%s}"""
ANY_TEXT = st.text(st.characters())


@given(ANY_TEXT)
@example("a\r\n\x00b\ud800")
@example("a \n \n \n b")
@example("\n\x85 \x0b\n")
def test_cleaned_text_can_be_stored_and_cleaning_again_changes_nothing(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\0" not in cleaned
    assert "\r" not in cleaned
    assert clean(cleaned) == cleaned


@given(
    st.binary(max_size=500) | ANY_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(["txt", "md", "html", "pdf", "docx"]),
)
@example(b"PK\x03\x04", "docx")
@example(b"%PDF-1.4", "pdf")
def test_any_bytes_end_in_blocks_or_in_a_typed_error_and_cross_the_border_unchanged(data: bytes, suffix: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        try:
            reading = read(path, Order(f"file.{suffix}", 10, 10**9, 10_000, 100, 10))
        except PermanentError:
            return
    assert reading.text == clean(reading.text) != ""
    assert decode_answer(encode_result(reading), 10_000, 100) == reading


@given(st.binary(max_size=200))
@example(b"null")
@example(b"{}")
@example(ANSWER % b"[[null,null,0,5]]")
@example(ANSWER % b"[]")
@example(ANSWER % b"[[null,null,0,2],[null,null,0,4]]")
@example(b'{"error": [], "code": 1}')
@example(b'{"error": "Rejected", "code": "x y", "message": ""}')
@example(b"[" * 100_000)
def test_whatever_a_child_writes_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(PermanentError):
        decode_answer(data, 100, 100)


def test_the_answer_that_those_examples_spoil_is_a_good_one() -> None:
    assert decode_answer(ANSWER % b"[[null,null,0,4]]", 100, 100).text == "text"
