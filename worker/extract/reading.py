"""From a file to what is stored of it: text, sections, and where the chunks are. Runs in the sandbox's child.

Chunks are cut here and not in the worker: a text of any length then costs the worker its own length, and the time is the child's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worker.domain.chunking import chunk
from worker.domain.text import Reading, assemble
from worker.extract import registry
from worker.extract.blocks import Limits

# A reader that sleeps, or gets hardly any CPU on a busy machine, is ended after this many times its CPU limit of wall time. That
# must come before Celery ends the task, after 25 minutes (worker.celery_config).
WALL_FACTOR, LONGEST_WALL = 4, 23 * 60.0


def wall_timeout(cpu_seconds: float) -> float:
    """The limit of wall time that goes with a limit of CPU time, both in seconds."""
    return min(WALL_FACTOR * cpu_seconds, LONGEST_WALL)


@dataclass(frozen=True, slots=True)
class Order:
    """How to read one file: a hint at its name, what it may cost, how to cut it.

    ``timeout`` is in seconds of CPU time; ``wall_timeout`` gives the limit of wall time. ``memory`` is in bytes of address
    space beside what the server has, sizes are in characters.
    """

    name: str
    timeout: float
    memory: int
    max_text_chars: int
    chunk_size: int
    chunk_overlap: int
    pdf_engine: str = "auto"


def read(path: Path, order: Order, formats: Iterable[registry.Format] = registry.FORMATS) -> Reading:
    """Read a file in this process, whatever it does to it.

    Raises:
        PermanentError: each failure, typed (``registry.extract``).
    """
    extraction = registry.extract(path, order.name, Limits(order.max_text_chars, pdf_engine=order.pdf_engine), formats)
    document = assemble(extraction.blocks)
    pieces = chunk(document, order.chunk_size, order.chunk_overlap)
    return Reading(
        document.text,
        document.sections,
        tuple((piece.page_start, piece.page_end, piece.char_start, piece.char_end) for piece in pieces),
        extraction.media_type,
        extraction.extractor,
        extraction.title,
        extraction.page_count,
        extraction.warnings,
        extraction.metadata,
    )
