"""Signatures of requests to the local S3 and SQS: what AWS' own documentation signed is right, and nothing else is."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from infra.local.aws import payload
from infra.local.aws.authentication import Keys, authenticate
from infra.local.aws.errors import ApiError
from infra.local.aws.request import Request

# The example key pair and time of the pages "Authenticating Requests (AWS Signature Version 4)".
KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = datetime(2013, 5, 24, tzinfo=UTC)
EMPTY = hashlib.sha256(b"").hexdigest()
SCOPE = "20130524/us-east-1/s3/aws4_request"


def verified(request: Request, keys: Keys = KEYS, now: datetime = NOW, body: bytes = b"") -> Any:
    return authenticate(request, keys, now, lambda: hashlib.sha256(body).hexdigest())


def refused(request: Request, keys: Keys = KEYS, now: datetime = NOW) -> tuple[int, str]:
    with pytest.raises(ApiError) as found:
        verified(request, keys, now)
    return found.value.status, found.value.code


def signed(signature: str, names: str, path: str = "/test.txt", query: str = "", method: str = "GET", **more: str) -> Request:
    """A request of the documentation, with its Authorization header."""
    headers = {"host": "examplebucket.s3.amazonaws.com", "x-amz-content-sha256": EMPTY, "x-amz-date": "20130524T000000Z"}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    credential = f"Credential={KEYS.access_key_id}/{SCOPE}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential},SignedHeaders={names},Signature={signature}"
    return Request(method, path, query, headers)


GET = signed(
    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    "host;range;x-amz-content-sha256;x-amz-date",
    range="bytes=0-9",
)
PRESIGNED = Request(
    "GET",
    "/test.txt",
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    {"host": "examplebucket.s3.amazonaws.com"},
)


@pytest.mark.parametrize(
    "request_",
    [
        GET,
        signed(
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            path="/test%24file.text",
            method="PUT",
            date="Fri, 24 May 2013 00:00:00 GMT",
            x_amz_storage_class="REDUCED_REDUNDANCY",
            x_amz_content_sha256=hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
        ),
        signed(
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            "host;x-amz-content-sha256;x-amz-date",
            path="/",
            query="lifecycle",
        ),
        signed(
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            "host;x-amz-content-sha256;x-amz-date",
            path="/",
            query="prefix=J&max-keys=2",
        ),
        PRESIGNED,
    ],
    ids=["get", "put", "subresource", "list", "presigned"],
)
def test_the_examples_of_the_documentation_are_right(request_: Request) -> None:
    assert verified(request_).service == "s3"


def changed(request: Request, **fields: Any) -> Request:
    headers = {**request.headers, **fields.pop("headers", {})}
    return dataclasses.replace(request, headers=headers, **fields)


@pytest.mark.parametrize("request_", [GET, PRESIGNED], ids=["header", "query"])
@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"method": "DELETE"}, (403, "SignatureDoesNotMatch")),
        ({"path": "/other.txt"}, (403, "SignatureDoesNotMatch")),
        ({"headers": {"host": "127.0.0.1:1"}}, (403, "SignatureDoesNotMatch")),
        ({"headers": {"x-amz-copy-source": "/documents/secret"}}, (403, "AccessDenied")),
        ({"headers": {"x-amz-acl": "public-read"}}, (403, "AccessDenied")),
    ],
    ids=["method", "path", "host", "copy source", "acl"],
)
def test_what_was_signed_can_not_be_changed_or_added_to(request_: Request, change: Any, answer: Any) -> None:
    assert refused(changed(request_, **dict(change))) == answer


@pytest.mark.parametrize("request_", [GET, PRESIGNED], ids=["header", "query"])
def test_a_parameter_can_not_be_added(request_: Request) -> None:
    assert refused(changed(request_, query=f"{request_.query}&acl".lstrip("&"))) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("request_", [GET, PRESIGNED], ids=["header", "query"])
def test_another_key_is_refused(request_: Request) -> None:
    assert refused(request_, Keys("LXIAOTHER", KEYS.secret_access_key)) == (403, "InvalidAccessKeyId")
    assert refused(request_, Keys(KEYS.access_key_id, "another secret")) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("minutes", [-15, 15])
def test_a_clock_may_differ_by_a_quarter_of_an_hour(minutes: int) -> None:
    beyond = timedelta(seconds=1 if minutes > 0 else -1)
    assert verified(GET, now=NOW + timedelta(minutes=minutes))
    assert refused(GET, now=NOW + timedelta(minutes=minutes) + beyond) == (403, "RequestTimeTooSkewed")


def test_a_presigned_address_expires_and_is_not_for_the_future() -> None:
    assert verified(PRESIGNED, now=NOW + timedelta(days=1))
    assert refused(PRESIGNED, now=NOW + timedelta(days=1, seconds=1)) == (403, "AccessDenied")
    assert refused(PRESIGNED, now=NOW - timedelta(minutes=16)) == (403, "AccessDenied")


@pytest.mark.parametrize("expires", ["604801", "0", "-1", "1e3", "", "²", "9" * 5000])
def test_an_expiry_is_a_number_of_seconds_within_a_week(expires: str) -> None:
    request = changed(PRESIGNED, query=PRESIGNED.query.replace("=86400", f"={expires}"))
    assert refused(request) == (400, "AuthorizationQueryParametersError")


@pytest.mark.parametrize("time", ["00010101T000000Z", "99991231T235959Z", "yesterday", ""])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    query = PRESIGNED.query.replace("20130524T000000Z", time).replace("20130524", time[:8])
    assert refused(changed(PRESIGNED, query=query))[0] in (400, 403)


@pytest.mark.parametrize(
    ("region", "service", "answer"),
    [
        ("eu-west-1", "s3", (400, "AuthorizationHeaderMalformed")),
        ("us-east-1", "sns", (403, "AccessDenied")),
        ("us-east-1", "events", (403, "AccessDenied")),
        ("us-east-1", "moto_api", (403, "AccessDenied")),
    ],
)
def test_only_s3_and_sqs_of_one_region_answer(region: str, service: str, answer: Any) -> None:
    request = AWSRequest(method="GET", url="http://127.0.0.1/", headers={"X-Amz-Content-SHA256": EMPTY})
    SigV4Auth(Credentials(KEYS.access_key_id, KEYS.secret_access_key), service, region).add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()} | {"host": "127.0.0.1"}
    assert refused(Request("GET", "/", "", headers), now=datetime.now(UTC)) == answer


@pytest.mark.parametrize(
    ("authorization", "answer"),
    [
        ("AWS AKIAIOSFODNN7EXAMPLE:abc=", (400, "InvalidRequest")),
        ("Basic dXNlcjpwYXNz", (400, "InvalidRequest")),
        ("AWS4-HMAC-SHA256 Credential=a", (400, "AuthorizationHeaderMalformed")),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c", (400, "AuthorizationHeaderMalformed")),
        ("", (400, "InvalidRequest")),
    ],
)
def test_an_authorization_header_of_another_form_is_refused(authorization: str, answer: Any) -> None:
    assert refused(changed(GET, headers={"authorization": authorization})) == answer


def test_a_request_without_a_signature_or_with_two_is_refused() -> None:
    assert refused(Request("GET", "/documents", "", {"host": "127.0.0.1"})) == (403, "AccessDenied")
    assert refused(changed(GET, query=PRESIGNED.query)) == (400, "InvalidArgument")


def presigned(signer: type, method: str = "GET", url: str = "http://127.0.0.1/documents/k", **headers: str) -> Request:
    request = AWSRequest(method=method, url=url, headers=headers)
    arguments = ("s3", "us-east-1") if signer is S3SigV4QueryAuth else ()
    signer(Credentials(KEYS.access_key_id, KEYS.secret_access_key), *arguments).add_auth(request)
    split = urlsplit(request.url)
    return Request(method, split.path, split.query, {"host": "127.0.0.1"})


@pytest.mark.parametrize("signer", [HmacV1QueryAuth, S3SigV4QueryAuth])
def test_a_url_of_either_version_serves_any_content_type_if_none_was_signed(signer: type) -> None:
    now = datetime.now(UTC)
    request = presigned(signer, "PUT")
    for content_type in ({}, {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "application/pdf"}):
        assert verified(changed(request, headers=content_type), now=now)
    with_type = presigned(HmacV1QueryAuth, "PUT", **{"Content-Type": "text/plain"})
    assert verified(with_type, now=now).headers == {"content-type": "text/plain"}
    assert verified(changed(with_type, headers={"content-type": "text/plain"}), now=now)
    assert refused(changed(with_type, headers={"content-type": "text/html"}), now=now) == (403, "SignatureDoesNotMatch")


def test_an_expiry_of_version_2_is_a_number() -> None:
    for expires in ("", "-1", "1e3", "²", "9" * 5000):
        query = f"AWSAccessKeyId={KEYS.access_key_id}&Signature=x&Expires={expires}"
        assert refused(Request("GET", "/documents/k", query, {"host": "127.0.0.1"})) == (403, "AccessDenied")


def test_version_2_covers_what_changes_the_meaning_of_a_request() -> None:
    now = datetime.now(UTC)
    assert verified(presigned(HmacV1QueryAuth, url="http://127.0.0.1/documents/k?versionId=7"), now=now).query == "versionId=7"
    request = presigned(HmacV1QueryAuth, "PUT")
    assert refused(changed(request, method="DELETE"), now=now) == (403, "SignatureDoesNotMatch")
    assert refused(changed(request, path="/documents/other"), now=now) == (403, "SignatureDoesNotMatch")
    for query in ("acl", "versionId=1", "x-amz-acl=public-read", "uploadId=1&partNumber=1"):
        assert refused(changed(request, query=f"{request.query}&{query}"), now=now) == (403, "SignatureDoesNotMatch")
    # The last ones mean acl, tagging and versionId to what reads them.
    for query in (
        "legal-hold", "retention", "encryption", "ownershipControls", "Expires=9999999999", "signature=x",
        "%61cl", "tag%67ing", "version%49d=1",
    ):  # fmt: skip
        assert refused(changed(request, query=f"{request.query}&{query}"), now=now) == (403, "AccessDenied")
    assert refused(changed(request, headers={"x-amz-copy-source": "/b/k"}), now=now) == (403, "SignatureDoesNotMatch")
    assert refused(request, now=now + timedelta(hours=2)) == (403, "AccessDenied")


def test_headers_that_a_url_holds_reach_the_object() -> None:
    request = presigned(S3SigV4QueryAuth, "PUT", "http://127.0.0.1/documents/k?x-amz-meta-colour=gr%C3%BCn&x-id=PutObject")
    found = verified(request, now=datetime.now(UTC))
    assert found.headers == {"x-amz-meta-colour": "grün".encode().decode("latin-1")}
    assert found.query == "x-id=PutObject"


# --- Bodies in chunks: the examples of "Transferring a payload in multiple chunks" ---------------------------------

_CHUNKS = [b"a" * 65536, b"a" * 1024, b""]


def chunked(signatures: list[str], trailer: bytes = b"") -> bytes:
    parts = [
        f"{len(data):x};chunk-signature={signature}\r\n".encode() + data + (b"\r\n" if data else b"")
        for data, signature in zip(_CHUNKS, signatures, strict=True)
    ]
    return b"".join(parts) + trailer + b"\r\n"


STREAM = Request(
    "PUT",
    "/examplebucket/chunkObject.txt",
    "",
    {
        **signed(
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
            "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
        ).headers,
        "host": "s3.amazonaws.com",
        "content-encoding": "aws-chunked",
        "content-length": "66824",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-decoded-content-length": "66560",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
    },
)
CHUNK_SIGNATURES = [
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
]


def test_the_chunks_of_the_documentation_are_read() -> None:
    signature = verified(STREAM)
    assert payload.decode(chunked(CHUNK_SIGNATURES), STREAM, signature) == (b"a" * 66560, {})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (chunked(CHUNK_SIGNATURES).replace(b"aaa", b"aab", 1), "SignatureDoesNotMatch"),
        (chunked(CHUNK_SIGNATURES)[65536 + 90 :], "SignatureDoesNotMatch"),  # without the first chunk
        (chunked([*CHUNK_SIGNATURES[:2], "0" * 64]), "SignatureDoesNotMatch"),
        (chunked(CHUNK_SIGNATURES)[:-86], "InvalidChunkSizeError"),
        (chunked(CHUNK_SIGNATURES)[:1000], "IncompleteBody"),
        (b"-1;chunk-signature=x\r\n", "InvalidChunkSizeError"),
        (b"1_0;chunk-signature=x\r\n", "InvalidChunkSizeError"),
        (b"", "InvalidChunkSizeError"),
    ],
    ids=["a byte", "left out", "the last", "no end", "cut", "negative", "underscore", "empty"],
)
def test_chunks_that_were_changed_are_refused(body: bytes, code: str) -> None:
    signature = verified(STREAM)
    with pytest.raises(ApiError) as found:
        payload.decode(body, STREAM, signature)
    assert found.value.code == code


def test_a_trailing_checksum_is_read_and_compared() -> None:
    headers = {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": "5"}
    request = Request("PUT", "/documents/k", "", headers)
    signature = dataclasses.replace(verified(GET), payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    right = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"  # zlib.crc32(b"hello") == 0x3610a686
    assert payload.decode(right, request, signature) == (b"hello", {"x-amz-checksum-crc32": "NhCmhg=="})
    for body, code in (
        (right.replace(b"hello", b"hullo"), "BadDigest"),
        (right.replace(b"NhCmhg==", b"NhCm"), "InvalidRequest"),
        (right.replace(b"x-amz-checksum-crc32:NhCmhg==\r\n", b""), "MalformedTrailerError"),
    ):
        with pytest.raises(ApiError) as found:
            payload.decode(body, request, signature)
        assert found.value.code == code


def test_chunks_with_a_signed_trailer_are_read_and_none_of_it_can_be_changed() -> None:
    data, trailer = b"hello", {"x-amz-checksum-crc32": "NhCmhg=="}
    request = Request("PUT", "/documents/k", "", {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": "5"})
    signature = dataclasses.replace(verified(GET), payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
    previous, body = signature.value, b""
    for chunk in (data, b""):
        text = [
            "AWS4-HMAC-SHA256-PAYLOAD", "20130524T000000Z", SCOPE, previous, EMPTY, hashlib.sha256(chunk).hexdigest(),
        ]  # fmt: skip
        previous = signature.sign("\n".join(text))
        body += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
    lines = hashlib.sha256(b"x-amz-checksum-crc32:NhCmhg==\n").hexdigest()
    last = signature.sign(f"AWS4-HMAC-SHA256-TRAILER\n20130524T000000Z\n{SCOPE}\n{previous}\n{lines}")
    body += f"x-amz-checksum-crc32:NhCmhg==\r\nx-amz-trailer-signature:{last}\r\n\r\n".encode()

    assert payload.decode(body, request, signature) == (data, trailer)
    for old, new in ((b"NhCmhg==", b"AAAAAA=="), (last.encode(), b"0" * 64)):
        with pytest.raises(ApiError) as found:
            payload.decode(body.replace(old, new), request, signature)
        assert found.value.code == "SignatureDoesNotMatch"


def test_a_body_is_what_its_signed_sum_says() -> None:
    signature = verified(GET)
    assert payload.decode(b"", GET, signature) == (b"", {})
    with pytest.raises(ApiError) as found:
        payload.decode(b"other", GET, signature)
    assert found.value.code == "XAmzContentSHA256Mismatch"
