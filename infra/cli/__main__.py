"""Entry point of ``lex-ingest`` and ``python -m infra.cli``: Ctrl-C ends the process without a traceback even during imports."""

from __future__ import annotations

import gc
import os
import signal

# New objects after which Python runs the garbage collector. Python's default of 700 costs a search a seventh of its import time,
# and a command makes little garbage.
_GC_THRESHOLD = 50_000


def main() -> None:
    gc.set_threshold(_GC_THRESHOLD)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from infra.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
