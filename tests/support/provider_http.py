"""The test provider's sockets: HTTP/1.1 by asyncio, the ways to spoil an answer on its way, and control over HTTP.

One thread serves all connections: measured, a client's requests cost it a fraction of what a thread each cost.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.provider_core import JSON, Core, Reply
from tests.support.provider_faults import Kind

_PIECES = 20
_RESET = struct.pack("ii", 1, 0)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def head(status: int, content_type: str, length: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}", f"content-type: {content_type}", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def control(core: Core, method: str, target: str, body: bytes) -> tuple[int, Any] | None:
    """The answer to a request that is about the server itself, or None."""
    url = urlsplit(target)
    query = parse_qs(url.query, keep_blank_values=True)
    match method, url.path:
        case "GET", "/stats":
            return 200, {**core.counts_as_json(), "cpu_seconds": time.process_time(), "now": time.monotonic()}
        case "GET", "/texts":
            return 200, core.counts.texts_as_json(int(query.get("at_least", ["1"])[0]))
        case "GET", "/requests":
            return 200, core.counts.requests_as_json()
        case "POST", "/reset":
            core.reset(counts_only="counts_only" in query)
            return 200, {}
        case "POST", "/faults":
            try:
                core.change(json.loads(body))
            except (ValueError, TypeError) as error:
                return 400, {"error": str(error)}
            return 200, {}
    return None


class Connection(asyncio.Protocol):
    """One client's connection: one request at a time, as long as it likes."""

    def __init__(self, core: Core, open_ones: set[Connection]) -> None:
        self._core = core
        self._open = open_ones
        self._buffer = bytearray()
        self._reply: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # An answer is delivered when the kernel has all of it: ``resume_writing`` tells.
        transport.set_write_buffer_limits(high=0)
        self._open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)
        self._end(delivered=False)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def resume_writing(self) -> None:
        if self._reply is not None and self._timer is None:
            self._end(delivered=True)
            self._next()

    def _next(self) -> None:
        """Take the next request out of the buffer, if it is whole and the last one is answered."""
        while self._reply is None and not self.transport.is_closing():
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(fields.get("content-length", 0))
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            method, target, _ = first.split(" ", 2)
            self._handle(method, target, fields.get("authorization", "").removeprefix("Bearer "), body)

    def _handle(self, method: str, target: str, key: str, body: bytes) -> None:
        answer = control(self._core, method, target, body)
        if answer is not None:
            payload = json.dumps(answer[1]).encode()
            self.transport.write(head(answer[0], JSON, len(payload), {}) + payload)
            return
        self._reply = self._core.handle(method, target, key, body, time.monotonic(), time.time())
        if self._reply.delay > 0:
            self._later(self._reply.delay, self._send)
        else:
            self._send()

    def _later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        def run() -> None:
            self._timer = None
            call(*arguments)
            # What came meanwhile is taken up once the answer is away.
            self._next()

        self._timer = asyncio.get_running_loop().call_later(seconds, run)

    def _send(self) -> None:
        reply = self._reply
        assert reply is not None
        match reply.kind:
            case Kind.CLOSED:
                self.transport.close()
                return
            case Kind.RESET | Kind.LOST:
                self._cut()
                return
        whole = head(reply.status, reply.content_type, len(reply.payload), reply.headers) + reply.payload
        match reply.kind:
            case Kind.CUT:
                self.transport.write(whole[: len(whole) - len(reply.payload) // 2 - 1])
                # The client has the beginning before the reset arrives.
                self._later(0.02, self._cut)
            case Kind.SLOW:
                self._trickle(whole, max(1, -(-len(whole) // _PIECES)), reply.seconds / _PIECES)
            case _:
                self._write_last(whole)

    def _trickle(self, rest: bytes, size: int, pause: float) -> None:
        if len(rest) <= size:
            self._write_last(rest)
            return
        self.transport.write(rest[:size])
        self._later(pause, self._trickle, rest[size:], size, pause)

    def _write_last(self, data: bytes) -> None:
        self.transport.write(data)
        if not self.transport.is_closing() and self.transport.get_write_buffer_size() == 0:
            self._end(delivered=True)

    def _cut(self) -> None:
        """Reset: closing a socket that does not linger sends RST and throws away what was not sent."""
        connected: socket.socket = self.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _end(self, delivered: bool) -> None:
        reply, self._reply = self._reply, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if reply is not None:
            reply.ended(delivered)


class Server:
    """A core behind a port of 127.0.0.1, within a running loop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._open: set[Connection] = set()

    async def start(self, port: int = 0) -> int:
        """Listen, and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._core, self._open), "127.0.0.1", port, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        for connection in list(self._open):
            connection.transport.abort()
        # A transport tells its protocol, and closes its socket, in the loop's next turn.
        while self._open:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
