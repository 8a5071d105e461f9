"""A browser's form that uploads one file: ``POST /bucket``, multipart, with a signed policy.

Page "POST Object" of the S3 API: the fields come before the file, the policy says which values they may have, and the
upload is a PUT of the file with the other fields as its headers. So the file is not read before the policy was verified.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import NEED_DATA, Data, Epilogue, Field, File, MultipartDecoder

from infra.local.aws.authentication import Keys, authenticate_policy
from infra.local.aws.errors import ApiError, access_denied
from infra.local.aws.payload import LARGEST_OBJECT

LARGEST_FIELDS = 20_000  # bytes, the page "POST Object"
_FIELD = 50  # bytes that a field is counted as besides its name and value, so that empty ones are not free
_BLOCK = 1 << 16
_BUFFER = 1 << 20  # bytes that the decoder may hold before it makes something of them: more than a block and a part's headers
# Fields that are of the form, not of the object. No condition need name the first five.
_UNCONDITIONAL = frozenset(("policy", "signature", "x-amz-signature", "awsaccesskeyid", "file"))
_OF_THE_FORM = _UNCONDITIONAL | {
    "key", "acl", "bucket", "success_action_status", "success_action_redirect", "redirect", "submit", "x-amz-algorithm",
    "x-amz-credential", "x-amz-date", "x-amz-security-token",
}  # fmt: skip
_HEADERS = (
    "content-type",
    "content-md5",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
)


@dataclass(frozen=True, slots=True)
class Upload:
    """The file of a form. ``headers`` are those of the equivalent PUT; ``status`` and ``redirect`` say how to answer the form."""

    key: str
    body: bytes
    headers: dict[str, str]
    status: int = 204
    redirect: str = ""


@dataclass(slots=True)
class _Form:
    bucket: str
    keys: Keys
    now: datetime
    fields: dict[str, str] = field(default_factory=dict)
    size: int = 0
    smallest: int = 0
    largest: int = LARGEST_OBJECT

    def count(self, size: int) -> None:
        """Add to the size of the fields before the file. They are read before the signature is known, so their size is bounded.

        Raises:
            ApiError: the fields are larger than a form may have.
        """
        self.size += size
        if self.size > LARGEST_FIELDS:
            raise ApiError(400, "MaxPostPreDataLengthExceeded", f"The fields before the file exceed {LARGEST_FIELDS} bytes.")


def read(stream: IO[bytes], length: int | None, content_type: str, bucket: str, keys: Keys, now: datetime) -> Upload:
    """Read the form, and verify its policy before its file is read.

    Args:
        length: the number of bytes in the stream; None for a chunked stream, which marks its own end.

    Raises:
        ApiError: the policy is missing, wrongly signed, expired or broken, or the form is not complete.
    """
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    if not boundary or not boundary.isascii():
        raise _malformed("The content type must be multipart/form-data with a boundary of ASCII characters.")
    form, decoder = _Form(bucket, keys, now), MultipartDecoder(boundary.encode(), _BUFFER)
    name, filename, value, file = "", "", bytearray(), bytearray()
    found = False
    while True:
        try:
            event = decoder.next_event()
        except ValueError:
            raise _malformed("The body is not multipart/form-data, or it ends before its last boundary.") from None
        if event is NEED_DATA:
            try:
                block = stream.read(_BLOCK if length is None else min(_BLOCK, length))
                decoder.receive_data(block or None)  # None says that there is no more
            except (OSError, RequestEntityTooLarge):
                raise _malformed("The body ends too early, or a part of it has no end of its headers.") from None
            length = length if length is None else length - len(block)
        elif isinstance(event, Field | File):
            name, filename, value = event.name.lower(), getattr(event, "filename", ""), bytearray()
            form.count(len(name) + _FIELD)
            if found:  # what follows the file is ignored, as S3 does
                break
            if name == "file":
                _begin_file(form, filename)
                found = True
        elif isinstance(event, Data) and name == "file":
            file += event.data
            if len(file) > form.largest:
                raise _too_large(form.largest)
        elif isinstance(event, Data):
            value += event.data
            form.count(len(event.data))
            if not event.more_data:
                if name in form.fields:
                    raise ApiError(400, "InvalidArgument", f"The field {name!r} is given twice.")
                form.fields[name] = value.decode("utf-8", "replace")
        elif isinstance(event, Epilogue):
            break
    if not found:
        raise access_denied("The form has no file after its signed policy.")
    if len(file) < form.smallest:
        raise ApiError(400, "EntityTooSmall", f"The policy asks for at least {form.smallest} bytes.")
    return _upload(form, bytes(file))


def _begin_file(form: _Form, filename: str) -> None:
    """Verify the fields before the file: the signature, the key and the policy."""
    fields = form.fields
    if "key" in fields:
        fields["key"] = fields["key"].replace("${filename}", filename.replace("\\", "/").rpartition("/")[2])
    authenticate_policy(fields, form.keys, form.now)
    _check_policy(form)
    if not fields.get("key"):
        raise ApiError(400, "InvalidArgument", "The form needs a field named key, which is not empty.")


def _check_policy(form: _Form) -> None:
    try:
        policy = json.loads(base64.b64decode(form.fields["policy"], validate=False))
        expiration = datetime.fromisoformat(policy["expiration"])
        conditions = list(_conditions(policy["conditions"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ApiError(400, "InvalidPolicyDocument", "The policy is not a document with expiration and conditions.") from None
    if (expiration if expiration.tzinfo else expiration.replace(tzinfo=UTC)) < form.now:
        raise access_denied("Invalid according to Policy: Policy expired.")
    values = {**form.fields, "bucket": form.bucket}
    covered = set()
    for kind, name, wanted in conditions:
        if kind == "content-length-range":
            form.smallest, form.largest = max(form.smallest, int(name)), min(form.largest, int(wanted))
            continue
        covered.add(name)
        given = values.get(name, "")
        if not (given == wanted if kind == "eq" else given.startswith(wanted)):
            raise access_denied(f'Invalid according to Policy: Policy Condition failed: ["{kind}", "${name}", "{wanted}"]')
    extra = {name for name in form.fields if not name.startswith("x-ignore-")} - covered - _UNCONDITIONAL
    if extra:
        raise access_denied(f"Invalid according to Policy: Extra input fields: {', '.join(sorted(extra))}")


def _conditions(found: Any) -> Any:
    """Each condition as its kind and two values: a field in lower case and a text, or two numbers."""
    for condition in found:
        if isinstance(condition, dict):
            for name, value in condition.items():
                yield "eq", name.lower(), str(value)
            continue
        kind, first, second = condition
        if str(kind).lower() == "content-length-range":
            yield "content-length-range", int(first), int(second)
        elif str(kind).lower() in ("eq", "starts-with") and first.startswith("$"):
            yield kind.lower(), first[1:].lower(), str(second)
        else:
            raise ValueError(kind)


def _upload(form: _Form, body: bytes) -> Upload:
    fields = form.fields
    if "tagging" in fields:
        raise ApiError(501, "NotImplemented", "The local stack takes no tags in a form: tag the object afterwards.")
    headers = {name: value for name, value in fields.items() if name in _HEADERS}
    headers |= {name: value for name, value in fields.items() if name.startswith("x-amz-") and name not in _OF_THE_FORM}
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    status = {"200": 200, "201": 201}.get(fields.get("success_action_status", ""), 204)
    redirect = fields.get("success_action_redirect") or fields.get("redirect", "")
    return Upload(
        fields["key"], body, {name: value.encode().decode("latin-1") for name, value in headers.items()}, status, redirect
    )


def _malformed(message: str) -> ApiError:
    return ApiError(400, "MalformedPOSTRequest", message)


def _too_large(largest: int) -> ApiError:
    return ApiError(400, "EntityTooLarge", f"The file exceeds the {largest} bytes that are allowed.", MaxSizeAllowed=str(largest))
