"""The errors of the S3 and SQS API, in the form that each protocol gives them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

# The service in a credential's scope.
_SCOPE = re.compile(r"/([a-z0-9-]+)/aws4_request")
# What SQS calls S3's errors: the type in its JSON protocol and the code in its query protocol.
_SQS_NAMES = {
    "AccessDenied": ("AccessDeniedException", "AccessDenied"),
    "InvalidAccessKeyId": ("UnrecognizedClientException", "InvalidClientTokenId"),
    "SignatureDoesNotMatch": ("InvalidSignatureException", "SignatureDoesNotMatch"),
    "RequestTimeTooSkewed": ("InvalidSignatureException", "SignatureDoesNotMatch"),
    "AuthorizationHeaderMalformed": ("IncompleteSignatureException", "IncompleteSignature"),
    "SlowDown": ("ThrottlingException", "RequestThrottled"),
}


class ApiError(Exception):
    """A request that is refused. ``fields`` are further elements of S3's error document."""

    def __init__(self, status: int, code: str, message: str, **fields: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.fields = status, code, message, fields


def access_denied(message: str) -> ApiError:
    return ApiError(403, "AccessDenied", message)


def malformed(message: str) -> ApiError:
    return ApiError(400, "InvalidRequest", message)


def response(error: ApiError, path: str, headers: Mapping[str, str]) -> Response:
    """The answer to a refused request, in the protocol of that request: S3's XML, or SQS's JSON or query protocol."""
    request_id = str(uuid.uuid4())
    retry = {"Retry-After": "1"} if error.status == 503 else {}
    content_type = headers.get("content-type", "")
    scope = _SCOPE.search(headers.get("authorization", ""))
    if scope[1] == "s3" if scope else "x-amz-target" not in headers:
        elements = {"Code": error.code, "Message": error.message, **error.fields, "Resource": path, "RequestId": request_id}
        inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in elements.items())
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inside}</Error>'
        return Response(body, error.status, {"x-amz-request-id": request_id, **retry}, content_type="application/xml")
    kind, code = _SQS_NAMES.get(error.code, (error.code, error.code))
    fault = "Sender" if error.status < 500 else "Receiver"
    if content_type.startswith("application/x-amz-json"):
        body = json.dumps({"__type": f"com.amazon.coral.service#{kind}", "message": error.message})
        named = {"x-amzn-query-error": f"{code};{fault}", "x-amzn-RequestId": request_id, **retry}
        return Response(body, error.status, named, content_type="application/x-amz-json-1.0")
    inside = f"<Type>{fault}</Type><Code>{escape(code)}</Code><Message>{escape(error.message)}</Message>"
    body = f"<ErrorResponse><Error>{inside}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    return Response(body, error.status, {"x-amzn-RequestId": request_id, **retry}, content_type="text/xml")
