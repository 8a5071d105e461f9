"""Which errors of PostgreSQL are about the server, and which about what was asked of it."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from worker.store.session import is_away, sqlalchemy_url


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (psycopg.OperationalError("connection lost"), True),
        (errors.AdminShutdown("57P01"), True),
        (errors.DeadlockDetected("40P01"), True),
        (errors.DiskFull("53100"), True),
        (psycopg.DataError("a text can't hold NUL"), False),
        (errors.ProgramLimitExceeded("54000"), False),
        (errors.UniqueViolation("23505"), False),
        (ValueError("something else"), False),
    ],
)
def test_only_trouble_of_the_server_itself_is_no_verdict_about_a_document(error: Exception, away: bool) -> None:
    assert is_away(error) is away
    if isinstance(error, psycopg.Error):
        assert is_away(DBAPIError.instance("SELECT 1", {}, error, psycopg.Error)) is away


@pytest.mark.parametrize("given", ["postgresql://u:p@h:5432/d", "postgres://u:p@h:5432/d", "postgresql+psycopg://u:p@h:5432/d"])
def test_any_spelling_of_the_database_s_url_works(given: str) -> None:
    assert sqlalchemy_url(given) == "postgresql+psycopg://u:p@h:5432/d"
