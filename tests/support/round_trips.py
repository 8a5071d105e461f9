"""A proxy that counts what a client waits for."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field


@dataclass
class CountingProxy:
    """Stands between a client and PostgreSQL and counts how often the client spoke after the server had answered."""

    target: tuple[str, int]
    round_trips: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _sockets: list[socket.socket] = field(default_factory=list)
    _server_spoke: bool = True

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in [self._listener, *self._sockets]:
            one.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        server = socket.create_connection(self.target)
        self._sockets += [client, server]
        threading.Thread(target=self._copy, args=(client, server, True), daemon=True).start()
        self._copy(server, client, False)

    def _copy(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        try:
            while data := source.recv(65536):
                if from_client and self._server_spoke:
                    self.round_trips += 1
                self._server_spoke = not from_client
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
