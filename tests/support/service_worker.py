"""A worker that runs the real services in a thread, and vanishes or is overtaken in the middle of them."""

from __future__ import annotations

import functools
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.support.actors import Actor, Maker, World
from worker import objects
from worker.contract import Stage
from worker.domain.document import Status
from worker.domain.errors import LeaseLost
from worker.services import embedding, extraction
from worker.services.settling import StageFailed
from worker.settings import Settings


class Crash(BaseException):
    """The worker is gone. No ``except Exception`` sees it, as none sees SIGKILL."""


_actor = threading.local()


@dataclass
class ServiceActor(Actor):
    settings: Settings
    frail: float = 0.0

    def work(self, lost: float = 0.05) -> bool:
        wake = self.world.pop(self.world.wakes, self.choose)
        if wake is None:
            return False
        document_id, stage = wake
        _actor.now, self.frail = self, lost
        try:
            if stage is Stage.EXTRACT:
                result: Any = extraction.extract_document(document_id, self.settings)
            else:
                result = embedding.embed_document(document_id, self.settings)
        except Crash:
            self.world.counts["crashes"] += 1
        except (LeaseLost, StageFailed) as error:
            self.world.counts[type(error).__name__] += 1
        else:
            self.world.counts["runs"] += 1
            if result is not None and result.wake_generation is not None:
                following = Stage.EMBED if result.status is Status.EXTRACTED else Stage.EXTRACT
                self.world.wakes.append((document_id, following))
        return True

    def stumble(self) -> None:
        """Vanish, or stand still until the lease has run out."""
        if self.choose.random() < self.frail:
            raise Crash
        if self.choose.random() < self.frail:
            self.let_time_pass()


def service_actors(settings: Settings) -> Maker:
    # Made here once: four threads that make it at the same time would make four.
    extraction._sandbox_of_process(os.getpid())

    def make(world: World, choose: random.Random, rows: psycopg.Connection[Any]) -> ServiceActor:
        return ServiceActor(world, choose, rows, settings)

    return make


@contextmanager
def frail(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a worker stumble before and after it asks S3 or the provider."""

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def stumbling(*arguments: Any) -> Any:
            _actor.now.stumble()
            answer = call(*arguments)
            _actor.now.stumble()
            return answer

        return stumbling

    with patch.context() as inside:
        inside.setattr(objects, "download", around(objects.download))
        inside.setattr(embedding, "_fill", around(embedding._fill))
        yield
