"""How many chunks an inserted paragraph changes, how full chunks are, and how fast they are made.

Run it: ``python -m tests.benchmarks.chunk_stability [insertions of each shape] [folder of documents]``. A changed chunk is
one whose text stood in no chunk before: it would be embedded anew. Pages are of 40 lines of 80 characters.

A PDF of 100 pages is drawn besides, with and without a paragraph on its first page that makes all others reflow, and read through
the real sandbox: at most 5% of its chunks should change. Exit code 1 if what a chunk says of its pages is not what they print.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pypdfium2

from tests.support.edited_texts import LINE_WIDTH, PAGE_LINES, SHAPES, changed, paginated, paragraph, text_of, with_a_paragraph
from tests.support.pdfs import book
from worker import telemetry
from worker.domain.chunking import chunk
from worker.domain.errors import IngestError
from worker.domain.text import BLOCK_SEPARATOR, Reading, assemble
from worker.extract.sandbox import Sandbox
from worker.services.extraction import order_for
from worker.settings import Settings

PAGE = PAGE_LINES * LINE_WIDTH
PDF_PAGES, PDF_GOAL = 100, 0.05
# What reportlab prints on such a page in letters of 10 points.
_PDF_PAGE = 4600


def insertions(shape: str, times: int, pages: int, within: int) -> tuple[Counter[int], float]:
    """How often how many chunks changed, and the mean length of a chunk."""
    counts: Counter[int] = Counter()
    lengths: list[int] = []
    for seed in range(times):
        chance = random.Random(f"{shape} {seed}")
        blocks = text_of(shape, chance, pages * PAGE)
        before = chunk(assemble(tuple(blocks)))
        after = chunk(assemble(tuple(with_a_paragraph(blocks, shape, chance, within))))
        counts[changed(before, after)] += 1
        lengths += [len(piece.text) for piece in before]
    return counts, sum(lengths) / len(lengths)


def reflow(shape: str, seed: int, cut: bool) -> tuple[int, int]:
    """(changed chunks, all chunks) of 100 pages that are paginated anew after an insertion on the first."""
    chance = random.Random(f"{shape} {seed}")
    blocks = text_of(shape, chance, 100 * PAGE)
    after = chunk(assemble(paginated(with_a_paragraph(blocks, shape, chance, PAGE), cut)))
    return changed(chunk(assemble(paginated(blocks, cut))), after), len(after)


def reflowing_pdf(seed: int) -> tuple[int, int, int, list[str]]:
    """(changed chunks, all chunks, pages) of a PDF after an insertion on its first page, and what its chunks say wrongly."""
    chance = random.Random(f"pdf {seed}")
    paragraphs: list[str] = []
    while sum(map(len, paragraphs)) < PDF_PAGES * _PDF_PAGE:
        paragraphs.append(paragraph(chance, chance.randint(100, 1200)))
    longer = [paragraphs[0], paragraph(chance, 800), *paragraphs[1:]]
    with Sandbox() as sandbox:
        (before, wrong), (after, wrong_later) = (_read(sandbox, book(texts)) for texts in (paragraphs, longer))
    texts = [Counter(reading.text[start:end] for _, _, start, end in reading.spans) for reading in (before, after)]
    return (texts[1] - texts[0]).total(), len(after.spans), after.page_count or 0, wrong + wrong_later


def _read(sandbox: Sandbox, data: bytes) -> tuple[Reading, list[str]]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        reading = sandbox.read(Path(f"/dev/fd/{file.fileno()}"), order_for("book.pdf", len(data), Settings()))
    return reading, list(_wrong_places(reading, data))


def _wrong_places(reading: Reading, data: bytes) -> Iterator[str]:
    """Each chunk, page by page, against what pdfium alone finds printed on that page; only where white space is may differ."""
    with pypdfium2.PdfDocument(data) as document:
        printed = ["".join(page.get_textpage().get_text_range().split()) for page in document]
    for number, (first, last, begin, stop) in enumerate(reading.spans):
        pages = []
        for section in reading.sections:
            start, end = max(begin, section.char_start), min(stop, section.char_end)
            if start >= end or section.page is None or reading.text[start:end].isspace():
                continue
            pages.append(section.page)
            # Paragraph by paragraph: the file may draw headers and footers in front of the text.
            for text in reading.text[start:end].split(BLOCK_SEPARATOR):
                if "".join(text.split()) not in printed[section.page - 1]:
                    yield f"chunk {number}: {len(text)} characters of the section from {start} on are not on page {section.page}"
        if (first, last) != (min(pages), max(pages)):
            yield f"chunk {number} says pages {first} to {last}, and is on {min(pages)} to {max(pages)}"


def main(times: int = 100, folder: str | None = None) -> int:
    telemetry.configure("WARNING")
    for title, within in (("on the first page", PAGE), ("anywhere", 12 * PAGE)):
        total: Counter[int] = Counter()
        sys.stdout.write(f"a paragraph inserted {title} of 12: how often so many chunks changed\n")
        for shape in SHAPES:
            counts, length = insertions(shape, times, 12, within)
            total += counts
            sys.stdout.write(f"  {shape:26} mean length {length:5.0f}  {dict(sorted(counts.items()))}\n")
        over = sum(many for changes, many in total.items() if changes > 3)
        sys.stdout.write(f"  {dict(sorted(total.items()))}, more than 3: {over / total.total():.2%}\n")
    for title, cut in (("paragraphs whole", False), ("paragraphs cut at page ends", True)):
        for shape in ("prose", "paragraphs of 50 to 3200", "headings"):
            runs = [reflow(shape, seed, cut) for seed in range(max(1, times // 10))]
            most, of = max(runs)
            mean = sum(few for few, _ in runs) / len(runs)
            sys.stdout.write(f"100 pages reflow, {title}, {shape}: mean {mean:.1f}, most {most} of {of} chunks\n")
    for shape in SHAPES:
        document = assemble(tuple(text_of(shape, random.Random(1), 1_000_000)))
        begun = time.process_time()
        chunk(document)
        sys.stdout.write(f"{time.process_time() - begun:6.2f} s CPU for a million characters: {shape}\n")
    if folder:
        sys.stdout.write(_documents(Path(folder)))
    return _pdfs(max(1, times // 25))


def _pdfs(times: int) -> int:
    shares: list[float] = []
    wrong = 0
    for seed in range(times):
        few, of, pages, places = reflowing_pdf(seed)
        shares.append(few / of)
        wrong += len(places)
        sys.stdout.write(
            f"a PDF of {pages} pages reflows: {few} of {of} chunks changed, {few / of:.1%}; wrong places: {len(places)}\n"
        )
        sys.stdout.writelines(f"  {place}\n" for place in places[:5])
    sys.stdout.write(f"mean {sum(shares) / times:.1%}, most {max(shares):.1%} (at most {PDF_GOAL:.0%} wanted)\n")
    return int(wrong > 0)


def _documents(folder: Path) -> str:
    from worker.extract.blocks import Limits
    from worker.extract.registry import extract

    documents = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            documents.append(assemble(extract(path, path.name, Limits()).blocks))
        except IngestError as error:
            sys.stdout.write(f"  {path.name}: {error.code}\n")
    pieces = [piece for document in documents for piece in chunk(document)]
    return (
        f"{len(documents)} documents: {len(pieces)} chunks, mean {sum(len(piece.text) for piece in pieces) / len(pieces):.0f}\n"
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, sys.argv[2] if len(sys.argv) > 2 else None))
