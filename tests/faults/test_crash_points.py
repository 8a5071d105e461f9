"""A process that is killed before and after each step that anything outside it can see."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.support import truth
from tests.support.crash import SCENARIOS, Crasher
from tests.support.events import deliver
from tests.support.faults import Fault
from tests.support.provider import Provider
from tests.support.workers import running_worker
from worker.settings import Settings

BATCH = 2
CHUNKS = 6
ENVIRONMENT = {
    "LEX_INGEST_EMBEDDING_BATCH": str(BATCH),
    # One request after the other, so that each run passes the same points.
    "LEX_INGEST_EMBEDDING_IN_FLIGHT": "1",
    "LEX_INGEST_CHUNK_SIZE": "300",
    "LEX_INGEST_CHUNK_OVERLAP": "0",
    "LEX_INGEST_LEASE": "5",
}

# Where a process is killed at least once. A step whose function has another name by now would be left out silently.
KINDS = {
    f"{side} {step}"
    for side in ("before", "after")
    for step in (
        "a commit",
        "a statement and its commit",
        "a statement that commits by itself",
        "the handler's commit",
        "a message",
        "a request to the provider",
        "a request to S3",
    )
}


def body(key: str, version: str) -> str:
    """A document of six chunks, of which each names the key and the version."""
    return "\n\n".join(f"{key} {version} {number} " + f"word{number} " * 30 for number in range(CHUNKS))


def repeated(provider: Provider, key: str) -> int:
    """The texts of this key that were sent more than once. The requests that repeat them may hold texts of other keys too."""
    sent = Counter(text for request in provider.requests for text in request if text.startswith(f"{key} "))
    return sum(number - 1 for number in sent.values())


@pytest.mark.fault("crash points", "0 violations; at most the texts of one batch repeated per crash")
@pytest.mark.timeout(400)
def test_a_kill_before_or_after_any_step_is_made_good(
    fault: Fault, settings: Settings, provider: Provider, tmp_path: Path
) -> None:
    redeliver: list[dict[str, Any]] = []
    crashed: dict[str, str] = {}
    passed: Counter[str] = Counter()
    with Crasher(tmp_path / "crashes.log", **ENVIRONMENT) as crasher:

        def run(scenario: str, key: str, at: int | None = None) -> list[str]:
            done = crasher.run(scenario, key, body(key, "first"), body(key, "second"), at)
            fault.require(done.signal == (0 if at is None else signal.SIGKILL), f"{key}: ended by signal {done.signal}")
            if not done.handled:
                redeliver.append(done.event)
            return done.points

        points = [(scenario, at) for scenario in SCENARIOS for at in range(len(run(scenario, f"whole/{scenario}")))]
        for scenario, at in sorted(fault.random.sample(points, fault.size(8, len(points)))):
            key = f"crash/{scenario}-{at}"
            *_, crashed[key] = run(scenario, key, at)
            passed[crashed[key]] += 1
    with running_worker(tmp_path / "worker.log", **ENVIRONMENT):
        for event in redeliver:
            deliver(event)
        wait_until(lambda: truth.at_rest(settings.database_url), 60, "everything is made good")
    fault.figure("points", f"{len(crashed)} of {len(points)}")
    fault.figure("kinds", len(passed))
    if len(crashed) == len(points):
        fault.require(set(passed) >= KINDS, f"no point stands at: {', '.join(sorted(KINDS - set(passed)))}")
    most = 0
    for key, point in crashed.items():
        texts = repeated(provider, key)
        most = max(most, texts)
        fault.require(texts <= BATCH, f"{key}, killed {point}: {texts} texts were repeated, more than a batch of {BATCH}")
    fault.figure("redelivered", len(redeliver))
    fault.figure("most texts repeated", most)
    damaged = {"whole/damaged", *(key for key in crashed if key.startswith("crash/damaged-"))}
    for line in truth.violations(settings.database_url, settings.buckets[0], bad=damaged):
        fault.violation(f"{line} (killed {crashed.get(line.split(':')[0], 'never')})")
