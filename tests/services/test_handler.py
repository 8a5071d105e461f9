"""The Lambda function, from event to answer, with its logs and metrics."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from handlers.dispatch import lambda_handler as tick_handler
from handlers.envelopes import MalformedEvent
from handlers.s3_events import lambda_handler
from worker import producer
from worker.domain.errors import TransientError
from worker.services import intake
from worker.settings import Settings, SettingsError, get_settings


class Context:
    aws_request_id = "request-1"


def record(key: str = "a+b", bucket: str = "docs", **item: Any) -> dict[str, Any]:
    return {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": "e1", **item}},
    }


def from_queue(*bodies: Any) -> dict[str, Any]:
    return {
        "Records": [
            {"messageId": f"m{number}", "body": json.dumps(body), "eventSource": "aws:sqs"} for number, body in enumerate(bodies)
        ]
    }


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The function's environment, as its deployment sets it."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.delenv("BUCKET", raising=False)
    get_settings.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()
    intake._connections.close()


def away(environment: pytest.MonkeyPatch, variable: str, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment.setenv(variable, f"{scheme}://127.0.0.1:{port}/0")
    get_settings.cache_clear()


def logged(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The log lines, and the one metrics document."""
    captured = capsys.readouterr()
    (metrics,) = [json.loads(line) for line in captured.out.splitlines()]
    return [json.loads(line) for line in captured.err.splitlines()], metrics


def keys(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        return [row[0] for row in connection.execute("SELECT key FROM documents ORDER BY key").fetchall()]


def test_a_batch_from_the_queue_is_recorded_and_every_document_woken(environment: pytest.MonkeyPatch, settings: Settings) -> None:
    answer = lambda_handler(from_queue({"Records": [record("a+b"), record("c%2Bd")]}, {"Records": [record("e")]}), Context())
    assert answer == {"batchItemFailures": []}
    assert keys(settings.database_url) == ["a b", "c+d", "e"]
    assert producer.queue_lengths(settings)["lex.documents"] == 3


@pytest.mark.parametrize(
    "event",
    [
        {"Records": [record()]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps({"Records": [record()]})}}]},
        {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": "docs"}, "object": {"key": "a b"}},
        },
    ],
    ids=["s3", "sns", "eventbridge"],
)
def test_a_direct_event_is_recorded(environment: pytest.MonkeyPatch, settings: Settings, event: dict[str, Any]) -> None:
    assert lambda_handler(event, None) == {"batchItemFailures": []}
    assert keys(settings.database_url) == ["a b"]


def test_a_malformed_message_fails_alone_with_a_logged_reason(
    environment: pytest.MonkeyPatch, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = lambda_handler(from_queue({"Records": [record("a")]}, {"no": "event"}, {"Records": [record("b")]}), Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert keys(settings.database_url) == ["a", "b"]
    lines, metrics = logged(capsys)
    (line,) = [line for line in lines if line["level"] == "ERROR"]
    assert (line["message_id"], line["code"], line["request_id"]) == ("m1", "unknown_envelope", "request-1")
    assert metrics["MalformedMessages"] == [1.0]


@pytest.mark.parametrize("unstorable", ["\0", "\ud800"])
def test_a_message_with_what_postgresql_can_t_store_is_in_the_ledger_as_malformed_and_fails_alone(
    environment: pytest.MonkeyPatch, settings: Settings, unstorable: str
) -> None:
    bad = f"x{unstorable}"
    bodies: list[Any] = [
        {"Records": [record("a", eTag=bad)]},
        {"Records": [record("a", versionId=bad)]},
        {"Records": [{**record("a"), "eventName": f"ObjectTagging:{bad}"}]},
        {"Records": [{**record("a"), "eventTime": bad, "awsRegion": bad}]},
        {"Event": "s3:TestEvent", "Bucket": bad},
        {"Records": [{**record("a"), "deep": [{bad: 1}]}]},
        {"Type": "Notification", "Message": json.dumps({"Records": [record("a", sequencer=bad)]})},
        {"no": bad},
        {"Records": [record("b")]},
    ]
    event = from_queue(*bodies)
    event["Records"].append({**event["Records"][-1], "messageId": f"id{bad}"})
    event["Records"].append({**event["Records"][-2], "messageId": "raw", "body": f"{{{bad}"})
    answer = lambda_handler(event, Context())
    failed = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
    assert failed == [*(f"m{number}" for number in range(8)), f"id{bad}", "raw"]
    assert keys(settings.database_url) == ["b"]
    with psycopg.connect(settings.database_url) as connection:
        rows = connection.execute("SELECT message_id, outcome, raw #>> '{}' FROM events WHERE kind = 'malformed'").fetchall()
    assert {row[0] for row in rows} == {*(f"m{number}" for number in range(8)), "idx\ufffd", "raw"}
    assert {row[1] for row in rows} == {"nul" if unstorable == "\0" else "surrogate", "not_json"}


@pytest.mark.parametrize("setting", ["DATABASE_URL=nonsense", "LEX_INGEST_LEDGER_DAYS=99999999999"])
def test_a_setting_that_can_t_be_used_is_one_line_in_the_log(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    environment.setenv(*setting.split("=", 1))
    get_settings.cache_clear()
    for handler in (lambda_handler, tick_handler):
        with pytest.raises(SettingsError):
            handler(from_queue({"Records": [record("a")]}), Context())
        (line,) = capsys.readouterr().err.splitlines()
        said = json.loads(line)
        assert (said["level"], said["code"]) == ("ERROR", "settings")
        assert setting.partition("=")[0] in said["reason"]


def test_a_batch_of_only_malformed_messages_names_them_all(environment: pytest.MonkeyPatch) -> None:
    answer = lambda_handler(from_queue("x", 7), Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}, {"itemIdentifier": "m1"}]}


def test_a_direct_malformed_event_raises(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(MalformedEvent):
        lambda_handler({"no": "event"}, Context())


def test_without_postgresql_every_message_comes_again(environment: pytest.MonkeyPatch) -> None:
    away(environment, "DATABASE_URL", "postgresql")
    test_event = {"Event": "s3:TestEvent"}
    answer = lambda_handler(from_queue({"Records": [record("a")]}, test_event, {"Records": [record("b")]}), Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}, {"itemIdentifier": "m1"}, {"itemIdentifier": "m2"}]}


def test_without_postgresql_a_direct_event_raises(environment: pytest.MonkeyPatch) -> None:
    away(environment, "DATABASE_URL", "postgresql")
    with pytest.raises(TransientError):
        lambda_handler({"Records": [record()]}, Context())


def test_without_redis_the_event_succeeds(
    environment: pytest.MonkeyPatch, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    away(environment, "REDIS_URL", "redis")
    assert lambda_handler(from_queue({"Records": [record("a")]}), Context()) == {"batchItemFailures": []}
    assert keys(settings.database_url) == ["a"]
    _, metrics = logged(capsys)
    assert metrics["EnqueueFailures"] == [1.0]


def test_a_test_event_is_acknowledged(environment: pytest.MonkeyPatch, settings: Settings) -> None:
    assert lambda_handler(from_queue({"Service": "Amazon S3", "Event": "s3:TestEvent"}), Context()) == {"batchItemFailures": []}
    assert keys(settings.database_url) == []


def test_a_foreign_bucket_is_acknowledged_logged_and_counted(
    environment: pytest.MonkeyPatch, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("BUCKET", "docs")
    get_settings.cache_clear()
    event = from_queue({"Records": [record("a"), record("b", bucket="other")]})
    assert lambda_handler(event, Context()) == {"batchItemFailures": []}
    assert keys(settings.database_url) == ["a"]
    lines, metrics = logged(capsys)
    assert [line["level"] for line in lines if line.get("code") == "bucket_not_allowed"] == ["WARNING"]
    assert metrics["BucketNotAllowed"] == [1.0]


def test_each_document_has_a_json_line_that_names_it(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lambda_handler(from_queue({"Records": [record("a+b"), record("c")]}), Context())
    lines, metrics = logged(capsys)
    recorded = [line for line in lines if line["message"] == "event recorded"]
    assert [(line["key"], line["generation"], line["request_id"]) for line in recorded] == [
        ("a b", 1, "request-1"),
        ("c", 1, "request-1"),
    ]
    assert len({line["document_id"] for line in recorded}) == 2
    assert (metrics["ObjectsReceived"], metrics["DocumentsRecorded"]) == ([2.0], [2.0])
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "lex-ingest"


def test_a_function_without_settings_says_which_variable_is_missing(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "")
    get_settings.cache_clear()
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        lambda_handler(from_queue({"Records": [record()]}), Context())


def test_with_tracing_on_an_invocation_is_one_subsegment(settings: Settings) -> None:
    """In a process of its own, because the tracer is made when the handler is imported."""
    program = """
import json, os
# Imported before this looks like Lambda: there, the SDK leaves a file in /tmp when it is imported.
from aws_xray_sdk.core import lambda_launcher, xray_recorder
os.environ["LAMBDA_TASK_ROOT"] = "/var/task"
sent = []
xray_recorder.streaming_threshold = 0
Emitter = type("Emitter", (), {"send_entity": lambda self, entity: sent.append(entity.name)})
xray_recorder.configure(context=lambda_launcher.LambdaContext(), emitter=Emitter())
from handlers.s3_events import lambda_handler
lambda_handler({"Event": "s3:TestEvent"}, None)
print("TRACED", json.dumps(sent))
"""
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "POWERTOOLS_TRACE_DISABLED": "false",
        "_X_AMZN_TRACE_ID": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
    }
    answer = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    (line,) = [line for line in answer.stdout.splitlines() if line.startswith("TRACED")]
    assert "## lambda_handler" in line
