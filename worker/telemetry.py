"""Logs for every process, and traces for the handler. A line is one JSON object on standard error.

The lines are those of aws-lambda-powertools' Logger, in Lambda and in the workers alike: what is passed as ``extra``
becomes fields, and so does what the surrounding ``document_context`` says. Document text never goes in.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from aws_lambda_powertools import Logger

SERVICE = "lex-ingest"

LambdaHandler = Callable[[Any, Any], Any]

_context: ContextVar[dict[str, Any] | None] = ContextVar("lex_ingest_log_context", default=None)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at that moment: a daemon, a worker and a test each replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # a plain attribute in the base class
        return sys.stderr

    def filter(self, record: logging.LogRecord) -> Any:  # bool in Python 3.11, or the record from 3.12 on
        for name, value in (_context.get() or {}).items():
            record.__dict__.setdefault(name, value)
        return super().filter(record)


_handler = _StandardError()
_logger = Logger(service=SERVICE, level="INFO", logger_handler=_handler, utc=True, use_rfc3339=True)
# The root logger may have handlers of its own (Celery's, the Lambda runtime's), which would write each line twice.
logging.getLogger(SERVICE).propagate = False


def get_logger(name: str) -> logging.Logger:
    """The logger of a module: ``telemetry.get_logger(__name__)``."""
    return logging.getLogger(f"{SERVICE}.{name}")


def configure(level: str, *others: str) -> None:
    """Set the level of our loggers, and let the loggers of other libraries write JSON lines too, from that level on."""
    _logger.setLevel(level.upper())
    for name in others:
        other = logging.getLogger(name)
        other.handlers, other.propagate = [_handler], False
        other.setLevel(level.upper())


@contextmanager
def log_context(**values: Any) -> Iterator[None]:
    """Add fields to each line of this thread or task until the end of the block; None adds none."""
    known = {name: value for name, value in values.items() if value is not None}
    token = _context.set({**(_context.get() or {}), **known})
    try:
        yield
    finally:
        _context.reset(token)


@contextmanager
def document_context(document_id: str, generation: int | None = None, stage: str | None = None) -> Iterator[None]:
    """Correlate the lines of a block by the document that it works on."""
    with log_context(document_id=document_id, generation=generation, stage=stage):
        yield


def tracing_is_on() -> bool:
    """Whether X-Ray segments can be sent: the rule of aws-lambda-powertools (page "Tracer", "Disabling Tracer").

    Asked here because making a Tracer imports the X-Ray SDK and with it botocore, more than all else that the handler
    imports, whether or not it is on. The variables belong to Lambda and powertools, and are no settings of ours.
    """
    switched_off = os.environ.get("POWERTOOLS_TRACE_DISABLED", "").lower() in ("1", "y", "yes", "t", "true", "on")
    return "LAMBDA_TASK_ROOT" in os.environ and "AWS_SAM_LOCAL" not in os.environ and not switched_off


def traced(handler: LambdaHandler) -> LambdaHandler:
    """Decorate a Lambda handler: a subsegment for each invocation, where tracing is on."""
    if not tracing_is_on():
        return handler
    from aws_lambda_powertools import Tracer

    # No module is patched: patching would import every client library that is installed.
    tracer = Tracer(service=SERVICE, auto_patch=False)
    decorated: LambdaHandler = tracer.capture_lambda_handler(handler, capture_response=False)
    return decorated
