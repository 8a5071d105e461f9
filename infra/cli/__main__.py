"""Where ``lex-ingest`` (and ``python -m infra.cli``) begins: Ctrl-C ends it quietly already while its modules are imported."""

from __future__ import annotations

import gc
import os
import signal

# Objects after which Python looks for garbage. With its own 700 that takes a seventh of what importing costs a search, and a
# command makes little garbage.
_GARBAGE_AFTER = 50_000


def main() -> None:
    gc.set_threshold(_GARBAGE_AFTER)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from infra.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
