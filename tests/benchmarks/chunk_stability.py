"""How many chunks an inserted paragraph changes, how full chunks are, and how fast they are made.

Run it: ``python -m tests.benchmarks.chunk_stability [insertions of each shape] [folder of documents]``. A changed chunk is
one whose text stood in no chunk before: it would be embedded anew. Pages are of 40 lines of 80 characters.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path

from tests.support.edited_texts import LINE_WIDTH, PAGE_LINES, SHAPES, changed, paginated, text_of, with_a_paragraph
from worker.domain.chunking import chunk
from worker.domain.errors import IngestError
from worker.domain.text import assemble

PAGE = PAGE_LINES * LINE_WIDTH


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


def main(times: int = 100, folder: str | None = None) -> int:
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
    return 0


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
