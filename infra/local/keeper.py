"""Runs supervisord, and again when a signal that nobody meant has ended it: ``python -I -S keeper.py COMMAND…``.

supervisord brings back every part but itself. Where it ends by itself, or as it was told, so does this process, which passes
a SIGTERM on; when this process is killed, supervisord is told by the kernel and stops all. Standard library only.
"""

from __future__ import annotations

import os
import signal
import sys

MEANT = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def main() -> None:
    command, awaited = sys.argv[1:], (signal.SIGTERM, signal.SIGCHLD)
    # Blocked, so that none is missed between a start and the wait for its end.
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    told = False
    while True:
        supervisor = os.posix_spawn(command[0], command, os.environ, setsid=True, setsigmask=())
        ended = status = 0
        while not ended:
            if signal.sigwait(awaited) == signal.SIGTERM:
                told = True
                os.kill(supervisor, signal.SIGTERM)
            ended, status = os.waitpid(supervisor, os.WNOHANG)
        if told or not os.WIFSIGNALED(status) or os.WTERMSIG(status) in MEANT:
            return


if __name__ == "__main__":
    main()
