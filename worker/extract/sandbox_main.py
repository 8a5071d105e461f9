"""Starts the sandbox's server. A module of its own, because it must do something before anything else is imported.

Modules register functions for a fork: ``threading`` and ``logging`` make new locks, ``random`` takes a new seed. The server has
one thread, so its children need none of it, and would touch some 150 pages of memory that are not theirs yet: a tenth of the
CPU of a small document.
"""

from __future__ import annotations

import os


def main() -> None:
    """Serve one worker until it goes."""
    # What is registered can't be taken back.
    os.register_at_fork = _forget
    from worker.extract import sandbox_server

    sandbox_server.main()


def _forget(**_functions: object) -> None:
    """Register nothing."""


if __name__ == "__main__":
    main()
