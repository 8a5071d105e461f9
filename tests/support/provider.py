"""The embedding provider of the tests: a real HTTP server that speaks OpenAI's API, with faults on demand, in a thread.

``tests.support.provider_server`` is the same as a process of its own, so that a benchmark's CPU is the client's alone.
What it answers is decided in ``provider_core``; what can be set, ``provider_behaviour`` lists.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

from tests.support.provider_behaviour import Behaviour
from tests.support.provider_core import Core
from tests.support.provider_http import Server
from tests.support.provider_vectors import vector_of

__all__ = ["Provider", "vector_of"]


class Provider:
    """``failures`` are answers to give before it works again: (HTTP status, error code, headers).

    ``delay`` is in seconds, before each answer; ``requests`` are the inputs of each request that was worked on. More can be
    set by ``behave``. The keywords are fields of Behaviour; ``reset`` goes back to them.
    """

    def __init__(self, dimensions: int = 384, delay: float = 0.0, port: int = 0, **behaviour: Any) -> None:
        self.requests: list[list[str]] = []
        self.core = Core(Behaviour(dimensions=dimensions, latency=delay).changed(behaviour), self.requests)
        self.failures = self.core.failures
        self._loop = asyncio.new_event_loop()
        self._server = Server(self.core)
        self._thread = threading.Thread(target=self._loop.run_forever, name="provider", daemon=True)
        self._thread.start()
        self.port = self._wait(self._server.start(port))

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def dimensions(self) -> int:
        return self.core.behaviour.dimensions

    @dimensions.setter
    def dimensions(self, value: int) -> None:
        self.behave(dimensions=value)

    @property
    def delay(self) -> float:
        return self.core.behaviour.latency

    @delay.setter
    def delay(self, seconds: float) -> None:
        self.behave(latency=seconds)

    def behave(self, **values: Any) -> None:
        """Change fields of its Behaviour, from the next request on."""
        self._wait(self._in_loop(lambda: self.core.change(values)))

    def stats(self) -> dict[str, Any]:
        """What it has counted, as ``GET /stats`` gives it."""
        found: dict[str, Any] = self._wait(self._in_loop(self.core.counts_as_json))
        return found

    @staticmethod
    async def _in_loop(call: Any) -> Any:
        # The loop's thread counts and answers: there nothing changes in between.
        return call()

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        """What a request with this body gets, without HTTP: status, JSON, headers. Counted as one that came by HTTP is.

        The server does not come by here: to change its answers use ``behave``.
        """
        reply = self.core.handle("POST", "/v1/embeddings", "", json.dumps(body).encode(), time.monotonic(), time.time())
        reply.ended(delivered=True)
        return reply.status, json.loads(reply.payload), reply.headers

    def reset(self) -> None:
        """Forget the requests and the counts, and behave as at the start."""
        self._wait(self._in_loop(self.core.reset))

    def close(self) -> None:
        self._wait(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
