"""A TCP relay in front of a service, which can refuse what a real service would refuse while it is down."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.valkey import free_port


class Relay:
    """Passes connections on to ``target``, a port of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.port = free_port()
        self._listen()

    @contextmanager
    def refused(self) -> Iterator[None]:
        """Every connection is ended, and new ones are refused."""
        self.close()
        yield
        self._listen()

    def close(self) -> None:
        if self._listener is not None:
            self._end(self._listener)
            self._listener = None
        while self._open:
            self._end(self._open.pop())

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        self._end(target)

    def _end(self, end: socket.socket) -> None:
        # shutdown wakes the thread that waits in accept or recv; close alone would not.
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
