"""Undo the Content-Encoding of an HTTP body, block by block (RFC 9110, 8.4.1; the gzip and deflate codings).

Pure, over the standard library's zlib. No output block is longer than ``OUTPUT_BYTES``, so that the reader of the blocks can stop
before a small body has become a large one.

S3 keeps whatever header the uploader wrote. Bytes that are not in the coding that the header names are given as they are, and so
are bytes under a name that is no content coding (``utf-8``, ``base64``) or that says how S3 itself took the bytes
(``aws-chunked``). Brotli, zstd and compress have no decoder here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

OUTPUT_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
# zlib's numbers for a window of 32 KiB in the gzip format, in its own, and without a header.
_GZIP_FORMAT, _ZLIB_FORMAT, _RAW_FORMAT = 31, 15, -15
# Bytes that are tried as deflate without a header: so many that no text passes by chance.
_PROBE_BYTES = 4096
_NO_DECODER = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})


class UnknownCoding(Exception):
    """The body is in a coding that has no decoder here. ``coding`` is its name."""

    def __init__(self, coding: str) -> None:
        super().__init__(coding)
        self.coding = coding


class BrokenCoding(Exception):
    """The body begins in its coding and is broken later. ``coding`` is its name."""

    def __init__(self, coding: str) -> None:
        super().__init__(coding)
        self.coding = coding


def decoded(blocks: Iterable[bytes], header: str) -> Iterator[bytes]:
    """Yield the decoded content of a body.

    Args:
        blocks: the body as it came.
        header: the value of Content-Encoding, "" for none. Several codings are undone one after the other.

    Raises:
        UnknownCoding: a coding has no decoder; raised before the first block.
        BrokenCoding: the body breaks off, or a checksum is wrong.
    """
    codings = [coding.strip().lower() for coding in header.split(",")]
    for coding in codings:
        if coding in _NO_DECODER:
            raise UnknownCoding(coding)
    content = iter(blocks)
    # The coding that was applied last stands last.
    for coding in reversed(codings):
        if coding in ("gzip", "x-gzip"):
            content = _gunzipped(content)
        elif coding == "deflate":
            content = _inflated(content)
    return content


def _gunzipped(blocks: Iterator[bytes]) -> Iterator[bytes]:
    first = _beginning(blocks, len(_GZIP))
    if not first.startswith(_GZIP):
        yield first
        yield from blocks
        return
    waiting: bytes | None = first
    while waiting is not None:
        decoder = zlib.decompressobj(_GZIP_FORMAT)
        yield from _through(decoder, waiting, blocks, "gzip")
        # Another member may follow (RFC 1952, 2.2). Anything else is padding, which gzip itself ignores.
        rest = decoder.unused_data
        if len(rest) < len(_GZIP):
            rest += _beginning(blocks, len(_GZIP) - len(rest))
        waiting = rest if rest.startswith(_GZIP) else None


def _inflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Undo deflate: RFC 9110 means the zlib format, but many writers leave its header out."""
    first = _beginning(blocks, _PROBE_BYTES)
    form = _ZLIB_FORMAT if len(first) > 1 and first[0] & 15 == 8 and int.from_bytes(first[:2], "big") % 31 == 0 else _RAW_FORMAT
    if first and (_begins_in_zlib(first) if form == _ZLIB_FORMAT else _is_raw(first)):
        yield from _through(zlib.decompressobj(form), first, blocks, "deflate")
        return
    yield first
    yield from blocks


def _begins_in_zlib(first: bytes) -> bool:
    """Whether a zlib header is followed by compressed data: one plain text in 31 that begins with h or x has such a header."""
    try:
        zlib.decompressobj(_ZLIB_FORMAT).decompress(first, 64)
    except zlib.error:
        return False
    return True


def _is_raw(first: bytes) -> bool:
    """Whether all these bytes decode as deflate without a header. The beginning of a short text may do so by chance."""
    decoder = zlib.decompressobj(_RAW_FORMAT)
    try:
        decoder.decompress(first, OUTPUT_BYTES)
    except zlib.error:
        return False
    return decoder.eof or len(first) >= _PROBE_BYTES


def _beginning(blocks: Iterator[bytes], length: int) -> bytes:
    """Join the first blocks to at least ``length`` bytes, or to all that there are."""
    found = b""
    while len(found) < length and (block := next(blocks, None)) is not None:
        found += block
    return found


def _through(decoder: zlib._Decompress, first: bytes, blocks: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """Yield the decoder's output until the compressed data ends.

    Raises:
        BrokenCoding: the blocks end before that, or are not valid input.
    """
    block = first
    try:
        while True:
            output = decoder.decompress(block, OUTPUT_BYTES)
            if output:
                yield output
            if decoder.eof:
                return
            block = decoder.unconsumed_tail
            # A full output may be only a part of what the input gives.
            if not block and len(output) < OUTPUT_BYTES:
                block = next(blocks, b"")
                if not block:
                    raise BrokenCoding(coding)
    except zlib.error:
        raise BrokenCoding(coding) from None
