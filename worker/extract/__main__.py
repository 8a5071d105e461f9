"""``python -m worker.extract FILE...``: print what is read from each file as JSON lines, for whoever adds a format.

Reads in this process, without the sandbox: for files that you trust.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from worker.domain.errors import PermanentError
from worker.extract.blocks import Limits
from worker.extract.registry import extract


def main(names: list[str]) -> int:
    """Print one line a block, then one line about the file; exit code 1 if a file was refused."""
    refused = False
    for name in names:
        try:
            extraction = extract(Path(name), name, Limits())
        except PermanentError as error:
            refused = True
            print(json.dumps({"file": name, "error": type(error).__name__, "code": error.code, "message": error.message}))  # noqa: T201 (printing is what the command does)
            continue
        for block in extraction.blocks:
            print(json.dumps({"file": name, **dataclasses.asdict(block)}, ensure_ascii=False))  # noqa: T201 (printing is what the command does)
        summary = dataclasses.asdict(dataclasses.replace(extraction, blocks=()))
        print(json.dumps({"file": name, **summary, "blocks": len(extraction.blocks)}, ensure_ascii=False))  # noqa: T201 (printing is what the command does)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
