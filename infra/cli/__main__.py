"""Where ``lex-ingest`` (and ``python -m infra.cli``) begins: Ctrl-C ends it quietly already while its modules are imported."""

from __future__ import annotations

import os
import signal


def main() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from infra.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
