"""Reads a PDF of its own making, so that the sandbox's server has done once what each child would do again.

Python adapts code in its first calls and remembers where it found attributes, and a child takes both to its end. Measured on
twelve PDFs of eight pages: 3.5 % of the CPU of reading them. Other formats share a part of that code.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from string import ascii_uppercase

from worker.domain.errors import PermanentError
from worker.extract.reading import Order, read
from worker.extract.sandbox_wire import encode_result

# Python adapts a function's code after its eighth call, and a loop's after as many turns.
_PAGES = 10
_ORDER = Order("warm-up.pdf", timeout=60, memory=0, max_text_chars=1_000_000, chunk_size=4000, chunk_overlap=400)
_SENTENCE = "nes in most documents (of words, as here). A sentence begins, and one more. Hyphens are met at the ends of li-"


def warm_up() -> None:
    """Read the file, and encode the answer; without an effect that anybody sees. A failure costs only the time saved."""
    with contextlib.suppress(PermanentError, OSError):
        descriptor = os.memfd_create("warm-up.pdf")
        try:
            os.write(descriptor, document())
            encode_result(read(Path(f"/proc/self/fd/{descriptor}"), _ORDER))
        finally:
            os.close(descriptor)


def document() -> bytes:
    """A small PDF of plain text: a running header, page numbers, a heading, paragraphs that end in the middle of a page."""
    pages = range(_PAGES)
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{' '.join(f'{4 + 2 * page} 0 R' for page in pages)}]/Count {_PAGES}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for page in pages:
        content = _content(page + 1)
        objects += [
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 3 0 R>>>>/Contents {5 + 2 * page} 0 R>>",
            f"<</Length {len(content)}>>stream\n{content}\nendstream",
        ]
    written, places = "%PDF-1.4\n", []
    for number, item in enumerate(objects, 1):
        places.append(len(written))
        written += f"{number} 0 obj\n{item}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    trailer = f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(written)}\n%%EOF"
    return f"{written}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode("ascii")


def _content(number: int) -> str:
    sentence = _SENTENCE.replace("(", r"\(").replace(")", r"\)")
    lines = "".join(f"({sentence}) Tj T* {'T* ' if line % 7 == 6 else ''}" for line in range(30))
    return (
        f"BT /F 9 Tf 72 760 Td 14 TL (A running header) Tj T* T* /F 18 Tf (Part {ascii_uppercase[number]} of it) Tj T* T* "
        f"/F 10 Tf {lines}ET BT /F 9 Tf 300 30 Td ({number}) Tj ET"
    )
