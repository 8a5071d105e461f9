"""The CORS rules of a bucket: what a web page of another origin may do. Without rules it may do nothing.

Page "How does Amazon S3 evaluate the CORS configuration on a bucket?": the first rule that names the origin, the method and
every requested header decides. moto's own answers would reflect any origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

REQUEST_METHOD, REQUEST_HEADERS = "access-control-request-method", "access-control-request-headers"


def allowed(rules: Iterable[Any], origin: str, method: str, requested: str = "") -> dict[str, str] | None:
    """Return the CORS headers of the answer, or None if no rule allows the request.

    Args:
        rules: moto's CorsRule objects.
        requested: the headers that a preflight asks for, with commas between them; "" for the request itself.
    """
    wanted = [name.strip().lower() for name in requested.split(",") if name.strip()]
    for rule in rules:
        origins, names = rule.allowed_origins or [], [name.lower() for name in rule.allowed_headers or []]
        if method not in (rule.allowed_methods or []) or not _matches(origins, origin):
            continue
        if not all(_matches(names, name) for name in wanted):
            continue
        anyone = "*" in origins
        headers = {
            "Access-Control-Allow-Origin": "*" if anyone else origin,
            "Access-Control-Allow-Methods": ", ".join(rule.allowed_methods),
            "Vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
        }
        if not anyone:
            headers["Access-Control-Allow-Credentials"] = "true"
        if wanted:
            headers["Access-Control-Allow-Headers"] = ", ".join(wanted)
        if rule.exposed_headers:
            headers["Access-Control-Expose-Headers"] = ", ".join(rule.exposed_headers)
        if rule.max_age_seconds:
            headers["Access-Control-Max-Age"] = str(rule.max_age_seconds)
        return headers
    return None


def _matches(patterns: Iterable[str], text: str) -> bool:
    """Whether one of the patterns, in which ``*`` stands for anything, is the whole text."""
    return any(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) for pattern in patterns)
