"""Who may use the local S3 and SQS: the holder of the stack's keys, and no web page that its bucket does not name."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from infra.local.folder import Folder
from infra.local.stack import Stack
from tests.support.local_aws import BUCKET, Answer, aws_stack, client, send, target_of

CASES = Path(__file__).parents[3] / "shared" / "cases"
EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with aws_stack(tmp_path_factory.mktemp("aws access")) as running:
        with client(running, "s3") as s3:
            s3.put_object(Bucket=BUCKET, Key="KEY", Body=b"secret")
        yield running


@pytest.fixture(scope="module")
def s3(stack: Stack) -> Iterator[Any]:
    with client(stack, "s3") as made:
        yield made


def is_untouched(s3: Any) -> bool:
    listed = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    return listed == ["KEY"] and s3.get_object(Bucket=BUCKET, Key="KEY")["Body"].read() == b"secret"


def signed(stack: Stack, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    """A request signed as S3's, with more headers than those that the signature covers."""
    endpoint, environment = stack.environment["AWS_ENDPOINT_URL"], stack.environment
    request = AWSRequest(method=method, url=endpoint + target, data=body)
    credentials = Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    return send(stack, method, target, {**dict(request.headers.items()), **(headers or {})}, body)


# --- What a web page, another user or a program without the keys sends ----------------------------------------------

DELETE = b"<Delete><Object><Key>KEY</Key></Object></Delete>"
FORM = b"--b\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n"
PLANT = FORM % (b"key", b"evil.txt") + FORM % (b"file; filename=x", b"evil") + b"--b--\r\n"


@pytest.mark.parametrize(
    ("method", "target", "headers", "body"),
    [
        ("GET", "/", {}, b""),
        ("GET", f"/{BUCKET}?list-type=2", {}, b""),
        ("HEAD", f"/{BUCKET}/KEY", {}, b""),
        ("GET", f"/{BUCKET}/KEY", {}, b""),
        ("GET", f"/{BUCKET}/KEY?AWSAccessKeyId=x&Signature=y&Expires=9999999999", {}, b""),
        ("PUT", f"/{BUCKET}/evil.txt", {}, b"evil"),
        ("DELETE", f"/{BUCKET}/KEY", {}, b""),
        ("POST", f"/{BUCKET}/KEY", {"X-HTTP-Method-Override": "DELETE"}, b""),
        ("POST", f"/{BUCKET}?delete", {"Content-Type": "text/plain"}, DELETE),
        ("POST", f"/{BUCKET}", {"Content-Type": "multipart/form-data; boundary=b"}, PLANT),
        ("POST", f"/{BUCKET}", {"Content-Type": "multipart/form-data"}, PLANT),
        ("POST", "/", {"Content-Type": "multipart/form-data; boundary=b"}, PLANT),
        ("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, b"Action=ListQueues&Version=2012-11-05"),
        ("POST", "/", {"X-Amz-Target": "AmazonSQS.ListQueues", "Content-Type": "application/x-amz-json-1.0"}, b"{}"),
        ("POST", "/", {"X-Amz-Target": "SNS.Subscribe", "Content-Type": "application/x-amz-json-1.0"}, b"{}"),
        ("GET", "/?Action=Subscribe&Protocol=http&Endpoint=http://evil.example", {}, b""),
        ("POST", "/moto-api/reset", {}, b""),
        ("POST", "/moto-api/recorder/replay-recording", {}, b""),
        ("POST", "/moto-api/recorder/upload-recording", {}, b"{}"),
        ("GET", "/moto-api/data.json", {}, b""),
        ("POST", f"/{BUCKET}/../moto-api/reset", {}, b""),
        ("POST", "//moto-api/reset", {}, b""),
        ("POST", "/moto-api%2Freset", {}, b""),
        ("POST", "/MOTO-API/reset", {}, b""),
        ("POST", "/./moto-api/reset", {}, b""),
        ("POST", "/moto-api;x/reset", {}, b""),
        ("GET", "/latest/meta-data/iam/security-credentials/", {}, b""),
        ("GET", "/favicon.ico", {}, b""),
        ("PUT", f"/{BUCKET}/%ff", {}, b""),
        ("PATCH", f"/{BUCKET}/KEY", {}, b""),
        ("TRACE", "/", {}, b""),
        ("GET", "http://evil.example/", {}, b""),
        ("POST", "http://127.0.0.1/moto-api/reset", {}, b""),
        ("OPTIONS", "*", {}, b""),
        ("OPTIONS", f"/{BUCKET}", {}, b""),
        ("OPTIONS", f"/{BUCKET}/KEY", {"Access-Control-Request-Method": "PUT"}, b""),
        ("GET", f"/{BUCKET}/KEY", {"Authorization": "AWS4-HMAC-SHA256 Credential=local/20261126/us-east-1/s3/aws4_request"}, b""),
        ("GET", f"/{BUCKET}/KEY", {"x-moto-account-id": "1"}, b""),
    ],
)
@pytest.mark.parametrize("origin", ["", EVIL], ids=["program", "page"])
def test_what_is_not_signed_is_refused(
    stack: Stack, s3: Any, method: str, target: str, headers: dict[str, str], body: bytes, origin: str
) -> None:
    answer = send(stack, method, target, {**headers, "Origin": origin, "Sec-Fetch-Site": "cross-site"}, body)
    assert 400 <= answer.status < 500
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert b"secret" not in answer.body
    assert is_untouched(s3)


def test_the_attacks_of_the_shared_script_are_refused(stack: Stack, s3: Any) -> None:
    script = CASES / "moto_attacks.sh"
    if not script.exists():
        pytest.skip("the shared cases are not beside this checkout; the list above has each of these requests")
    done = subprocess.run(["bash", script, stack.environment["AWS_ENDPOINT_URL"]], capture_output=True, text=True, check=False)
    # A body without a line end stands before the next answer.
    assert re.findall(r"HTTP/1\.1 (\d+)", done.stdout) == ["403"] * 6
    assert "access-control" not in done.stdout.lower()
    assert is_untouched(s3)


# --- Where a request is addressed to -----------------------------------------------------------------------------------


def test_a_foreign_host_is_refused_whatever_the_signature(stack: Stack, s3: Any) -> None:
    port = urllib.parse.urlsplit(stack.environment["AWS_ENDPOINT_URL"]).port
    target = target_of(s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "KEY"}))  # covers no host
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert send(stack, "GET", target, host=host).body == b"secret"
    hosts = [
        f"evil.example:{port}", "evil.example", f"127.0.0.1:{port + 1}", f"{BUCKET}.localhost:{port}", f"127.0.0.1.nip.io:{port}",
        f"0.0.0.0:{port}", f"127.0.0.2:{port}", f"127.1:{port}", f"user@127.0.0.1:{port}", f"127.0.0.1:{port},evil.example",
        f"evil.example\t127.0.0.1:{port}", "",
    ]  # fmt: skip
    for host in hosts:
        assert send(stack, "GET", target, host=host).status == 403, host


def test_a_request_that_can_be_read_in_two_ways_is_refused(stack: Stack, s3: Any) -> None:
    target = target_of(s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "smuggled"}))
    second = b"0\r\n\r\nGET /moto-api/reset HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for headers in (
        {"Content-Length": "4", "Transfer-Encoding": "chunked"},
        {"Content-Length": str(len(second)), "content-length": "0"},
        {"Content-Length": "+4"},
        {"Content-Length": "-1"},
        {"Content-Length": "9" * 5000},
        {"Transfer-Encoding": "chunked, identity"},
        {"Transfer-Encoding": "\x0bchunked"},
    ):
        assert send(stack, "PUT", target, headers, second).status in (400, 501), headers
    assert send(stack, "PUT", target, {"Transfer-Encoding": "chunked"}, b"zz\r\nbad").status == 400
    assert is_untouched(s3)


# --- Signatures of others ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["s3v4", "s3"])
@pytest.mark.parametrize(
    ("wrong", "code"), [({"key": "LXIAOTHER"}, "InvalidAccessKeyId"), ({"secret": "other"}, "SignatureDoesNotMatch")]
)
def test_another_key_is_refused_in_every_way_to_sign(
    stack: Stack, s3: Any, version: str, wrong: dict[str, str], code: str
) -> None:
    with client(stack, "s3", signature_version=version, **wrong) as other:
        for method, operation in (("GET", "get_object"), ("PUT", "put_object"), ("DELETE", "delete_object")):
            url = other.generate_presigned_url(operation, Params={"Bucket": BUCKET, "Key": "KEY"})
            answer = send(stack, method, target_of(url), body=b"evil" if method == "PUT" else b"")
            assert (answer.status, answer.code) == (403, code)
        fields = other.generate_presigned_post(BUCKET, "KEY")["fields"]
        assert post(stack, fields).code == code
        if version == "s3v4":
            with pytest.raises(ClientError) as found:
                other.get_object(Bucket=BUCKET, Key="KEY")
            assert found.value.response["Error"]["Code"] == code
            assert found.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert is_untouched(s3)


def test_sqs_refuses_in_its_own_form(stack: Stack) -> None:
    for wrong, code in (({"key": "LXIAOTHER"}, "InvalidClientTokenId"), ({"secret": "other"}, "SignatureDoesNotMatch")):
        with client(stack, "sqs", **wrong) as other, pytest.raises(ClientError) as found:
            other.list_queues()
        assert found.value.response["Error"]["Code"] == code
        assert found.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    answer = call(stack, "sqs", {"Action": "ListQueues", "Version": "2012-11-05"}, secret="other")
    assert answer.status == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in answer.body


def call(stack: Stack, service: str, parameters: dict[str, str], secret: str = "") -> Answer:
    """A signed request of the query protocol, in which older SDKs and SNS speak."""
    environment = stack.environment
    body = urllib.parse.urlencode(parameters).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    request = AWSRequest(method="POST", url=environment["AWS_ENDPOINT_URL"] + "/", headers=headers, data=body)
    credentials = Credentials(environment["AWS_ACCESS_KEY_ID"], secret or environment["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(credentials, service, "us-east-1").add_auth(request)
    return send(stack, "POST", "/", dict(request.headers.items()), body)


def test_the_query_protocol_of_sqs_is_answered_and_other_services_are_not(stack: Stack) -> None:
    assert b"lex-ingest-events" in call(stack, "sqs", {"Action": "ListQueues", "Version": "2012-11-05"}).body
    subscription = {"Action": "Subscribe", "Protocol": "http", "Endpoint": "http://evil.example", "TopicArn": "arn:aws:sns:a:b:c"}
    for service, parameters in (("sns", subscription), ("events", {}), ("sts", {"Action": "GetCallerIdentity"}), ("iam", {})):
        answer = call(stack, service, parameters)
        assert (answer.status, b"AccessDenied" in answer.body) == (403, True)


def test_the_time_of_a_signature_ends(stack: Stack, s3: Any) -> None:
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "KEY"}, ExpiresIn=-5)
    answer = send(stack, "GET", target_of(url))
    assert (answer.status, answer.code, b"Request has expired" in answer.body) == (403, "AccessDenied", True)
    old = {"X-Amz-Date": "20200101T000000Z"}
    environment = stack.environment
    scope = f"{environment['AWS_ACCESS_KEY_ID']}/20200101/us-east-1/s3/aws4_request"
    old["Authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"
    answer = send(stack, "GET", f"/{BUCKET}/KEY", old)
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")


def test_headers_that_are_not_signed_mean_nothing(stack: Stack, s3: Any) -> None:
    answer = signed(stack, "GET", f"/{BUCKET}/KEY", {"x-amz-copy-source": "/b/k"})
    assert (answer.status, answer.code) == (403, "AccessDenied")
    odd = {"versionId": "1", "X-HTTP-Method-Override": "DELETE", "x-moto-account-id": "9", "User-Agent": "a region/eu-west-1"}
    answer = signed(stack, "GET", f"/{BUCKET}/KEY", odd)
    assert (answer.status, answer.body) == (200, b"secret")
    assert b"<Key>KEY</Key>" in signed(stack, "GET", f"/{BUCKET}", {"prefix": "nothing", "max-keys": "0"}).body
    assert is_untouched(s3)


def test_a_signed_request_reaches_nothing_besides_objects_and_queues(stack: Stack, s3: Any) -> None:
    for method, target in (("POST", "/moto-api/reset"), ("GET", "/moto-api/data.json"), ("POST", f"/{BUCKET}/../moto-api/reset")):
        assert signed(stack, method, target).status in (400, 403, 404, 405, 411, 501), target
    assert is_untouched(s3)


# --- Forms ------------------------------------------------------------------------------------------------------------------


def post(stack: Stack, fields: dict[str, str], file: bytes = b"form", headers: dict[str, str] | None = None) -> Answer:
    body = b"".join(FORM % (f'"{name}"'.encode(), value.encode()) for name, value in fields.items())
    body += FORM % (b'"file"; filename="C:\\\\docs\\\\a b.txt"', file) + b"--b--\r\n"
    return send(stack, "POST", f"/{BUCKET}", {"Content-Type": "multipart/form-data; boundary=b", **(headers or {})}, body)


def test_a_form_that_nobody_signed_takes_no_memory(stack: Stack) -> None:
    """Neither by its fields nor by a file, and it may have no end."""
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Transfer-Encoding": "chunked"}
    fields = b"".join(FORM % (b"f%d" % number, b"") for number in range(2000))
    unsigned = b"--b\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\n" + b"x" * 100_000
    endless = b"--b\r\n" + b"X-Header: x\r\n" * 100_000
    for body in (fields, unsigned, endless, b"x" * 2_000_000):
        assert send(stack, "POST", f"/{BUCKET}", headers, b"%x\r\n%s\r\n" % (len(body), body)).status in (400, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "multipart/form-data; boundary*=utf-8''%E2%82%AC"},
        {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "9" * 5000},
        {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": ""},
    ],
)
def test_a_form_that_can_t_be_read_is_the_sender_s_fault(stack: Stack, headers: dict[str, str]) -> None:
    assert send(stack, "POST", f"/{BUCKET}", headers, PLANT).status in (400, 403)


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_a_form_does_what_its_policy_says_and_nothing_else(stack: Stack, s3: Any, version: str) -> None:
    with client(stack, "s3", signature_version=version) as signer:
        conditions: list[Any] = [["starts-with", "$x-amz-meta-note", "a"], ["content-length-range", 2, 10]]
        fields = signer.generate_presigned_post(BUCKET, "in/${filename}", Conditions=conditions)["fields"]
        right = {**fields, "x-amz-meta-note": "abc"}
        answer = post(stack, {**right, "x-ignore-this": "1"})
        assert answer.status == 204
        found = s3.get_object(Bucket=BUCKET, Key="in/a b.txt")
        assert (found["Body"].read(), found["Metadata"]) == (b"form", {"note": "abc"})
        s3.delete_object(Bucket=BUCKET, Key="in/a b.txt")
        wrong: list[tuple[dict[str, str], bytes, str]] = [
            ({**right, "key": "other/k"}, b"form", "AccessDenied"),
            ({**right, "x-amz-meta-note": "b"}, b"form", "AccessDenied"),
            ({**right, "acl": "public-read"}, b"form", "AccessDenied"),
            ({**right, "x-amz-meta-more": "1"}, b"form", "AccessDenied"),
            (right, b"1", "EntityTooSmall"),
            (right, b"1" * 11, "EntityTooLarge"),
            ({name: value for name, value in right.items() if name != "policy"}, b"form", "AccessDenied"),
            ({**right, "policy": right["policy"][:-8]}, b"form", "SignatureDoesNotMatch"),
        ]
        for changed, file, code in wrong:
            assert post(stack, changed, file).code == code, changed
        expired = signer.generate_presigned_post(BUCKET, "late", ExpiresIn=-1)["fields"]
        assert b"Policy expired" in post(stack, expired).body
    assert is_untouched(s3)


def test_a_form_is_answered_as_it_asks(stack: Stack, s3: Any) -> None:
    fields: dict[str, str] = {"success_action_status": "201"}
    form = s3.generate_presigned_post(BUCKET, "KEY", Fields=fields, Conditions=[fields])["fields"]
    answer = post(stack, form, b"secret")
    assert answer.status == 201
    assert b"<Key>KEY</Key>" in answer.body
    fields = {"success_action_redirect": "http://127.0.0.1/done?x=1"}
    form = s3.generate_presigned_post(BUCKET, "KEY", Fields=fields, Conditions=[fields])["fields"]
    answer = post(stack, form, b"secret")
    assert answer.status == 303
    assert answer.headers["location"].startswith(f"http://127.0.0.1/done?x=1&bucket={BUCKET}&key=KEY&etag=")


# --- Pages of other origins -----------------------------------------------------------------------------------------------


def test_a_page_may_do_what_the_bucket_s_cors_rules_say_and_nothing_else(stack: Stack, s3: Any) -> None:
    app = "https://app.example"
    s3.create_bucket(Bucket="shared")
    get, put = (
        target_of(s3.generate_presigned_url(name, Params={"Bucket": "shared", "Key": "k"}))
        for name in ("get_object", "put_object")
    )
    browser = {"Origin": app, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site", "Referer": f"{app}/"}
    preflight = {**browser, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type,x-amz-acl"}

    assert (send(stack, "PUT", put, browser, b"x").status, send(stack, "OPTIONS", put, preflight).status) == (403, 403)

    rules = [
        {"AllowedOrigins": ["https://*.example"], "AllowedMethods": ["PUT"], "AllowedHeaders": ["Content-*", "x-amz-acl"],
         "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 60},
        {"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "HEAD"]},
    ]  # fmt: skip
    s3.put_bucket_cors(Bucket="shared", CORSConfiguration={"CORSRules": rules})
    allowed = send(stack, "OPTIONS", put, preflight)
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == app
    assert allowed.headers["access-control-allow-headers"] == "content-type, x-amz-acl"
    assert allowed.headers["access-control-max-age"] == "60"
    stored = send(stack, "PUT", put, browser, b"of a page")  # a Blob without a type, as fetch() sends it
    assert (stored.status, stored.headers["access-control-allow-origin"]) == (200, app)
    assert stored.headers["access-control-expose-headers"] == "ETag"
    read = send(stack, "GET", get, {"Origin": EVIL})
    assert (read.body, read.headers["access-control-allow-origin"]) == (b"of a page", "*")
    assert "access-control-allow-credentials" not in read.headers

    refused = [
        send(stack, "PUT", put, {"Origin": "https://evil.example.org"}, b"x"),
        send(stack, "PUT", put, {"Origin": "http://app.example"}, b"x"),
        send(stack, "PUT", put, {"Origin": "null"}, b"x"),
        send(stack, "PUT", put, {"Origin": f"{app}.evil"}, b"x"),
        send(stack, "OPTIONS", put, {**preflight, "Access-Control-Request-Method": "DELETE"}),
        send(stack, "OPTIONS", put, {**preflight, "Access-Control-Request-Headers": "authorization"}),
        send(stack, "PUT", "/shared/k", browser, b"x"),  # allowed, and not signed
        send(stack, "GET", "/shared?list-type=2", browser),
        send(stack, "GET", target_of(s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "KEY"})), browser),
    ]
    assert {answer.status for answer in refused} == {403}
    assert not [name for answer in refused for name in answer.headers if name.startswith("access-control-")]
    assert s3.get_object(Bucket="shared", Key="k")["Body"].read() == b"of a page"


def test_a_page_may_not_use_the_queues(stack: Stack) -> None:
    with client(stack, "sqs", attempts=1) as sqs:
        sqs.meta.events.register("before-send.sqs", lambda request, **_: request.headers.__setitem__("Origin", EVIL))
        with pytest.raises(ClientError, match="No CORS rule"):
            sqs.list_queues()


# --- Keys -------------------------------------------------------------------------------------------------------------------


def test_each_stack_has_keys_of_its_own_that_only_its_owner_may_read(stack: Stack, tmp_path: Path) -> None:
    folder = Folder.load(stack.data_dir)
    assert (stack.data_dir / "stack.json").stat().st_mode & 0o077 == 0
    environment = stack.environment
    assert environment["AWS_ACCESS_KEY_ID"] == folder.secrets["aws_access_key_id"]
    assert len(environment["AWS_ACCESS_KEY_ID"]) == 20
    assert len(environment["AWS_SECRET_ACCESS_KEY"]) >= 40
    with aws_stack(tmp_path) as other:
        assert other.environment["AWS_ACCESS_KEY_ID"] != environment["AWS_ACCESS_KEY_ID"]
        assert other.environment["AWS_SECRET_ACCESS_KEY"] != environment["AWS_SECRET_ACCESS_KEY"]
    arguments = (Path("/proc") / (stack.data_dir / "run" / "aws.pid").read_text().strip() / "cmdline").read_bytes()
    assert environment["AWS_SECRET_ACCESS_KEY"].encode() not in arguments


def test_a_folder_whose_keys_were_known_to_all_gets_new_ones(tmp_path: Path) -> None:
    with aws_stack(tmp_path) as first, client(first, "s3") as s3:
        s3.put_object(Bucket=BUCKET, Key="old", Body=b"kept")
    file = tmp_path / "stack.json"
    kept = json.loads(file.read_text())
    kept["secrets"] = {name: value for name, value in kept["secrets"].items() if not name.startswith("aws")}
    kept["environment"] |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    file.write_text(json.dumps(kept))
    with aws_stack(tmp_path) as second, client(second, "s3") as s3:
        assert second.environment["AWS_ACCESS_KEY_ID"] not in ("local", first.environment["AWS_ACCESS_KEY_ID"])
        assert s3.get_object(Bucket=BUCKET, Key="old")["Body"].read() == b"kept"
        with client(second, "s3", key="local", secret="local") as anybody, pytest.raises(ClientError, match="InvalidAccessKeyId"):
            anybody.list_buckets()
