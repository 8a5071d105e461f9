"""``python -m worker.extract FILE...``: print what is read from each file as JSON lines, for whoever adds a format.

Reads in this process, without the sandbox: for files that you trust. What an extractor did wrong shows with its traceback.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import traceback
from pathlib import Path

from worker.domain.errors import PermanentError
from worker.extract.blocks import Limits
from worker.extract.registry import extract


def main(arguments: list[str] | None = None) -> int:
    """Print one line a block, then one line about the file; exit code 1 if a file was refused or is not there."""
    parser = argparse.ArgumentParser(prog="python -m worker.extract", description=__doc__)
    parser.add_argument("file", nargs="+", type=Path)
    refused = False
    for path in parser.parse_args(arguments).file:
        try:
            extraction = extract(path, path.name, Limits())
        except (PermanentError, OSError) as error:
            refused = True
            code = error.code if isinstance(error, PermanentError) else "not_read"
            _print({"file": str(path), "error": type(error).__name__, "code": code, "message": str(error)})
            if error.__cause__ is not None:
                traceback.print_exception(error.__cause__)
            continue
        for block in extraction.blocks:
            _print({"file": str(path), **dataclasses.asdict(block)})
        summary = dataclasses.asdict(dataclasses.replace(extraction, blocks=()))
        _print({"file": str(path), **summary, "blocks": len(extraction.blocks)})
    return 1 if refused else 0


def _print(record: object) -> None:
    sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    # `| head` closes the pipe early: the process then ends without a traceback, as other tools do.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
