"""Every file of a corpus through the real extractor: sandbox, sniffing, parsers, chunker. ``make corpus DIR=…``.

The folder has a ``manifest.csv`` with the columns ``file``, ``expected`` and ``words``: ``contain`` (every word must be in the
text), ``no-text``, ``refuse:<why>``, ``terminal`` (any typed end, quickly). Prints a table by format and expectation, what was
missed, and the slowest file. Exit code 1 if a format has fewer than 98% of its ``contain`` files whole, a refusal has no typed
reason, a file has no end, or a parser's server died. (A chunk is stored as a range of the text: it can't be wrong.)
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worker import telemetry
from worker.domain.errors import PermanentError, TransientError, Unavailable
from worker.extract.sandbox import Sandbox
from worker.services.extraction import order_for
from worker.settings import Settings

BAR = 0.98
BARS: Mapping[str, float] = {}
# Refusals for which more than one code is right: a damaged file may be damaged so early that it has no text.
_CODES = {"encrypted": {"encrypted"}, "damaged": {"damaged", "empty", "needs_ocr", "type_mismatch", "unsupported_type"}}


@dataclass(frozen=True)
class Expectation:
    """One line of the manifest."""

    file: str
    expected: str
    words: tuple[str, ...]

    @property
    def format(self) -> str:
        suffix = Path(self.file).suffix.lower().lstrip(".")
        return {"htm": "html", "md": "text", "txt": "text"}.get(suffix, suffix)


@dataclass
class Outcome:
    """How one file ended. ``code`` is None for a success, and ``transient`` for what would be tried again."""

    code: str | None
    seconds: float
    missing: tuple[str, ...] = ()
    chunks: int = 0


@dataclass
class Corpus:
    """The files of a folder and what became of them."""

    folder: Path
    outcomes: dict[Expectation, Outcome] = field(default_factory=dict)
    deaths: int = 0

    def expectations(self) -> Iterator[Expectation]:
        with (self.folder / "manifest.csv").open(newline="", encoding="utf-8") as manifest:
            for row in csv.DictReader(manifest):
                yield Expectation(row["file"], row["expected"], tuple(row["words"].split()))

    def run(self, progress: bool) -> None:
        settings = Settings()
        wanted = sorted(self.expectations(), key=lambda item: item.file)
        servers = set()
        with Sandbox() as sandbox:
            for number, item in enumerate(wanted, 1):
                self.outcomes[item] = read(sandbox, self.folder / item.file, item.words, settings)
                server = sandbox._server
                servers.add(server.process.pid if server else None)
                if progress:
                    sys.stderr.write(f"\r{number}/{len(wanted)} {item.file[:80]:<80}")
        self.deaths = len(servers) - 1

    def good(self, item: Expectation) -> bool:
        outcome = self.outcomes[item]
        if outcome.code == "transient":
            return False
        expected, _, why = item.expected.partition(":")
        if expected == "contain":
            return outcome.code is None and not outcome.missing
        if expected == "refuse":
            return outcome.code is not None and outcome.code in _CODES.get(why, {outcome.code})
        return expected == "terminal" or outcome.code is not None

    def violations(self, bars: Mapping[str, float] = BARS) -> list[str]:
        """What does not hold, a line each. ``bars`` says of a format which share of its files must be whole, else ``BAR``."""
        found = [f"{self.deaths} deaths of the parsers' server"] if self.deaths else []
        shares: dict[str, list[bool]] = defaultdict(list)
        for item in self.outcomes:
            if item.expected == "contain":
                shares[item.format].append(self.good(item))
            elif not self.good(item):
                found.append(f"{item.file}: expected {item.expected}, and ended {self.outcomes[item].code or 'with text'}")
        for name, good in shares.items():
            bar = bars.get(name, BAR)
            if sum(good) < bar * len(good):
                found.append(f"{name}: all words in {sum(good)} of {len(good)} files, less than {bar:.0%}")
        return found

    def table(self) -> Iterator[str]:
        yield f"{'format':<8} {'expected':<18} {'files':>5} {'as expected':>12}   ended"
        groups: dict[tuple[str, str], list[Expectation]] = defaultdict(list)
        for item in self.outcomes:
            groups[item.format, item.expected].append(item)
        for (name, expected), items in sorted(groups.items()):
            good = sum(map(self.good, items))
            ends = Counter(self.outcomes[item].code or "text" for item in items)
            share = f"{good} ({good / len(items):.1%})"
            yield f"{name:<8} {expected:<18} {len(items):>5} {share:>12}   {', '.join(f'{k} {n}' for k, n in ends.most_common())}"
        for item, outcome in self.outcomes.items():
            if not self.good(item):
                what = f"lacks {len(outcome.missing)} of {len(item.words)} words: {' '.join(outcome.missing[:5])}"
                yield f"  missed: {item.file}: {what if outcome.missing else outcome.code or 'has text'}"
        slowest = max(self.outcomes, key=lambda item: self.outcomes[item].seconds)
        chunks = sum(outcome.chunks for outcome in self.outcomes.values())
        total = sum(outcome.seconds for outcome in self.outcomes.values())
        yield f"{len(self.outcomes)} files, {chunks} chunks, {total:.1f} s; server deaths: {self.deaths}"
        yield f"slowest: {self.outcomes[slowest].seconds:.2f} s {slowest.file}"


def fold(text: str) -> str:
    """For comparing: compatibility forms, case and white space aside."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read(sandbox: Sandbox, path: Path, words: tuple[str, ...], settings: Settings) -> Outcome:
    """One file, under the limits that a worker has by default."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as copy:
        copy.write(path.read_bytes())
        copy.flush()
        try:
            reading = sandbox.read(Path(f"/dev/fd/{copy.fileno()}"), order_for(path.name, path.stat().st_size, settings))
        except PermanentError as error:
            return Outcome(error.code, time.monotonic() - started)
        except Unavailable:
            raise  # the sandbox can't be started: there is nothing to say of files
        except TransientError:
            return Outcome("transient", time.monotonic() - started)
    text = fold(reading.text)
    missing = tuple(word for word in words if fold(word) not in text)
    return Outcome(None, time.monotonic() - started, missing, len(reading.spans))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make corpus DIR=", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    if not (folder / "manifest.csv").is_file():
        parser.exit(2, f"{folder} has no manifest.csv\n")
    telemetry.configure("WARNING")
    corpus = Corpus(folder)
    corpus.run(progress=sys.stderr.isatty())
    print("\n".join(corpus.table()))  # noqa: T201 - this is a command
    found = corpus.violations()
    for violation in found:
        print(f"VIOLATION {violation}")  # noqa: T201 - the same
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
