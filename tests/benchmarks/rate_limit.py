"""How much of an account's limits four worker processes use together, and how often the provider refuses them.

Run it: ``python -m tests.benchmarks.rate_limit [seconds]``. The provider, a process of its own, has 60 requests and 200,000
tokens a minute, and a minute takes a second. The senders call ``worker.embed.openai.embed``; a Valkey is started for them.
Figures are the provider's: of the time from the first request it took to the last, once the limiter has learned. Where a
bucket holds one second's requests, a minute takes ten: else the processes' own unrest (milliseconds) is as long as that second.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.limited_senders import Job, Senders
from tests.support.provider_server import ProviderProcess
from tests.support.valkey import start_valkey

REQUESTS, TOKENS = 60, 200_000
# How the provider counts: OpenAI's bucket of a minute's limit, a bucket of a second's, fixed minutes, sliding ones.
PROVIDERS: dict[str, dict[str, Any]] = {
    "bucket": {"algorithm": "bucket"},
    "bucket of a second": {"algorithm": "bucket", "burst": 1 / 60, "tokens_per_minute": None, "minute": 10.0},
    "window": {"algorithm": "window"},
    "sliding": {"algorithm": "sliding"},
    "bucket, no header": {"algorithm": "bucket", "headers": "none"},
}
# Texts in a request, characters in a text: many short documents (requests bind), and long ones (tokens bind).
LOADS = {"short": ((1, 4), (500, 4000)), "long": ((2, 16), (3600, 4000)), "full": ((60, 70), (3800, 4000))}


def used(requests: list[dict[str, float]], unit: str, minute: float) -> float:
    """The share of the limit that was used between the first and the last request."""
    span = requests[-1]["at"] - requests[0]["at"]
    limit, amount = (REQUESTS, len(requests) - 1) if unit == "requests" else (TOKENS, sum(r["tokens"] for r in requests[:-1]))
    return amount / (limit * span / minute)


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    write = sys.stdout.write
    with tempfile.TemporaryDirectory(prefix="lex-ingest-benchmark-") as folder:
        valkey, port = start_valkey(Path(folder))
        try:
            write(
                f"{'provider':20} {'load':6} {'requests':>8} {'tokens':>10} {'of requests':>11} {'of tokens':>10} {'429s':>5}\n"
            )
            for provider in PROVIDERS:
                for load in LOADS if provider != "bucket of a second" else ("short",):
                    write(_line(provider, load, f"redis://127.0.0.1:{port}/0", seconds) + "\n")
                    sys.stdout.flush()
        finally:
            valkey.terminate()
            valkey.wait()
    return 0


def _line(kind: str, load: str, redis_url: str, seconds: float) -> str:
    chunks, characters = LOADS[load]
    behaviour: dict[str, Any] = {"requests_per_minute": REQUESTS, "tokens_per_minute": TOKENS, "minute": 1.0, **PROVIDERS[kind]}
    minute = float(behaviour["minute"])
    with ProviderProcess(dimensions=64, vectors="table", latency=0.002, **behaviour) as provider:
        job = Job(
            redis_url, provider.base_url, REQUESTS, TOKENS, minute, 1.0, chunks, characters,
            client="embed", name=f"{kind}/{load}", dimensions=64,
        )  # fmt: skip
        Senders(job).run()
        provider.reset()
        Senders(replace(job, seconds=seconds)).run()
        requests = provider.requests()
        refused = provider.stats()["limited"]
    tokens = sum(request["tokens"] for request in requests)
    shares = [used(requests, unit, minute) for unit in ("requests", "tokens")]
    return f"{kind:20} {load:6} {len(requests):8} {tokens:9} {shares[0]:11.1%} {shares[1]:10.1%} {refused:5}"


if __name__ == "__main__":
    sys.exit(main())
