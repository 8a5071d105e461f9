"""The sentence and the exit code for each error, the same for every command.

The drivers of PostgreSQL, Redis and S3 are not imported here: if one of them raised the error, it is loaded already.
"""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass

from infra.cli.connection import NoStackError
from infra.cli.output import visible_line
from infra.local.folder import StackError
from worker.domain.errors import IngestError, TransientError
from worker.settings import SettingsError

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
# 70 is EX_SOFTWARE of sysexits.h; 141 and 130 are what shells report after SIGPIPE and SIGINT (128 + the signal's number).
BUG, PIPE_CLOSED, INTERRUPTED = 70, 141, 130

_DOCTOR = "Run `lex-ingest doctor` to see which part does not answer."
_DATABASE_FORM = "DATABASE_URL can't be used: it must be of the form postgresql://user:password@host:5432/name."
_MIGRATE = "The database lacks a table or column of this version: run `lex-ingest migrate`."
# PostgreSQL manual, "PostgreSQL Error Codes": undefined_table, undefined_column, undefined_function, undefined_object.
_NOT_MIGRATED = frozenset({"42P01", "42703", "42883", "42704"})
# What botocore says of AWS_ENDPOINT_URL, and what urllib.parse says for it of brackets and of characters like a full-width slash.
_NO_ENDPOINT = (
    "Invalid endpoint",
    "Invalid IPv6 URL",
    "contains invalid characters under NFKC",
    "does not appear to be an IPv4 or IPv6",
)
# What the database's operator can change: insufficient_privilege, read_only_sql_transaction.
_DATABASE_REFUSES = frozenset({"42501", "25006"})


@dataclass(frozen=True, slots=True)
class Failure:
    """``sentence`` says what happened, why, and what to do next."""

    sentence: str
    code: int


def failure_of(error: BaseException) -> Failure:
    """Return what to print for the error, and the exit code. An error of a type that is not listed here counts as a bug."""
    if isinstance(error, StackError):
        # The message may have more lines, the end of a part's log, so it is not made one line.
        return Failure(str(error), UNREACHABLE if isinstance(error, NoStackError) else FAILED)
    found = (
        _of_ours(error) or _of_database(error) or _of_redis(error) or _of_s3(error) or _of_system(error)
        or Failure(
            f"Unexpected {type(error).__name__}: {_first_line(error)} This is a bug in lex-ingest: please report it,"
            " together with what the same command prints after `lex-ingest --debug`.",
            BUG,
        )
    )  # fmt: skip
    return Failure(visible_line(found.sentence), found.code)


def _of_ours(error: BaseException) -> Failure | None:
    if isinstance(error, SettingsError):
        return Failure(str(error), USAGE)
    if isinstance(error, TransientError) and error.code == "bucket_missing":
        return Failure(str(error), USAGE)
    if isinstance(error, TransientError):
        return Failure(f"{with_full_stop(str(error))} {_DOCTOR}", UNREACHABLE)
    return Failure(str(error), FAILED) if isinstance(error, IngestError) else None


def _of_database(error: BaseException) -> Failure | None:
    if _is(error, "sqlalchemy.exc", "ArgumentError", "NoSuchModuleError"):
        return Failure(_DATABASE_FORM, USAGE)
    if not (_is(error, "sqlalchemy.exc", "DBAPIError", "TimeoutError") or _is(error, "psycopg", "Error")):
        return None
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if state in _NOT_MIGRATED:
        return Failure(_MIGRATE, FAILED)
    if state in _DATABASE_REFUSES:
        return Failure(f"PostgreSQL refuses this: {_first_line(cause)}", FAILED)
    if _is(cause, "psycopg", "OperationalError", "InterfaceError") or _is(error, "sqlalchemy.exc", "TimeoutError"):
        return Failure(f"PostgreSQL does not answer: {_first_line(cause)} {_DOCTOR}", UNREACHABLE)
    if state is None and _is(cause, "psycopg", "ProgrammingError"):
        # libpq refuses the connection string. Its message quotes the string, which may hold a password, so do not show it.
        return Failure(_DATABASE_FORM, USAGE)
    return None


def _of_redis(error: BaseException) -> Failure | None:
    if _is(error, "redis.exceptions", "ConnectionError", "TimeoutError") or _is(error, "kombu.exceptions", "OperationalError"):
        return Failure(f"Redis does not answer: {_first_line(error)} {_DOCTOR}", UNREACHABLE)
    if _is(error, "redis.exceptions", "RedisError"):
        return Failure(f"Redis refuses this: {_first_line(error)} {_DOCTOR}", FAILED)
    return None


def _of_s3(error: BaseException) -> Failure | None:
    if _is(error, "botocore.exceptions", "HTTPClientError", "ConnectionError"):
        return Failure(f"S3 does not answer: {_first_line(error)} {_DOCTOR}", UNREACHABLE)
    if _is(error, "botocore.exceptions", "ClientError"):
        return _of_s3_answer(error)
    if _is(error, "botocore.exceptions", "BotoCoreError"):
        return Failure(f"S3 can't be asked: {_first_line(error)} Check the AWS_* variables.", USAGE)
    if isinstance(error, ValueError) and any(words in str(error) for words in _NO_ENDPOINT):
        return Failure(f"AWS_ENDPOINT_URL can't be used: {_first_line(error)} It must be an http:// or https:// URL.", USAGE)
    return None


def _of_s3_answer(error: BaseException) -> Failure:
    answer = getattr(error, "response", {})
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code, said = str(answer.get("Error", {}).get("Code", status)), with_full_stop(str(answer.get("Error", {}).get("Message", "")))
    if code == "NoSuchBucket":
        return Failure("The bucket does not exist. Check BUCKET and AWS_ENDPOINT_URL.", USAGE)
    if status >= 500 or code in ("SlowDown", "RequestTimeout"):
        return Failure(f"S3 failed ({code}): {said} {_DOCTOR}", UNREACHABLE)
    if status in (401, 403) or code in ("ExpiredToken", "InvalidToken"):
        return Failure(f"S3 refuses the request ({code}): {said} Check the AWS credentials and what they allow.", FAILED)
    return Failure(f"S3 refuses the request ({code}): {said}", FAILED)


def _of_system(error: BaseException) -> Failure | None:
    if isinstance(error, ConnectionError):
        return Failure(f"The connection failed: {_first_line(error)} {_DOCTOR}", UNREACHABLE)
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC and error.filename is None:
            return Failure("No space left on the disk to which the command writes its output or its files.", FAILED)
        where = "" if error.filename is None else f": {error.filename}"
        return Failure(f"{error.strerror or _first_line(error)}{where}", FAILED)
    if isinstance(error, MemoryError):
        return Failure("There is not enough memory for this.", FAILED)
    return None


def _is(error: BaseException, module: str, *names: str) -> bool:
    """Whether the error is an instance of one of the module's classes. The module is not imported if it is not loaded."""
    loaded = sys.modules.get(module)
    # A thread may be importing the module at this moment: it then lacks names, and has raised nothing.
    return isinstance(error, tuple(found for name in names if (found := getattr(loaded, name, None))))


def _first_line(error: BaseException) -> str:
    """The error's first line as a sentence; its second line if the first ends with a colon (libpq, for several addresses)."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return with_full_stop(lines[1].lstrip("- ") if lines[0].endswith(":") and len(lines) > 1 else lines[0])


def with_full_stop(sentence: str) -> str:
    """Add a full stop, unless the sentence is empty or ends with . ! or ? already."""
    return sentence if not sentence or sentence.endswith((".", "!", "?")) else f"{sentence}."
