"""template.yaml: what can be known of a stack before it is deployed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.settings import VARIABLES

ROOT = Path(__file__).parents[2]
# Read by boto3, by the Lambda runtime or by aws-lambda-powertools, not by Settings.
FOREIGN_PREFIXES = ("AWS_", "POWERTOOLS_")


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms (``!Ref x``) as mappings (``{"Ref": "x"}``)."""


def _short_form(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {name: value}


_Loader.add_multi_constructor("!", _short_form)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), _Loader)  # noqa: S506 - a SafeLoader
    return loaded


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"]
    return found


def _functions(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: item["Properties"] for name, item in resources.items() if item["Type"] == "AWS::Serverless::Function"}


def _statements(resources: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(resource, statement) of every policy in the template."""
    documents: list[tuple[str, dict[str, Any]]] = []
    for name, item in resources.items():
        properties = item["Properties"]
        inline = [policy["PolicyDocument"] for policy in properties.get("Policies", [])] if "Role" in item["Type"] else []
        for document in [*inline, *([properties["PolicyDocument"]] if "PolicyDocument" in properties else [])]:
            documents += [(name, statement) for statement in document["Statement"]]
    return documents


def test_each_handler_names_a_function_that_exists(resources: dict[str, Any]) -> None:
    handlers = {properties["Handler"] for properties in _functions(resources).values()}
    assert handlers == {"handlers.s3_events.lambda_handler", "handlers.dispatch.lambda_handler"}
    for handler in handlers:
        module, _, name = handler.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_every_environment_name_is_one_that_the_settings_read(template: dict[str, Any], resources: dict[str, Any]) -> None:
    names = set(template["Globals"]["Function"]["Environment"]["Variables"])
    for properties in _functions(resources).values():
        names |= set(properties.get("Environment", {}).get("Variables", {}))
    unknown = {name for name in names if name not in VARIABLES and not name.startswith(FOREIGN_PREFIXES)}
    assert not unknown
    assert {"DATABASE_URL", "REDIS_URL", "BUCKET"} <= names


def test_secrets_come_from_secrets_manager_only(template: dict[str, Any]) -> None:
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    for name in ("DATABASE_URL", "REDIS_URL"):
        assert variables[name]["Sub"].startswith("{{resolve:secretsmanager:${")


def test_a_message_stays_hidden_for_six_times_the_functions_timeout_and_the_window(resources: dict[str, Any]) -> None:
    function = resources["IngestFunction"]["Properties"]
    source = function["Events"]["Changes"]["Properties"]
    hidden = resources["EventQueue"]["Properties"]["VisibilityTimeout"]
    assert hidden >= 6 * function["Timeout"] + source["MaximumBatchingWindowInSeconds"]


def test_a_batch_fails_message_by_message_and_has_the_window_that_its_size_needs(
    template: dict[str, Any], resources: dict[str, Any]
) -> None:
    source = resources["IngestFunction"]["Properties"]["Events"]["Changes"]["Properties"]
    size = template["Parameters"][source["BatchSize"]["Ref"]]
    concurrency = template["Parameters"][source["ScalingConfig"]["MaximumConcurrency"]["Ref"]]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 10 <= size["MinValue"] <= size["Default"] <= size["MaxValue"] <= 100
    assert source["MaximumBatchingWindowInSeconds"] >= 1
    assert concurrency["MinValue"] >= 2


def test_a_message_that_keeps_failing_reaches_a_queue_that_outlives_its_source(resources: dict[str, Any]) -> None:
    source, dead = resources["EventQueue"]["Properties"], resources["DeadLetterQueue"]["Properties"]
    assert source["RedrivePolicy"]["deadLetterTargetArn"] == {"GetAtt": "DeadLetterQueue.Arn"}
    # A message keeps its first date when it is moved, so the dead-letter queue must keep messages longer.
    assert dead["MessageRetentionPeriod"] > source["MessageRetentionPeriod"]
    # An outage of the database that lasts half an hour must not turn sound messages into dead letters.
    assert source["RedrivePolicy"]["maxReceiveCount"] * source["VisibilityTimeout"] > 1800


def test_the_bucket_is_private_encrypted_and_kept(resources: dict[str, Any]) -> None:
    bucket = resources["DocumentBucket"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert bucket["DependsOn"] == "EventQueuePolicy"


def test_created_and_removed_objects_are_both_reported_to_the_queue(resources: dict[str, Any]) -> None:
    configurations = resources["DocumentBucket"]["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    assert {item["Event"] for item in configurations} == {
        "s3:ObjectCreated:*",
        "s3:ObjectRemoved:*",
        "s3:LifecycleExpiration:*",
        "s3:ObjectRestore:Completed",
    }
    assert all(item["Queue"] == {"GetAtt": "EventQueue.Arn"} for item in configurations)


def test_only_this_bucket_may_send_to_the_queue(resources: dict[str, Any]) -> None:
    statements = resources["EventQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    allowed = [statement for statement in statements if statement["Effect"] == "Allow"]
    assert len(allowed) == 1
    assert allowed[0]["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allowed[0]["Action"] == "sqs:SendMessage"
    _, named, unnamed = allowed[0]["Condition"]["ArnEquals"]["aws:SourceArn"]["If"]
    bucket_condition, bucket_named, bucket_unnamed = resources["DocumentBucket"]["Properties"]["BucketName"]["If"]
    assert bucket_condition == "NamedBucket"
    assert named["Sub"].endswith(":::${%s}" % bucket_named["Ref"])  # noqa: UP031 - the braces belong to CloudFormation
    assert unnamed["Sub"][0].endswith(":::" + bucket_unnamed["Sub"][0])
    assert unnamed["Sub"][1] == bucket_unnamed["Sub"][1]


@pytest.mark.parametrize("resource", ["DocumentBucketPolicy", "EventQueuePolicy", "DeadLetterQueuePolicy"])
def test_plain_http_is_refused(resources: dict[str, Any], resource: str) -> None:
    statements = resources[resource]["Properties"]["PolicyDocument"]["Statement"]
    conditions = [statement["Condition"] for statement in statements if statement["Effect"] == "Deny"]
    assert {"Bool": {"aws:SecureTransport": "false"}} in conditions


def test_no_allowed_action_is_a_wildcard_and_few_resources_are(resources: dict[str, Any]) -> None:
    # X-Ray's and the network interfaces' actions know no resources.
    wide = {"TracePolicy", "NetworkPolicy"}
    checked = 0
    for name, statement in _statements(resources):
        if statement["Effect"] != "Allow":
            continue
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        assert not [action for action in actions if "*" in action], name
        assert statement.get("Resource") != "*" or name in wide, name
        checked += 1
    assert checked > 6


def test_the_workers_policy_lets_a_missing_key_answer_404(resources: dict[str, Any]) -> None:
    statements = [statement for name, statement in _statements(resources) if name == "WorkerPolicy"]
    objects, bucket = statements
    assert set(objects["Action"]) == {"s3:GetObject", "s3:GetObjectVersion"}
    assert bucket["Action"] == "s3:ListBucket"
    assert bucket["Resource"] == {"GetAtt": "DocumentBucket.Arn"}


def test_every_function_is_built_by_the_makefile_and_has_a_log_group_that_ends(resources: dict[str, Any]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name, properties in _functions(resources).items():
        assert resources[name]["Metadata"] == {"BuildMethod": "makefile", "ContextPath": "."}
        assert f"build-{name}" in makefile
        logs = resources[properties["LoggingConfig"]["LogGroup"]["Ref"]]
        assert logs["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_every_condition_and_parameter_is_used(template: dict[str, Any]) -> None:
    text = (ROOT / "template.yaml").read_text()
    for parameter in template["Parameters"]:
        assert f"!Ref {parameter}" in text or f"${{{parameter}}}" in text, parameter
    for condition in template["Conditions"]:
        assert f"[{condition}," in text or f"- {condition}\n" in text or f"Condition: {condition}\n" in text, condition
