"""Verification of request signatures, and of what a signature covers.

Accepted are Signature Version 4 in the Authorization header, in the query (a presigned URL) and in the policy of a form, and
the Version 2 query and form that boto3 makes by default in us-east-1. botocore's own signers compute the signature again, from
the request as it came; the pages "Authenticating Requests (AWS Signature Version 4)" and "Signing and authenticating REST
requests" of the S3 guides say what it must cover.

One deviation: a Version 2 URL that was signed without a content type may be used with any, as a Version 4 URL may, since
curl and urllib send one unasked. S3 refuses it.
"""

from __future__ import annotations

import email.utils
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from botocore.auth import SIGV4_TIMESTAMP, UNSIGNED_PAYLOAD, HmacV1QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from infra.local.aws.errors import ApiError, access_denied
from infra.local.aws.request import Request

REGION = "us-east-1"
SERVICES = ("s3", "sqs")
SKEW = timedelta(minutes=15)  # page "Authenticating Requests": what the clocks may differ by
LONGEST_EXPIRY = 604_800  # seconds: a week, the same page
_ALGORITHM = "AWS4-HMAC-SHA256"
_V4_QUERY = frozenset(
    ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature",
     "x-amz-security-token", "x-amz-content-sha256")
)  # fmt: skip
_V2_QUERY = frozenset(("awsaccesskeyid", "expires", "signature"))
# A Version 2 URL signs these as headers, though it carries them in the query.
_V2_HEADERS = ("content-type", "content-md5")
# Version 2 does not sign these, and they only choose what a listing shows.
_V2_LISTING = frozenset(
    ("prefix", "delimiter", "marker", "max-keys", "list-type", "continuation-token", "start-after", "encoding-type",
     "fetch-owner", "key-marker", "version-id-marker", "upload-id-marker", "max-uploads", "part-number-marker", "max-parts")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keys:
    """The key pair of the stack."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that was verified.

    ``payload`` describes the body: its sha256, that it is not signed, or how its chunks are signed. ``query`` is the request's
    query without the signature, ``headers`` are the headers that the query held. ``sign`` signs a string with the same key and
    date; the signature of the first chunk covers ``value``, and each later one covers the signature before it.
    """

    service: str
    payload: str
    query: str
    headers: dict[str, str]
    value: str = ""
    timestamp: str = ""
    sign: Callable[[str], str] | None = None

    @property
    def scope(self) -> str:
        return f"{self.timestamp[:8]}/{REGION}/{self.service}/aws4_request"


class _Version4(SigV4Auth):
    """botocore's signer, over exactly the headers that the request names, and its path as it came."""

    def __init__(self, keys: Keys, service: str) -> None:
        super().__init__(Credentials(keys.access_key_id, keys.secret_access_key), service, REGION)

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        return request.headers

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["payload"])

    def _normalize_url_path(self, path: str) -> str:
        # S3 signs the path encoded once; the paths of SQS hold nothing that a second encoding would change.
        return path


class _Version2(HmacV1QueryAuth):
    """botocore's signer of Version 2, for a URL that a client has made, with the expiry in it."""

    def __init__(self, keys: Keys, expires: str = "") -> None:
        super().__init__(Credentials(keys.access_key_id, keys.secret_access_key))
        self._at = expires

    def _get_date(self) -> str:
        return self._at


def authenticate(request: Request, keys: Keys, now: datetime, body_digest: Callable[[], str]) -> Signature:
    """Verify the request's signature.

    Args:
        body_digest: returns the sha256 of the body in hex. Called only if the signature covers it and no header names it.

    Raises:
        ApiError: the request has no signature, or its signature is wrong, expired or made with another key.
    """
    names = {name.lower() for name, _, _ in _parts(request.query)}
    found = [
        method
        for method, is_there in (
            (_by_header, "authorization" in request.headers),
            (_by_query, not names.isdisjoint({"x-amz-signature", "x-amz-algorithm"})),
            (_by_query_of_version_2, not names.isdisjoint({"signature", "awsaccesskeyid"})),
        )
        if is_there
    ]
    if not found:
        raise access_denied("The request is not signed: sign it with the keys that `lex-ingest env` prints.")
    if len(found) > 1:
        raise ApiError(400, "InvalidArgument", "Only one way to sign a request may be used at a time.")
    return found[0](request, keys, now, body_digest)


def _by_header(request: Request, keys: Keys, now: datetime, body_digest: Callable[[], str]) -> Signature:
    algorithm, _, rest = request.headers["authorization"].partition(" ")
    if algorithm != _ALGORITHM:
        raise ApiError(400, "InvalidRequest", f"This way to sign a request is not supported: use {_ALGORITHM}.")
    fields = dict(item.strip().partition("=")[::2] for item in rest.split(","))
    if fields.keys() != {"Credential", "SignedHeaders", "Signature"}:
        raise ApiError(
            400, "AuthorizationHeaderMalformed", "The Authorization header needs Credential, SignedHeaders, Signature."
        )
    timestamp = _timestamp(request.headers)
    service = _check_credential(fields["Credential"], keys, timestamp)
    _check_skew(timestamp, now)
    payload = request.headers.get("x-amz-content-sha256")
    if payload is None:
        if service == "s3":
            raise ApiError(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        payload = body_digest()
    signed = fields["SignedHeaders"].split(";")
    return _version_4(request, keys, service, timestamp, signed, payload, fields["Signature"])


def _by_query(request: Request, keys: Keys, now: datetime, body_digest: Callable[[], str]) -> Signature:
    found: dict[str, str] = {}
    for name, value, _ in _parts(request.query):
        if name.lower() in _V4_QUERY:
            if name.lower() in found:
                raise ApiError(400, "AuthorizationQueryParametersError", f"The query parameter {name} is given twice.")
            found[name.lower()] = value
    try:
        algorithm, credential, timestamp, expires, signed, given = (
            found[f"x-amz-{name}"] for name in ("algorithm", "credential", "date", "expires", "signedheaders", "signature")
        )
    except KeyError as error:
        raise ApiError(400, "AuthorizationQueryParametersError", f"The query parameter {error} is missing.") from None
    if algorithm != _ALGORITHM:
        raise ApiError(400, "AuthorizationQueryParametersError", f"X-Amz-Algorithm must be {_ALGORITHM}.")
    service = _check_credential(credential, keys, timestamp)
    age = now - _time(timestamp)
    if not (_is_number(expires) and 1 <= int(expires) <= LONGEST_EXPIRY):
        message = f"X-Amz-Expires must be a number of seconds from 1 to {LONGEST_EXPIRY}."
        raise ApiError(400, "AuthorizationQueryParametersError", message)
    if age < -SKEW:
        raise access_denied("Request is not valid yet")
    if age > timedelta(seconds=int(expires)):
        raise access_denied("Request has expired")
    names = signed.split(";")
    payload = UNSIGNED_PAYLOAD if service == "s3" else body_digest()
    if "x-amz-content-sha256" in names:
        payload = request.headers.get("x-amz-content-sha256", payload)
    return _version_4(request, keys, service, timestamp, names, found.get("x-amz-content-sha256", payload), given)


def _version_4(
    request: Request, keys: Keys, service: str, timestamp: str, signed: list[str], payload: str, given: str
) -> Signature:
    # A header that is not signed and changes what the request does could have been added by anybody who saw the request.
    loose = {name for name in request.headers if name.startswith("x-amz-")} - {"x-amz-content-sha256"} - set(signed)
    if loose or "host" not in signed:
        names = ", ".join(sorted(loose) or ["host"])
        raise ApiError(
            403, "AccessDenied", "There were headers present in the request which were not signed", HeadersNotSigned=names
        )
    headers = HTTPHeaders()
    for name in signed:
        headers[name] = _text(request.headers.get(name, ""))
    signer = _Version4(keys, service)
    pairs = [encoded for name, _, encoded in _parts(request.query) if name.lower() != "x-amz-signature"]
    url = f"http://server{quote(unquote_to_bytes(request.path.encode('latin-1')), safe='/-_.~')}?{'&'.join(pairs)}"
    canonical = AWSRequest(method=request.method, url=url, headers=dict(headers.items()))
    canonical.context |= {"timestamp": timestamp, "payload": payload}
    text = signer.string_to_sign(canonical, signer.canonical_request(canonical))
    if not is_equal(signer.signature(text, canonical), given):
        raise _mismatch()
    query, hoisted = _without_signature(request.query, _V4_QUERY)
    return Signature(service, payload, query, hoisted, given, timestamp, lambda text: signer.signature(text, canonical))


def _by_query_of_version_2(request: Request, keys: Keys, now: datetime, _: Callable[[], str]) -> Signature:
    found: dict[str, str] = {}
    for name, value, _encoded in _parts(request.query):
        if name.lower() in found:
            raise access_denied(f"The query parameter {name} is given twice.")
        found[name.lower()] = value
    if not found.keys() >= _V2_QUERY:
        raise access_denied("Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
    # The string that Version 2 signs leaves out a name like `%61cl`, which the query's reader takes for `acl`.
    if any(set("%+") & set(part.partition("=")[0]) for part in request.query.split("&")):
        raise access_denied("A Version 2 signature does not cover query parameters with encoded names: use Version 4.")
    _check_key(found["awsaccesskeyid"], keys)
    expires = found["expires"]
    if not _is_number(expires):
        raise access_denied("Expires must be a number of seconds since 1970.")
    if now.timestamp() > int(expires):
        raise access_denied("Request has expired")
    query, hoisted = _without_signature(request.query, _V2_QUERY, _V2_HEADERS)
    loose = {name for name, _, _ in _parts(query)} - {*HmacV1QueryAuth.QSAOfInterest, *_V2_LISTING, "x-id"}
    if loose:
        raise access_denied(f"A Version 2 signature does not cover the query parameter {min(loose)}: use Version 4.")
    headers = {name: value for name, value in request.headers.items() if name.startswith("x-amz-") or name in _V2_HEADERS}
    if any(headers.get(name, value) != value for name, value in hoisted.items()):
        raise _mismatch()
    headers |= hoisted
    bare = {name: value for name, value in headers.items() if name != "content-type"}
    split = urlsplit(f"http://server{request.path}?{request.query}")
    for candidate in (headers, bare):
        signer_headers: Any = HTTPHeaders()
        for name, value in candidate.items():
            signer_headers[name] = _text(value)
        if is_equal(_Version2(keys, expires).get_signature(request.method, split, signer_headers), found["signature"]):
            return Signature("s3", UNSIGNED_PAYLOAD, query, hoisted)
    raise _mismatch()


def authenticate_policy(fields: dict[str, str], keys: Keys, now: datetime) -> None:
    """Verify the signature of a form's policy. ``fields`` are the form's, their names in lower case.

    Raises:
        ApiError: the policy has no signature, or its signature is wrong or made with another key.
    """
    if "policy" not in fields:
        raise access_denied("The form has no signed policy: make one with generate_presigned_post.")
    policy = fields["policy"]
    if "x-amz-signature" in fields:
        timestamp = fields.get("x-amz-date", "")
        service = _check_credential(fields.get("x-amz-credential", ""), keys, timestamp)
        if fields.get("x-amz-algorithm") != _ALGORITHM or service != "s3":
            raise ApiError(400, "InvalidArgument", f"A form is signed for the service s3 with {_ALGORITHM}.")
        if _time(timestamp) > now + SKEW:
            raise access_denied("Request is not valid yet")
        request = AWSRequest(method="POST", url="http://server/")
        request.context["timestamp"] = timestamp
        right, given = _Version4(keys, service).signature(policy, request), fields["x-amz-signature"]
    else:
        _check_key(fields.get("awsaccesskeyid", ""), keys)
        right, given = _Version2(keys).sign_string(policy), fields.get("signature", "")
    if not is_equal(right, given):
        raise _mismatch()


def _check_credential(credential: str, keys: Keys, timestamp: str) -> str:
    """The service that the credential names."""
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request" or parts[1] != timestamp[:8]:
        message = "The credential must be ACCESS_KEY_ID/DATE/REGION/SERVICE/aws4_request, with the date of the request."
        raise ApiError(400, "AuthorizationHeaderMalformed", message)
    key, _, region, service, _ = parts
    _check_key(key, keys)
    if service not in SERVICES:
        raise access_denied(f"The local stack has S3 and SQS; it has no service {service!r}.")
    if region != REGION:
        # boto3's S3 client reads the element and tries again with that region.
        raise ApiError(
            400, "AuthorizationHeaderMalformed", f"The region {region!r} is wrong; expecting {REGION!r}", Region=REGION
        )
    return service


def _check_key(given: str, keys: Keys) -> None:
    if not is_equal(keys.access_key_id, given):
        raise ApiError(403, "InvalidAccessKeyId", "The access key ID is not this stack's: `lex-ingest env` prints the right one.")


def _check_skew(timestamp: str, now: datetime) -> None:
    if abs(now - _time(timestamp)) > SKEW:
        message = "The difference between the request time and the server's time is too large."
        raise ApiError(403, "RequestTimeTooSkewed", message, RequestTime=timestamp, ServerTime=now.strftime(SIGV4_TIMESTAMP))


def _timestamp(headers: dict[str, str]) -> str:
    if "x-amz-date" in headers:
        return headers["x-amz-date"]
    try:
        return email.utils.parsedate_to_datetime(headers["date"]).astimezone(UTC).strftime(SIGV4_TIMESTAMP)
    except (KeyError, ValueError):
        raise access_denied("AWS authentication requires a valid Date or x-amz-date header") from None


def _is_number(text: str) -> bool:
    """Whether the text is a number of seconds that any clock could mean. int() refuses thousands of digits."""
    return text.isascii() and text.isdecimal() and len(text) <= 20


def _time(timestamp: str) -> datetime:
    try:
        return datetime.strptime(timestamp, SIGV4_TIMESTAMP).replace(tzinfo=UTC)
    except ValueError:
        raise access_denied(f"The time {timestamp!r} is not of the form 20261126T120000Z.") from None


def _parts(query: str) -> Iterator[tuple[str, str, str]]:
    """Each parameter's name and value, and both as a signature encodes them. A plus is a space, as moto reads it."""
    for part in filter(None, query.split("&")):
        raw = [unquote_to_bytes(item.replace("+", " ").encode("latin-1")) for item in part.partition("=")[::2]]
        name, value = (item.decode("utf-8", "surrogateescape") for item in raw)
        yield name, value, "=".join(quote(item, safe="-_.~") for item in raw)


def _without_signature(query: str, names: frozenset[str], as_headers: tuple[str, ...] = ()) -> tuple[str, dict[str, str]]:
    """Split the query: the query without ``names`` and without parameters that are headers, and these headers in Latin-1."""
    kept, headers = [], {}
    for name, value, encoded in _parts(query):
        lower = name.lower()
        if lower in names:
            continue
        if lower.startswith("x-amz-") or lower in as_headers:
            headers[lower] = value.encode("utf-8", "surrogateescape").decode("latin-1")
        else:
            kept.append(encoded)
    return "&".join(kept), headers


def _text(value: str) -> str:
    """A header's bytes as the client's text; botocore signs its UTF-8."""
    raw = value.encode("latin-1")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return value


def is_equal(right: str, given: str) -> bool:
    """Compare a secret with a client's text, in a time that does not tell how much of it is right."""
    return hmac.compare_digest(right.encode(), given.encode("utf-8", "surrogateescape"))


def _mismatch() -> ApiError:
    message = "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    return ApiError(403, "SignatureDoesNotMatch", message)
