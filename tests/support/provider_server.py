"""The test provider as a process of its own: ``python -m tests.support.provider_server --port 0 --latency 0.2``.

It prints its port and serves until SIGTERM or SIGINT. Each field of Behaviour is an option (``--requests-per-minute 60
--chances '{"cut": 0.05}'``): JSON, or text as it is. Control over HTTP, beside ``/v1/embeddings``:

    GET  /stats                  counts (``provider_counts``), the process' CPU seconds, its clock
    GET  /texts[?at_least=2]     sha256 of each text -> how many times it was billed
    GET  /requests               each billed request: time, model, digests, tokens, outcome
    POST /faults  {field: value} change fields of Behaviour
    POST /reset[?counts_only]    forget the counts; and behave as at the start
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

from tests.support.provider_behaviour import Behaviour
from tests.support.provider_core import Core
from tests.support.provider_http import Server

ROOT = Path(__file__).parents[2]


def arguments(behaviour: dict[str, Any]) -> list[str]:
    """The options that give a process this behaviour."""
    return [part for name, value in behaviour.items() for part in (f"--{name.replace('_', '-')}", _json(value))]


def _json(value: Any) -> str:
    """Faults may be given as such."""
    return json.dumps(value, default=asdict)


def read_arguments(given: list[str]) -> tuple[int, Behaviour]:
    parser = argparse.ArgumentParser(prog="python -m tests.support.provider_server", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    for item in fields(Behaviour):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=_value, default=argparse.SUPPRESS)
    values = vars(parser.parse_args(given))
    port = values.pop("port")
    try:
        return port, Behaviour().changed(values)
    except ValueError as error:
        parser.error(str(error))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


async def serve(port: int, behaviour: Behaviour) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server = Server(Core(behaviour))
    print(await server.start(port), flush=True)  # noqa: T201 - whoever started it reads the port
    await stopped.wait()
    await server.stop()


class ProviderProcess:
    """Starts the process, and controls it. The keywords are fields of Behaviour."""

    def __init__(self, port: int = 0, **behaviour: Any) -> None:
        command = [sys.executable, "-m", "tests.support.provider_server", "--port", str(port), *arguments(behaviour)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the provider ended with {self.process.wait()}: {command}")
        self.port = int(line)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else _json(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(json.load(error)["error"]) from None

    def stats(self) -> dict[str, Any]:
        return cast(dict[str, Any], self._ask("GET", "/stats"))

    def texts(self, at_least: int = 1) -> dict[str, int]:
        return cast(dict[str, int], self._ask("GET", f"/texts?at_least={at_least}"))

    def requests(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], self._ask("GET", "/requests"))

    def behave(self, **values: Any) -> None:
        """Change fields of its Behaviour, from the next request on.

        Raises:
            ValueError: there is no such field, or a value can't be.
        """
        self._ask("POST", "/faults", values)

    def reset(self, counts_only: bool = False) -> None:
        self._ask("POST", "/reset?counts_only" if counts_only else "/reset")

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=10)

    def __enter__(self) -> ProviderProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if __name__ == "__main__":
    asyncio.run(serve(*read_arguments(sys.argv[1:])))
