"""Every client's PUT stores its bytes in the local S3: boto3, curl, urllib, httpx, a browser's fetch() and a form."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shlex
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.exceptions import ClientError

from infra.local.stack import Stack
from tests.support.local_aws import BUCKET, Answer, aws_stack, client, send, target_of

FORM = "application/x-www-form-urlencoded"
# Not text, not a form, and not of a length that anything prefers.
BYTES = bytes(range(256)) * 13 + b"a=b&c=%20+d\r\n--b--\r\n"
# curl sends "Expect: 100-continue" from 1 MiB on.
LARGE = BYTES * 700
KEYS = [
    "plain.txt", "a b.txt", "a+b.txt", "100%.txt", "a%20b%2Fc.txt", "ü é 日本 😀.txt", "a//b", "/abs", "trailing/", "../up",
    "./here", "a/../b", "q?x=1&versionId=2", "h#x", "semi;colon=1,2", "st*r'\"()!~", "{x}|`^<>", "\\back", "new\nline", "tab\t.",
    "x" * 1000, "moto-api/reset",
]  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with aws_stack(tmp_path_factory.mktemp("aws clients")) as running:
        yield running


@pytest.fixture(scope="module", params=["s3", "s3v4"], ids=["version 2", "version 4"])
def s3(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client that signs URLs and forms in one version or the other; Version 2 is boto3's default for both."""
    version = {} if request.param == "s3" else {"signature_version": request.param}
    with client(stack, "s3", **version) as made:
        yield made


def put_url(s3: Any, key: str, **more: str) -> str:
    return str(s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": key, **more}))


def stored(s3: Any, key: str) -> bytes:
    return bytes(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def curl(*arguments: str, data: bytes = b"") -> int:
    """The status that curl was answered with."""
    command = [
        "curl",
        "-q",
        "-sS",
        "--globoff",
        "--path-as-is",
        "--noproxy",
        "*",
        "-o",
        os.devnull,
        "-w",
        "%{http_code}",
        *arguments,
    ]
    return int(subprocess.run(command, input=data, capture_output=True, check=True, timeout=100).stdout)


def by_curl(url: str, body: bytes) -> int:
    return curl("-X", "PUT", "--data-binary", "@-", url, data=body)


def by_curl_in_chunks(url: str, body: bytes) -> int:
    return curl("-T", "-", url, data=body)


def by_urllib(url: str, body: bytes) -> int:
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method="PUT"), timeout=100) as answer:
        return int(answer.status)


def by_httpx(url: str, body: bytes) -> int:
    return httpx2.put(url, content=body, trust_env=False, timeout=100).status_code


def by_httpx_in_chunks(url: str, body: bytes) -> int:
    return httpx2.put(url, content=iter([body[:7], body[7:]]), trust_env=False, timeout=100).status_code


def by_http_client(url: str, body: bytes) -> int:
    split = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(split.netloc, timeout=100)
    connection.request("PUT", target_of(url), body)
    status = connection.getresponse().status
    connection.close()
    return status


CLIENTS = [by_curl, by_curl_in_chunks, by_urllib, by_httpx, by_httpx_in_chunks, by_http_client]


@pytest.mark.parametrize("body", [BYTES, LARGE, b"", b"key=x&file=y"], ids=["bytes", "large", "empty", "like a form"])
@pytest.mark.parametrize("put", CLIENTS)
def test_a_put_to_a_presigned_address_stores_its_bytes(s3: Any, put: Callable[[str, bytes], int], body: bytes) -> None:
    key = f"put/{put.__name__}"
    assert put(put_url(s3, key), body) == 200
    assert stored(s3, key) == body
    assert s3.head_object(Bucket=BUCKET, Key=key)["ETag"] == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


# httpx writes /a/../b as /b before it asks, as browsers do.
@pytest.mark.parametrize("put", [by_curl, by_urllib, by_http_client])
def test_a_put_stores_under_the_key_that_was_signed(s3: Any, put: Callable[[str, bytes], int]) -> None:
    for key in KEYS:
        assert put(put_url(s3, key), key.encode()) == 200, key
        assert stored(s3, key) == key.encode()
        read = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key})
        assert send_of(read).body == key.encode()
    assert set(KEYS) <= {item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    for key in KEYS:
        s3.delete_object(Bucket=BUCKET, Key=key)
    assert not set(KEYS) & {item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}


def send_of(url: str) -> Answer:
    with urllib.request.urlopen(url, timeout=100) as answer:
        return Answer(answer.status, {}, answer.read())


@pytest.mark.parametrize(
    "content_type", ["", FORM, "multipart/form-data; boundary=b", "application/json", "text/plain;charset=UTF-8"]
)
def test_the_content_type_does_not_change_what_is_stored(stack: Stack, s3: Any, content_type: str) -> None:
    headers = {"Content-Type": content_type, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-site"}
    assert send(stack, "PUT", target_of(put_url(s3, "typed")), headers, BYTES).status == 200
    assert stored(s3, "typed") == BYTES
    assert s3.head_object(Bucket=BUCKET, Key="typed")["ContentType"] == (content_type or "binary/octet-stream")


def test_a_content_type_that_was_signed_must_be_sent(s3: Any, stack: Stack) -> None:
    target = target_of(put_url(s3, "signed type", ContentType="text/plain"))
    assert send(stack, "PUT", target, {"Content-Type": "text/plain"}, b"x").status == 200
    assert send(stack, "PUT", target, {"Content-Type": "text/html"}, b"y").status == 403
    assert stored(s3, "signed type") == b"x"


def test_a_browser_s_form_and_curl_s_store_their_file(s3: Any, tmp_path: Path) -> None:
    file = tmp_path / "f.bin"
    file.write_bytes(BYTES)
    for key in KEYS:
        extra = {"Content-Type": "application/pdf", "x-amz-meta-note": "a b"}
        form = s3.generate_presigned_post(BUCKET, key, Fields=extra, Conditions=[{name: value} for name, value in extra.items()])
        fields = [
            item for name, value in form["fields"].items() if name != "key" for item in ("--form-string", f"{name}={value}")
        ]
        assert curl("-F", "key=<-", *fields, "-F", f"file=@{file}", form["url"], data=key.encode()) == 204, key
        found = s3.get_object(Bucket=BUCKET, Key=key)
        assert found["Body"].read() == BYTES
        assert (found["ContentType"], found["Metadata"]) == ("application/pdf", {"note": "a b"})
        s3.delete_object(Bucket=BUCKET, Key=key)
    # A field without a file name is the file too, and httpx writes the fields in its own way.
    form = s3.generate_presigned_post(BUCKET, "of httpx")
    answer = httpx2.post(form["url"], data=form["fields"], files={"file": ("a.bin", BYTES)}, trust_env=False)
    assert (answer.status_code, stored(s3, "of httpx")) == (204, BYTES)


def test_a_form_sends_the_event_of_a_form(stack: Stack, s3: Any) -> None:
    with client(stack, "sqs") as sqs:
        url = sqs.create_queue(QueueName="of-forms")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        s3.create_bucket(Bucket="of-forms")
        configuration = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:Post"]}]}
        s3.put_bucket_notification_configuration(Bucket="of-forms", NotificationConfiguration=configuration)
        sqs.delete_message(
            QueueUrl=url, ReceiptHandle=sqs.receive_message(QueueUrl=url)["Messages"][0]["ReceiptHandle"]
        )  # s3:TestEvent
        s3.put_object(Bucket="of-forms", Key="put", Body=b"x")
        form = s3.generate_presigned_post("of-forms", "posted")
        httpx2.post(form["url"], data=form["fields"], files={"file": ("a", b"x")}, trust_env=False)
        (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        (record,) = json.loads(message["Body"])["Records"]
        assert (record["eventName"], record["s3"]["object"]["key"]) == ("ObjectCreated:Post", "posted")
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


# --- boto3 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [None, "CRC32", "SHA1", "SHA256"])
@pytest.mark.parametrize("body", [BYTES, b""], ids=["bytes", "empty"])
def test_boto3_puts_with_and_without_checksums(s3: Any, algorithm: str | None, body: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key="a b+é", Body=body, **({"ChecksumAlgorithm": algorithm} if algorithm else {}))
    assert stored(s3, "a b+é") == body


def test_boto3_stores_under_every_key(s3: Any) -> None:
    for key in KEYS:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
        assert stored(s3, key) == key.encode()
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in KEYS]})
    assert not set(KEYS) & {item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}


def test_boto3_uploads_in_parts(s3: Any, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(LARGE * 5)
    for extra in ({}, {"ChecksumAlgorithm": "SHA256"}):
        transfer = TransferConfig(multipart_threshold=1, multipart_chunksize=5 << 20)
        s3.upload_file(str(file), BUCKET, "in parts", Config=transfer, ExtraArgs=extra)
        assert stored(s3, "in parts") == LARGE * 5
    # The checksum of the object, which the request for its end holds.
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="in parts", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    names = {"Bucket": BUCKET, "Key": "in parts", "UploadId": upload["UploadId"]}
    part = {"PartNumber": 1, "ETag": s3.upload_part(**names, PartNumber=1, Body=b"hello")["ETag"]}
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": [part]}, ChecksumCRC32="NhCmhg==", ChecksumType="FULL_OBJECT")
    assert stored(s3, "in parts") == b"hello"
    s3.copy({"Bucket": BUCKET, "Key": "in parts"}, BUCKET, "copied")
    assert stored(s3, "copied") == b"hello"


def test_unsigned_payloads_and_metadata_of_every_alphabet_are_taken(stack: Stack) -> None:
    with client(stack, "s3", s3={"payload_signing_enabled": False}) as s3:
        metadata = {"note": "two  blanks", "under_score": "1", "dash-ed": "2"}
        s3.put_object(Bucket=BUCKET, Key="unsigned", Body=BYTES, Metadata=metadata, Tagging="a=%C3%BC%20b")
        assert stored(s3, "unsigned") == BYTES
        assert s3.head_object(Bucket=BUCKET, Key="unsigned")["Metadata"] == metadata
        assert s3.get_object_tagging(Bucket=BUCKET, Key="unsigned")["TagSet"] == [{"Key": "a", "Value": "ü b"}]


def test_a_body_that_its_checksum_contradicts_is_not_stored(stack: Stack, s3: Any) -> None:
    other = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
    for digest, code in ((other, "BadDigest"), ("nonsense", "InvalidDigest")):
        with pytest.raises(ClientError) as found:
            s3.put_object(Bucket=BUCKET, Key="damaged", Body=b"body", ContentMD5=digest)
        assert found.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError) as found:
        s3.put_object(Bucket=BUCKET, Key="damaged", Body=b"body", ChecksumCRC32="AAAAAA==")
    assert found.value.response["Error"]["Code"] == "BadDigest"
    # The client goes away in the middle.
    split = urllib.parse.urlsplit(stack.environment["AWS_ENDPOINT_URL"])
    connection = http.client.HTTPConnection(split.netloc, timeout=100)
    connection.putrequest("PUT", target_of(put_url(s3, "damaged")))
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"the beginning")
    assert connection.sock is not None
    connection.sock.shutdown(1)
    assert connection.getresponse().status == 400
    connection.close()
    assert not s3.list_objects_v2(Bucket=BUCKET, Prefix="damaged").get("Contents")


def test_head_ranges_and_conditions_are_answered(s3: Any) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key="parts of it", Body=b"0123456789")["ETag"]
    assert s3.get_object(Bucket=BUCKET, Key="parts of it", Range="bytes=2-4")["Body"].read() == b"234"
    assert s3.get_object(Bucket=BUCKET, Key="parts of it", Range="bytes=-3")["Body"].read() == b"789"
    assert s3.head_object(Bucket=BUCKET, Key="parts of it")["ContentLength"] == 10
    assert s3.get_object(Bucket=BUCKET, Key="parts of it", IfMatch=etag)["Body"].read() == b"0123456789"
    for options, status in (({"IfMatch": '"other"'}, 412), ({"IfNoneMatch": etag}, 304), ({"Range": "bytes=20-"}, 416)):
        with pytest.raises(ClientError) as found:
            s3.get_object(Bucket=BUCKET, Key="parts of it", **options)
        assert found.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    with pytest.raises(ClientError) as found:
        s3.put_object(Bucket=BUCKET, Key="parts of it", Body=b"x", IfNoneMatch="*")
    assert found.value.response["Error"]["Code"] == "PreconditionFailed"


def test_another_region_is_named_and_boto3_s_s3_finds_the_right_one(stack: Stack) -> None:
    with client(stack, "s3", region="eu-west-1") as s3:
        s3.put_object(Bucket=BUCKET, Key="from elsewhere", Body=b"x")
        assert stored(s3, "from elsewhere") == b"x"
    with client(stack, "sqs", region="eu-west-1") as sqs, pytest.raises(ClientError, match="expecting 'us-east-1'"):
        sqs.list_queues()


# --- What `lex-ingest env` prints ----------------------------------------------------------------------------------------


def test_the_environment_of_clients_has_the_names_that_aws_sdks_read(stack: Stack) -> None:
    names = {name for name in stack.environment if name.startswith("AWS_")}
    assert names == {
        "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION",
    }  # fmt: skip
    assert BOTOCORE_DEFAUT_SESSION_VARIABLES["region"][1] == "AWS_DEFAULT_REGION"
    code = (
        "import boto3, os; s = boto3.client('sqs'); print(os.environ['QUEUE_URL'] in s.list_queues()['QueueUrls']);"
        "print(boto3.client('s3').head_bucket(Bucket=os.environ['BUCKET'])['ResponseMetadata']['HTTPStatusCode'])"
    )
    # Somebody who works with AWS has a session token and a region of his own.
    environment = {"PATH": os.environ["PATH"], "AWS_SESSION_TOKEN": "of another account", "AWS_REGION": "eu-west-1"}
    done = subprocess.run(
        ["bash", "-euc", f'eval "$({shell_env(stack)})"; exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}'],
        env=environment, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "200"], done.stderr


def shell_env(stack: Stack) -> str:
    return shlex.join([str(Path(sys.executable).with_name("lex-ingest")), "env", "--data-dir", str(stack.data_dir)])


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_aws_sqs_of_the_command_line_is_sent_to_the_stack(stack: Stack, tmp_path: Path, shell: str) -> None:
    """Version 1 of the AWS CLI takes no endpoint for SQS from the environment. A program that prints its arguments is run."""
    aws = tmp_path / "aws"
    aws.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    aws.chmod(0o755)
    script = f'eval "$({shell_env(stack)})"; aws sqs send-message --message-body "two  words"; echo; aws s3 ls'
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([shell, "-euc", script], env=environment, capture_output=True, text=True, check=True, timeout=100)
    endpoint = stack.environment["AWS_ENDPOINT_URL"]
    assert done.stdout.splitlines() == [f"sqs|--endpoint-url|{endpoint}|send-message|--message-body|two  words|", "s3|ls|"]


def test_a_missing_key_is_404_for_whom_may_read_and_403_for_others(stack: Stack, s3: Any) -> None:
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "missing"})
    with pytest.raises(urllib.error.HTTPError) as found:
        urllib.request.urlopen(url, timeout=100)
    assert found.value.code == 404
    found.value.close()
    assert send(stack, "GET", f"/{BUCKET}/missing").status == 403
