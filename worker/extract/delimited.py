"""CSV and TSV: rows as tables; what doesn't parse as rows is read as plain text.

Standard library csv, which reads quotes and quoted line ends as spreadsheets write them. Its Sniffer is not used: it decides by
characters that repeat, and takes letters for delimiters. Alternatives: clevercsv (tries all dialects on all of the file), pandas
(a whole table in memory, types guessed).

The delimiter is the one of tab, semicolon, bar and comma by which most of the first records have the same number of fields, at
least two; of equals the first in that order (a decimal comma is common beside a semicolon, a semicolon in every row of a comma's
file is not). Fewer than two thirds alike are no table. Quotes are quotes unless the records are more alike without.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from worker.domain.text import Extraction
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.encodings import Decoded, decode
from worker.extract.tables import TableWriter
from worker.extract.text import paragraphs, read_bounded

DELIMITERS = "\t;|,"
# A quote that is never closed makes the rest of the file one field.
MAX_FIELD = 1_000_000
_SAMPLE_CHARS = 65_536
_SAMPLE_RECORDS = 200
_LINES = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+\Z")
# Excel's own hint, on a line of its own before the records.
_HINT = re.compile(r"sep=([^\w\s\"]|\t)(?:\r\n?|\n)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to split records; ``quoted`` says whether a double quote at a field's start encloses it."""

    delimiter: str
    quoted: bool = True

    def records(self, text: str, start: int = 0) -> Iterator[list[str]]:
        """The records of a text from a place on, an empty line as an empty one.

        Raises:
            csv.Error: a field is longer than ``MAX_FIELD``.
        """
        csv.field_size_limit(MAX_FIELD)
        lines = (match[0] for match in _LINES.finditer(text, start))
        # skipinitialspace: a quote behind a delimiter and a space still encloses its field.
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            skipinitialspace=True,
        )


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a file of delimited records; ``a,b`` becomes the line ``a | b``.

    Raises:
        Rejected: ``type_mismatch`` (binary data), ``too_large``.
        NoText: ``empty``.
    """
    decoded = decode(read_bounded(path, limits))
    hint = _HINT.match(decoded.text)
    start = hint.end() if hint else 0
    dialect = Dialect(hint[1]) if hint else find_dialect(decoded.text)
    while dialect is not None:
        try:
            return _tables(decoded, start, dialect, limits)
        except csv.Error:
            dialect = Dialect(dialect.delimiter, quoted=False) if dialect.quoted else None
    return paragraphs(decoded, limits)


def find_dialect(text: str) -> Dialect | None:
    """The dialect of a text by the rule above; None where it is no table."""
    sample = text[:_SAMPLE_CHARS]
    best: tuple[float, Dialect] | None = None
    for quoted in (True, False):
        for delimiter in DELIMITERS:
            dialect = Dialect(delimiter, quoted)
            share = _alike(dialect, sample, cut=len(text) > len(sample))
            if share and (best is None or share > best[0]):
                best = share, dialect
    return best[1] if best else None


def _alike(dialect: Dialect, sample: str, cut: bool) -> float:
    """The share of records that have the most frequent number of fields; 0 where that is no table."""
    try:
        counts = [len(record) for record in islice(dialect.records(sample), _SAMPLE_RECORDS + 1) if record]
    except csv.Error:
        return 0
    # The last record may go on behind the sample.
    counts = counts[:-1] if cut or len(counts) > _SAMPLE_RECORDS else counts
    if len(counts) < 2:
        return 0
    fields, number = Counter(counts).most_common(1)[0]
    return number / len(counts) if fields > 1 and 3 * number >= 2 * len(counts) else 0


def _tables(decoded: Decoded, start: int, dialect: Dialect, limits: Limits) -> Extraction:
    builder = BlockBuilder(limits)
    if decoded.guessed:
        builder.warn(f"the encoding was guessed: {decoded.encoding}")
    table = TableWriter(builder, limits)
    for record in dialect.records(decoded.text, start):
        cells = [(column, text) for column, field in enumerate(record) if (text := " ".join(field.split()))]
        if cells:
            table.add(cells)
        else:
            table.gap()
    table.finish()
    return builder.finish("text/tab-separated-values" if dialect.delimiter == "\t" else "text/csv", "csv")
