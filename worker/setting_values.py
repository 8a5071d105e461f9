"""The forms that the values of environment variables may have. A form parses a value, and says in words what it allows.

Standard library only: a Lambda function imports this at each cold start.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from worker.budget import BUDGET_FORM, PRICES_FORM, Budget, read_budget, read_prices
from worker.contract import MAX_KEY_BYTES


class Form(NamedTuple):
    """``read`` turns the text into the value and raises ValueError, with a reason or none, if it can't.

    ``allowed`` continues the sentence "it must be …".
    """

    read: Callable[[str], Any]
    allowed: str


def whole_number(low: int, high: int, unit: str) -> Form:
    """A whole number in ASCII digits: ``1_000`` and full-width digits, which Python reads too, are refused."""

    def read(value: str) -> int:
        # Twenty digits are more than any limit has; Python refuses to read thousands of them.
        if not re.fullmatch(r"-?[0-9]{1,20}", value) or not low <= int(value) <= high:
            raise ValueError
        return int(value)

    return Form(read, f"a whole number from {low} to {high} ({unit})")


def number(low: float, high: float, unit: str) -> Form:
    """A number with or without decimals. NaN and infinity are outside of every range."""

    def read(value: str) -> float:
        if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) or not low <= float(value) <= high:
            raise ValueError
        return float(value)

    return Form(read, f"a number from {low:g} to {high:.15g} ({unit})")


def choice(*names: str, upper: bool = False) -> Form:
    """One of the names. With ``upper``, the value may also be in small letters."""

    def read(value: str) -> str:
        value = value.upper() if upper else value
        if value not in names:
            raise ValueError
        return value

    return Form(read, f"{', '.join(names[:-1])} or {names[-1]}")


def _switch(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError
    return value == "1"


SWITCH = Form(_switch, "1 (on) or 0 (off)")


def _text(pattern: str, allowed: str) -> Form:
    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return Form(read, allowed)


# The key goes into an HTTP header; a model's name into a request, and into the commands that name it.
_PRINTABLE = r"[!-~]"
KEY = _text(_PRINTABLE + "{1,4096}", "printable ASCII characters without spaces")
MODEL = _text(_PRINTABLE + "{1,200}", "a model's name: up to 200 printable ASCII characters without spaces")
_PROVIDER_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
PROVIDER = _text(
    _PROVIDER_NAME, "a name of up to 64 letters, digits, dots, hyphens and underscores, which begins with a letter or digit"
)
# PostgreSQL manual, "Identifiers and Key Words"; migrate looks whether the configuration exists.
TEXT_SEARCH = _text(r"[A-Za-z_][A-Za-z0-9_]{0,62}", "the name of one of PostgreSQL's text search configurations, such as english")


def _entries(value: str) -> tuple[str, ...]:
    """The parts between commas. One comma at the end is allowed; two in a row are a forgotten entry."""
    entries = tuple(entry.strip() for entry in value.removesuffix(",").split(","))
    if not all(entries):
        raise ValueError("an entry between two commas is empty")
    return entries


# Amazon S3 User Guide, "General purpose bucket naming rules". Names of directory buckets end with --x-s3.
_BUCKET_NAME = re.compile(r"(?!xn--|sthree-)(?!.*\.\.)(?!(?:[0-9]+\.){3}[0-9]+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NO_BUCKET = ("-s3alias", "--ol-s3", ".mrap")


def _buckets(value: str) -> tuple[str, ...]:
    names = _entries(value)
    for name in names:
        if name.startswith("arn:") or name.endswith(_NO_BUCKET):
            raise ValueError(f"{quoted(name)} is an access point, and events name the bucket behind it")
        if not _BUCKET_NAME.fullmatch(name):
            raise ValueError(f"{quoted(name)} is no bucket name")
    return tuple(dict.fromkeys(names))


BUCKETS = Form(
    _buckets,
    "names of S3 buckets with commas between them, each 3 to 63 small letters, digits, dots and hyphens,"
    " with a letter or digit at both ends",
)


def _prefixes(value: str) -> tuple[str, ...]:
    prefixes = _entries(value)
    if any(len(prefix.encode()) > MAX_KEY_BYTES for prefix in prefixes):
        raise ValueError
    return prefixes


PREFIXES = Form(_prefixes, f"key prefixes of up to {MAX_KEY_BYTES} bytes with commas between them, such as acme/,globex/")

# What pgvector's HNSW index takes of each type (pgvector README, "HNSW").
MOST_DIMENSIONS = {"halfvec": 4000, "vector": 2000}


class Provider(NamedTuple):
    """Another embedding provider than the first one: its key, and where it is, unless its models' profiles say so."""

    key: str
    base_url: str | None


def _providers(value: str) -> tuple[tuple[str, Provider], ...]:
    found: dict[str, Provider] = {}
    for place, entry in enumerate(_entries(value), 1):
        name, _, rest = entry.partition("=")
        key, at, url = rest.partition("@http")
        # The entry may be a key whose name was forgotten, so a message shows none of it.
        if not re.fullmatch(_PROVIDER_NAME, name):
            raise ValueError(f"entry {place} does not begin with a provider's name and =")
        if not re.fullmatch(_PRINTABLE + "+", key):
            raise ValueError(f"the key of {name} is empty, or holds a space or another character that no key has")
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = Provider(key, _http_url(f"http{url}") if at else None)
    return tuple(found.items())


PROVIDERS = Form(_providers, "name=key or name=key@URL, with commas between several")


class ChunkLimits(NamedTuple):
    """Characters in a chunk, at most, and how many of them it may share with the one before."""

    size: int
    overlap: int

    @property
    def usable(self) -> bool:
        return self.size > 0 and 0 <= self.overlap <= self.size // 2


# Characters. The largest chunk, of four bytes each, still fits into one provider request (290,000 bytes) and its words into one
# tsvector (1 MB: PostgreSQL manual, "Limitations" of full text search).
_SMALLEST_CHUNK, _LARGEST_CHUNK = 20, 50_000
CHUNK_SIZE = whole_number(_SMALLEST_CHUNK, _LARGEST_CHUNK, "characters")
CHUNK_OVERLAP = whole_number(0, _LARGEST_CHUNK // 2, "characters, at most half of LEX_INGEST_CHUNK_SIZE")


def _chunk_sizes(value: str) -> tuple[tuple[str, ChunkLimits], ...]:
    """The longest prefix comes first. A prefix may hold ``=``, and no comma."""
    rules: dict[str, ChunkLimits] = {}
    for rule in _entries(value):
        prefix, _, limits = rule.rpartition("=")
        size, slash, overlap = limits.partition("/")
        if not prefix or not slash:
            raise ValueError(f"{quoted(rule)} is not of the form prefix=size/overlap")
        if prefix in rules:
            raise ValueError(f"{quoted(prefix)} has two sizes")
        try:
            rules[prefix] = ChunkLimits(CHUNK_SIZE.read(size), CHUNK_OVERLAP.read(overlap))
        except ValueError:
            raise ValueError(f"{quoted(rule)} has a size or an overlap outside of the range") from None
        if not rules[prefix].usable:
            raise ValueError(f"the overlap of {quoted(prefix)} is more than half of its size")
    return tuple(sorted(rules.items(), key=lambda rule: len(rule[0]), reverse=True))


CHUNK_SIZES = Form(
    _chunk_sizes,
    "prefix=size/overlap with commas between several, such as legal/=2000/200:"
    f" sizes from {_SMALLEST_CHUNK} to {_LARGEST_CHUNK} characters, overlaps from 0 to half of the size",
)


def _budget(value: str) -> Budget:
    try:
        return read_budget(value)
    except ValueError:
        raise ValueError from None  # without a reason: it would repeat ``allowed``


BUDGET = Form(_budget, BUDGET_FORM)
PRICES = Form(read_prices, PRICES_FORM)

# The parameters that a PostgreSQL URL may have (PostgreSQL manual, "Parameter Key Words" of libpq); libpq refuses others.
_PARAMETER_NAMES = """
application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation gssencmode gsslib
host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts max_protocol_version
min_protocol_version oauth_client_id oauth_client_secret oauth_issuer oauth_scope options passfile password port replication
require_auth requirepeer scram_client_key scram_server_key service ssl_max_protocol_version ssl_min_protocol_version sslcert
sslcertmode sslcompression sslcrl sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni
target_session_attrs tcp_user_timeout user
"""
POSTGRESQL_PARAMETERS = frozenset(_PARAMETER_NAMES.split())
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# The parameters of a URL's query that both redis-py and Celery take (Celery's page "Using Redis", "Connection"). Others that only
# redis-py knows end Celery with a TypeError.
_REDIS_PARAMETERS = frozenset({"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
# The names that redis-py knows; it raises an error of its own for others, at the first connection.
_CERTIFICATE_CHECKS = ("none", "optional", "required")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?")


class _Url(NamedTuple):
    host: str
    path: str
    query: dict[str, str]


def _url(value: str, schemes: tuple[str, ...]) -> _Url:
    """Split a URL, whose host may be missing. A URL that clients would read in different ways is refused.

    Raises:
        ValueError: the reason names no part of the value, for any of them may be a password.
    """
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in schemes:
        raise ValueError(f"it does not begin with {' or '.join(f'{each}://' for each in schemes)}")
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ValueError("it holds a space, which is written %20 in a URL")
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", value):
        raise ValueError("a % in it does not begin an escape such as %40; a % itself is written %25")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # An HTTP path may hold an @. In a database URL, a later @ rather means that the password holds a slash.
    early_end = not scheme.startswith("http") and "@" not in authority and "@" in rest.partition("?")[0]
    if "#" in value or authority.count("@") > 1 or early_end:
        raise ValueError("its password holds one of @ / ? #, which are written %40 %2F %3F %23 in a URL")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        # Python's message quotes the text in the place of the port, which may be a part of a password.
        raise ValueError("its port is not a number from 1 to 65535") from None
    if port == 0 or authority.endswith(":"):
        raise ValueError("its port is not a number from 1 to 65535")
    if host and not _HOST.fullmatch(host):
        raise ValueError("its host is no name and no address (one host, in ASCII)")
    try:
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("its query is not of the form name=value&name=value") from None
    return _Url(host, parts.path, query)


def _database_url(value: str) -> str:
    url = _url(value, ("postgresql", "postgres"))
    if set(url.query) - POSTGRESQL_PARAMETERS:
        raise ValueError("its query has a parameter that libpq does not know")
    if not url.host and not url.query.get("host") and not url.query.get("hostaddr"):
        raise ValueError("it names no host (a folder of sockets is written ?host=/run/postgresql)")
    if not url.path.strip("/") and not url.query.get("dbname"):
        raise ValueError("it names no database")
    for name in ("port", "connect_timeout"):
        if name in url.query and not re.fullmatch(r"[0-9]{1,5}", url.query[name]):
            raise ValueError(f"its {name} is not a number")
    if not 1 <= int(url.query.get("port", "1")) <= 65535:
        raise ValueError("its port is not a number from 1 to 65535")
    if url.query.get("sslmode", "prefer") not in _SSL_MODES:
        raise ValueError(f"its sslmode is none of {', '.join(_SSL_MODES)}")
    return value


def _redis_url(value: str) -> str:
    url = _url(value, ("redis", "rediss"))
    if not url.host:
        raise ValueError("it names no host")
    if not re.fullmatch(r"/?|/[0-9]{1,5}", url.path):
        raise ValueError("its database is not a number")
    if set(url.query) - _REDIS_PARAMETERS or (url.query and not value.startswith("rediss:")):
        raise ValueError(f"its query may hold {', '.join(sorted(_REDIS_PARAMETERS))}, of rediss:// only")
    if url.query.get("ssl_cert_reqs", "required") not in _CERTIFICATE_CHECKS:
        raise ValueError(f"its ssl_cert_reqs is none of {', '.join(_CERTIFICATE_CHECKS)}")
    return value


def _http_url(value: str) -> str:
    url = _url(value, ("http", "https"))
    if not url.host:
        raise ValueError("it names no host")
    if url.query or value.endswith("?"):
        raise ValueError("it has a query")
    return value


DATABASE_URL = Form(_database_url, "postgresql://user:password@host:5432/name, with libpq's parameters after a ? where needed")
REDIS_URL = Form(_redis_url, "redis://:password@host:6379/0, or rediss:// for TLS")
HTTP_URL = Form(_http_url, "an address such as https://api.openai.com/v1, without a query")


def without_password(value: str) -> str:
    """The value of a URL variable for a message: everything that may be a password is replaced by an ellipsis."""
    value = re.sub(r"(?i)((?:password|passwd|secret|key)\w*\s*=\s*)[^\s&]+", r"\1…", value)
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "", value
    head, at, tail = rest.rpartition("@")
    if at:
        user, colon, _ = head.partition(":")
        return f"{scheme}{separator}{user}{colon}{'…' if colon else ''}@{tail}"
    # Without an @, the text in the place of the port may be a password, if the host was forgotten.
    return scheme + separator + re.sub(r"^([^/?#\[]*?):(?![0-9]{1,5}(?:[/?#]|$))[^/?#]*", r"\1:…", rest)


def quoted(value: str) -> str:
    """The value, or the first 80 characters of it, in quotes and on one line."""
    return ascii(value if len(value) <= 80 else f"{value[:80]}…").replace("\\u2026", "…")
