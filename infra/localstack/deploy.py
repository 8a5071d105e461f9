"""Deploy ``template.yaml`` in LocalStack, with a package that is built already: ``python infra/localstack/deploy.py``.

Environment: ``AWS_ENDPOINT_URL`` and credentials (read by boto3), ``DATABASE_URL``, ``REDIS_URL`` and ``BUCKET`` (what the
functions and the bucket shall get), ``PACKAGE_DIR`` (default ``/package``). Running it again updates the stack. It does
by API what ``sam deploy`` does: zip, upload, point ``CodeUri`` at the upload, create or update the stack, wait.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import sys
import zipfile
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError, WaiterError

STACK = "lex-ingest"
PACKAGES_BUCKET = "lex-ingest-packages"
TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"
# The template's line that names the code; SAM takes an S3 address in its place.
CODE_URI = "CodeUri: handlers\n"
SECRETS = {"lex-ingest/database-url": "DATABASE_URL", "lex-ingest/redis-url": "REDIS_URL"}


class DeployError(Exception):
    """The stack can't be deployed; the message says why."""


def zip_package(folder: Path) -> bytes:
    """The folder's files as a zip, the same bytes for the same files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                package.writestr(entry, path.read_bytes())
    return out.getvalue()


def packaged_template(template: str, address: str) -> str:
    """The template with ``address`` (``s3://…``) as the code of both functions.

    Raises:
        DeployError: the template does not name its code twice in the way that this script knows.
    """
    if template.count(CODE_URI) != 2:
        raise DeployError(f"template.yaml should hold the line {CODE_URI.strip()!r} twice")
    return template.replace(CODE_URI, f"CodeUri: {address}\n")


def architecture(machine: str) -> str:
    """The template's parameter Architecture for ``platform.machine()``: the functions run beside LocalStack."""
    return "arm64" if machine in {"aarch64", "arm64"} else "x86_64"


def _upload(package: bytes) -> str:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=PACKAGES_BUCKET)
    key = f"{hashlib.sha256(package).hexdigest()}.zip"
    s3.put_object(Bucket=PACKAGES_BUCKET, Key=key, Body=package)
    return f"s3://{PACKAGES_BUCKET}/{key}"


def _store_secrets() -> None:
    secrets = boto3.client("secretsmanager")
    for name, variable in SECRETS.items():
        try:
            secrets.create_secret(Name=name, SecretString=os.environ[variable])
        except secrets.exceptions.ResourceExistsException:
            secrets.put_secret_value(SecretId=name, SecretString=os.environ[variable])


def _deploy(template: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
    cloudformation = boto3.client("cloudformation")
    request: dict[str, Any] = {
        "StackName": STACK,
        "TemplateBody": template,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    try:
        cloudformation.create_stack(**request)
        waiter = cloudformation.get_waiter("stack_create_complete")
    except cloudformation.exceptions.AlreadyExistsException:
        try:
            cloudformation.update_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
        waiter = cloudformation.get_waiter("stack_update_complete")
        if cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE":
            waiter = cloudformation.get_waiter("stack_create_complete")
    try:
        waiter.wait(StackName=STACK, WaiterConfig={"Delay": 2, "MaxAttempts": 150})
    except WaiterError as error:
        raise DeployError(_failures(cloudformation) or str(error)) from None
    # LocalStack 4.14 may call a stack complete whose resource failed.
    if failures := _failures(cloudformation):
        raise DeployError(failures)
    outputs: list[dict[str, Any]] = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    return outputs


def _failures(cloudformation: Any) -> str:
    resources = cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
    failed = [item for item in resources if item["ResourceStatus"].endswith("_FAILED")]
    return "\n".join(f"{item['LogicalResourceId']}: {item.get('ResourceStatusReason', 'failed')}" for item in failed)


def main() -> None:
    folder = Path(os.environ.get("PACKAGE_DIR", "/package"))
    if not (folder / "handlers").is_dir():
        raise DeployError(f"{folder} holds no built package")
    _store_secrets()
    address = _upload(zip_package(folder))
    parameters = {"BucketName": os.environ["BUCKET"], "Architecture": architecture(platform.machine())}
    for output in _deploy(packaged_template(TEMPLATE.read_text(encoding="utf-8"), address), parameters):
        print(f"{output['OutputKey']}: {output['OutputValue']}")


if __name__ == "__main__":
    try:
        main()
    except DeployError as failure:
        sys.exit(str(failure))
