"""Wake-ups reach their queues, and trouble with Redis never keeps the caller waiting."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.valkey import free_port, start_valkey
from worker import producer
from worker.contract import QUEUES, TASK_NAMES, Stage, WakeUp
from worker.settings import Settings

BOUND = 3.0


@dataclass
class Server:
    """A Valkey of its own for a test that freezes it, fills it or ends it."""

    process: subprocess.Popen[bytes]
    port: int
    client: redis.Redis

    @property
    def settings(self) -> Settings:
        return Settings(redis_url=f"redis://127.0.0.1:{self.port}/0")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    process, port = start_valkey(tmp_path, None, "--maxmemory-policy", "noeviction")
    client = redis.Redis(port=port)
    try:
        yield Server(process, port, client)
    finally:
        client.close()
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def wake_ups(number: int = 10, stage: Stage = Stage.PROCESS) -> list[WakeUp]:
    return [WakeUp(str(uuid.uuid4()), 1, stage) for _ in range(number)]


def timed_send(settings: Settings, number: int = 10) -> tuple[int, float]:
    begun = time.monotonic()
    failed = producer.send(wake_ups(number), settings)
    return failed, time.monotonic() - begun


def first_message(client: redis.Redis, queue: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(client.lrange(queue, -1, -1)[0])  # type: ignore[index]  # the stubs mix in asyncio
    return message


@pytest.mark.parametrize("stage", list(Stage))
def test_a_wake_up_names_the_task_the_document_and_the_generation(server: Server, stage: Stage) -> None:
    wake_up = WakeUp(str(uuid.uuid4()), 3, stage)
    assert producer.send([wake_up], server.settings) == 0
    message = first_message(server.client, QUEUES[stage])
    assert message["headers"]["task"] == TASK_NAMES[stage]
    assert message["headers"]["id"] == f"{wake_up.document_id}:3:{stage}"
    assert json.loads(base64.b64decode(message["body"]))[0] == [wake_up.document_id, 3]
    assert message["content-type"] == "application/json"


def test_the_worker_is_asked_to_store_the_result(server: Server) -> None:
    """``AsyncResult(task_id)`` is to work for messages that the handler sent."""
    producer.send(wake_ups(1), server.settings)
    assert first_message(server.client, QUEUES[Stage.PROCESS])["headers"]["ignore_result"] is False


def test_a_warm_producer_sends_one_command_a_message(server: Server) -> None:
    producer.send(wake_ups(1), server.settings)
    server.client.config_resetstat()
    assert producer.send(wake_ups(10), server.settings) == 0
    commands = {name: stat["calls"] for name, stat in server.client.info("commandstats").items()}  # type: ignore[union-attr]  # the stubs mix in asyncio
    commands.pop("cmdstat_config|resetstat", None)
    assert commands == {"cmdstat_lpush": 10}


def test_queue_lengths_counts_what_waits_in_each_queue(server: Server) -> None:
    producer.send([*wake_ups(3), *wake_ups(2, Stage.EXTRACT)], server.settings)
    assert producer.queue_lengths(server.settings) == {"lex.documents": 3, "lex.extraction": 2, "lex.embedding": 0}


def test_queue_lengths_raises_where_redis_is_away() -> None:
    with pytest.raises(redis.RedisError):
        producer.queue_lengths(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))


def test_a_refused_redis_costs_little_time() -> None:
    failed, seconds = timed_send(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    assert failed == 10
    assert seconds < BOUND


@pytest.mark.parametrize("warm", [True, False])
def test_a_frozen_redis_costs_at_most_three_seconds(server: Server, warm: bool) -> None:
    if warm:
        assert producer.send(wake_ups(1), server.settings) == 0
    server.process.send_signal(signal.SIGSTOP)
    failed, seconds = timed_send(server.settings)
    assert failed == 10
    assert seconds < BOUND
    server.process.send_signal(signal.SIGCONT)
    assert producer.send(wake_ups(1), server.settings) == 0


def test_a_redis_that_freezes_when_the_time_is_nearly_up_still_costs_at_most_three_seconds(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert producer.send(wake_ups(1), server.settings) == 0
    publish, sent = producer._publish, 0

    def slow(application: Any, wake_up: WakeUp) -> Any:
        nonlocal sent
        sent += 1
        if sent == 5:
            server.process.send_signal(signal.SIGSTOP)
        answer = publish(application, wake_up)
        time.sleep(0.36)
        return answer

    monkeypatch.setattr(producer, "_publish", slow)
    failed, seconds = timed_send(server.settings)
    assert failed == 6
    assert seconds < BOUND + 0.1


def test_a_full_redis_costs_little_time_and_is_used_again_when_it_has_room(server: Server) -> None:
    assert producer.send(wake_ups(1), server.settings) == 0
    server.client.config_set("maxmemory", "1")
    failed, seconds = timed_send(server.settings)
    assert failed == 10
    assert seconds < BOUND
    server.client.config_set("maxmemory", "0")
    assert producer.send(wake_ups(2), server.settings) == 0


def test_an_idle_connection_that_was_closed_is_made_again(server: Server) -> None:
    assert producer.send(wake_ups(1), server.settings) == 0
    server.client.client_kill_filter(_type="normal", skipme=True)
    assert producer.send(wake_ups(3), server.settings) == 0
    assert producer.queue_lengths(server.settings)["lex.documents"] == 4


def test_a_slow_batch_stops_at_its_budget(server: Server) -> None:
    assert producer.send(wake_ups(5), server.settings, budget=-1.0) == 5


def test_another_redis_is_another_connection(server: Server) -> None:
    other = replace(server.settings, redis_url=f"redis://127.0.0.1:{server.port}/1")
    producer.send(wake_ups(1), server.settings)
    producer.send(wake_ups(2), other)
    assert producer.queue_lengths(server.settings)["lex.documents"] == 1
    assert producer.queue_lengths(other)["lex.documents"] == 2
