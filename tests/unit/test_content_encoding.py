"""A body is what its Content-Encoding holds, where the header tells the truth."""

from __future__ import annotations

import contextlib
import gzip
import random
import zlib
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.content_encoding import OUTPUT_BYTES, BrokenCoding, UnknownCoding, decoded

POSER = b"x\x9c is how the zlib format begins, and this text too. "
TEXT = b"A lighthouse keeper notes the tide. " * 100


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def in_blocks(data: bytes, length: int) -> Iterator[bytes]:
    for start in range(0, len(data), length):
        yield data[start : start + length]


def content(blocks: Iterable[bytes], header: str) -> bytes:
    return b"".join(decoded(blocks, header))


@pytest.mark.parametrize("length", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("aws-chunked", TEXT),
        ("utf-8", TEXT),
        ("base64", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("gzip,aws-chunked", gzip.compress(TEXT)),
        ("aws-chunked, gzip", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:])),
        ("gzip", gzip.compress(TEXT) + b"\0" * 512),
        ("gzip", TEXT),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("deflate", TEXT),
        ("deflate", POSER),
        ("gzip, gzip", gzip.compress(gzip.compress(TEXT))),
        ("deflate, gzip", gzip.compress(zlib.compress(TEXT))),
    ],
)
def test_the_content_of_a_body_is_what_its_codings_hold(header: str, body: bytes, length: int) -> None:
    assert content(in_blocks(body, length), header) == (POSER if body is POSER else TEXT)


@pytest.mark.parametrize("header", ["gzip", "deflate", "gzip, aws-chunked", ""])
def test_an_empty_body_is_empty(header: str) -> None:
    assert content([], header) == b""


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "Zstd"])
def test_a_coding_without_a_decoder_is_named_before_anything_is_read(coding: str) -> None:
    with pytest.raises(UnknownCoding) as caught:
        decoded(iter([TEXT]), f"gzip, {coding}")
    assert caught.value.coding == coding.lower()


@pytest.mark.parametrize(("header", "packed"), [("gzip", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT))])
def test_a_body_that_breaks_off_or_has_a_wrong_checksum_is_broken(header: str, packed: bytes) -> None:
    for broken in (packed[:-1], packed[:20], packed[:-6] + bytes(6)):
        with pytest.raises(BrokenCoding) as caught:
            content([broken], header)
        assert caught.value.coding == header


def test_a_bomb_comes_in_small_blocks_so_that_its_reader_can_stop() -> None:
    bomb = gzip.compress(gzip.compress(bytes(300_000_000)))
    assert len(bomb) < 10_000
    given_out = 0
    for block in decoded([bomb], "gzip, gzip"):
        assert len(block) <= OUTPUT_BYTES
        given_out += len(block)
        if given_out > 5_000_000:
            break
    assert given_out > 5_000_000


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "gzip, deflate"]), st.integers(1, 50))
def test_any_bytes_end_in_content_or_in_a_typed_error(data: bytes, header: str, length: int) -> None:
    with contextlib.suppress(BrokenCoding):
        content(in_blocks(data, length), header)


def test_what_is_longer_than_a_block_is_given_whole() -> None:
    data = random.Random(1).randbytes(3 * OUTPUT_BYTES) + bytes(5 * OUTPUT_BYTES)
    assert content(in_blocks(gzip.compress(data), 1 << 20), "gzip") == data
