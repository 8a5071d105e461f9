"""The workers' application with the formats of tests: ``celery -A tests.support.poison_app worker``."""

from __future__ import annotations

from functools import partial

from worker.celery_app import app
from worker.extract.sandbox import Sandbox
from worker.services import extraction

extraction.Sandbox = partial(Sandbox, formats=("tests.support.poison_formats",))  # type: ignore[misc,assignment]  # a test's own formats

__all__ = ["app"]
