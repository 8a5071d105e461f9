"""Four workers under a provider's limits, and the ledger against the provider's own count.

Run it: ``python -m tests.benchmarks.embed_limits``. The provider has 60 requests and 200,000 tokens a minute, and its minute
takes five seconds here. Goals: 95% of the rate, no attempt spent, nothing FAILED; over 1,000 documents the ledger equals the
provider's count, and with resets confirmed <= counted <= confirmed and unconfirmed.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from tests.support import embedding_load as load
from tests.support.embedding_stage import services, until_finished, workers
from tests.support.provider_server import ProviderProcess
from worker.settings import Settings

REQUESTS, TOKENS, SCALE = 60, 200_000, 12


def _limited(kind: str, lengths: Any, documents: int) -> bool:
    # Its headers would tell limits of a whole minute.
    limits = {"requests_per_minute": REQUESTS, "tokens_per_minute": TOKENS, "minute": 60 / SCALE, "headers": "retry-after"}
    environment = {
        "LEX_INGEST_REQUESTS_PER_MINUTE": str(REQUESTS * SCALE),
        "LEX_INGEST_TOKENS_PER_MINUTE": str(TOKENS * SCALE),
        "LEX_INGEST_EMBEDDING_BATCH": "8",
    }
    with (
        ProviderProcess(dimensions=64, vectors="table", latency=0.02, **limits) as provider,
        services(provider, 64, **environment) as settings,
    ):
        load.insert(settings, load.make(documents, lengths))
        with workers(4):
            outcome = until_finished(settings, 300)
        stats, requests = provider.stats(), provider.requests()
    # Between the first and the last request, once the limiter has learned how many tokens texts have; a bucket that was full
    # gives a minute's worth at once, which no limiter of a rate takes.
    requests = requests[len(requests) // 5 :]
    span = requests[-1]["at"] - requests[0]["at"]
    shares = {
        "requests": (len(requests) - 1) / span / REQUESTS * (60 / SCALE),
        "tokens": sum(request["tokens"] for request in requests[:-1]) / span / TOKENS * (60 / SCALE),
    }
    bound = max(shares, key=lambda unit: shares[unit])
    failed = outcome.statuses["FAILED"]
    sys.stdout.write(
        f"{kind:16} {len(requests):6} requests in {span:5.1f} s: {shares['requests']:6.1%} of requests,"
        f" {shares['tokens']:6.1%} of tokens; {stats['limited']} 429s, {outcome.attempts} attempts spent, {failed} FAILED\n"
    )
    return shares[bound] >= 0.95 and outcome.attempts == failed == 0


def _ledger(settings: Settings) -> tuple[int, int, int]:
    """Requests and tokens confirmed, and the bound of tokens that are not."""
    import psycopg

    with psycopg.connect(settings.database_url) as connection:
        row = connection.execute(
            "SELECT (SELECT coalesce(sum(requests), 0) FROM spending_days), (SELECT coalesce(sum(tokens), 0) FROM spending_days),"
            " (SELECT coalesce(sum(most_tokens), 0) FROM embedding_requests),"
            " (SELECT coalesce(sum(tokens), 0) FROM spending)"
        ).fetchone()
    assert row is not None
    if row[1] != row[3]:
        raise SystemExit(f"the days' sum is {row[1]}, the documents' {row[3]}")
    return int(row[0]), int(row[1]), int(row[2])


def _counted(kind: str, **behaviour: Any) -> bool:
    with (
        ProviderProcess(dimensions=64, vectors="table", latency=0.02, **behaviour) as provider,
        services(provider, 64) as settings,
    ):
        documents = load.make(1000, lambda choose: [choose.randint(100, 3000) for _ in range(choose.randint(1, 6))], shared=0.1)
        load.insert(settings, documents)
        with workers(2):
            outcome = until_finished(settings, 300)
        stats, (requests, confirmed, unconfirmed) = provider.stats(), _ledger(settings)
    billed = stats["billed"]
    sys.stdout.write(
        f"{kind:16} {outcome.statuses['INDEXED']} indexed, {billed['requests']} requests, {billed['tokens']} tokens counted;"
        f" confirmed {requests} requests, {confirmed} tokens; unconfirmed at most {unconfirmed} tokens;"
        f" {outcome.attempts} attempts spent\n"
    )
    if not behaviour:
        return confirmed == billed["tokens"] and requests == billed["requests"] and unconfirmed == 0
    return confirmed <= billed["tokens"] <= confirmed + unconfirmed and confirmed == stats["answered"]["tokens"]


def main() -> int:
    choose = random.Random(1)
    good = [
        _limited("many short", lambda _: [choose.randint(300, 900)], 3000),
        _limited("long", lambda _: [choose.randint(3600, 4000) for _ in range(choose.randint(5, 40))], 50),
        _counted("ledger"),
        _counted("ledger, resets", chances={"reset": 0.05, "lost": 0.05, "error_500": 0.05, "cut": 0.03}),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
