"""CPU of reading PDFs: ours as a worker does it, against pdfminer.six alone. ``python -m tests.benchmarks.pdf_cpu FOLDER``.

Ours: the worker's part, the sandbox's child and its server with the forks (its start aside), so sniffing, both engines, chunks.
pdfminer: ``extract_text`` with ``boxes_flow=None``.
Prints both figures in seconds and the ratio, measured one after the other on each file in one run.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time
from pathlib import Path

from pdfminer.high_level import extract_text
from pdfminer.layout import LAParams

import worker.extract.sandbox
from worker import telemetry
from worker.domain.errors import PermanentError
from worker.extract.sandbox import Sandbox
from worker.services.extraction import order_for
from worker.settings import Settings


def own() -> float:
    """Seconds of CPU that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def of_server(sandbox: Sandbox) -> float:
    """Seconds of CPU that the sandbox's server has used, its children aside; to the nanosecond, where ``stat`` has ticks."""
    server = sandbox._server
    return int(Path(f"/proc/{server.process.pid}/schedstat").read_text().split()[0]) / 1e9 if server else 0.0


def ours(sandbox: Sandbox, path: Path) -> float:
    """This process' part, that of the server, and that of the child, as the server says it."""
    children: list[float] = []
    verdict = worker.extract.sandbox._verdict

    def noted(answer: bytes, reply: dict[str, float], order: object) -> object:
        children.append(reply["cpu"])
        return verdict(answer, reply, order)  # type: ignore[arg-type]  # handed through

    worker.extract.sandbox._verdict = noted  # type: ignore[assignment]  # to see what the server told
    before, server = own(), of_server(sandbox)
    try:
        sandbox.read(path, order_for(path.name, path.stat().st_size, Settings()))
    except PermanentError as error:
        sys.stderr.write(f"{path.name}: {error.code}\n")
    finally:
        worker.extract.sandbox._verdict = verdict
    return own() - before + of_server(sandbox) - server + sum(children)


def theirs(path: Path) -> float:
    before = own()
    extract_text(str(path), laparams=LAParams(boxes_flow=None))
    return own() - before


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pdf_cpu", description=__doc__)
    parser.add_argument("folder", type=Path)
    files = sorted(parser.parse_args(arguments).folder.rglob("*.pdf"))
    telemetry.configure("WARNING")
    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)
    sums = [0.0, 0.0]
    started = time.monotonic()
    with Sandbox() as sandbox:
        ours(sandbox, files[0])
        for path in files:
            figures = ours(sandbox, path), theirs(path)
            sums = [total + figure for total, figure in zip(sums, figures, strict=True)]
            print(f"{figures[0]:8.3f} s {figures[1]:8.3f} s  1/{figures[1] / figures[0]:.1f}  {path.name}")  # noqa: T201 - a command
    seconds = time.monotonic() - started
    print(f"{sums[0]:8.3f} s {sums[1]:8.3f} s  1/{sums[1] / sums[0]:.1f}  {len(files)} files, {seconds:.0f} s")  # noqa: T201 - the same
    return 0


if __name__ == "__main__":
    sys.exit(main())
