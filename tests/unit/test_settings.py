"""Every setting: what it takes, what it refuses, and what the refusal says."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import pq

from worker.setting_values import POSTGRESQL_PARAMETERS, without_password
from worker.settings import VARIABLES, Settings, SettingsError

SHARED = Path(__file__).parents[3] / "shared"
NO_NUMBERS = ("nan", "inf", "-inf", "1e400", "1_000", "１２", "soon", "-1", "100000000000000000000", "9" * 5000, "0x10", "")

# For each variable: values that are taken, on the border where there is one, and values that are refused, just beyond it. A value
# that depends on another setting takes that along, as "value;OTHER=value".
VALUES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "DATABASE_URL": (
        (
            "postgresql://user:password@host:5432/name", "postgres://host/name", "postgresql://u@[::1]:1/d",
            "postgresql://u:p%40ss%2F%23@h:65535/d?sslmode=verify-full&application_name=x%20y", "postgresql:///d?host=/run/postgresql",
            "postgresql://u@h?dbname=d", "postgresql://u@db_1.example.com/d",
        ),
        (
            "nonsense", "mysql://u@h/d", "postgresql+psycopg://u@h/d", "host=h dbname=d", "postgresql://u:p@h:notaport/x",
            "postgresql://u:p@h:0/x", "postgresql://u:p@h:65536/x", "postgresql://u:p@h:/x", "postgresql://u:p@h:１/x",
            "postgresql://u:p@h:5432", "postgresql://u:p@h:5432/", "postgresql:///d", "postgresql://u:p@/d", "postgresql://u@h1,h2/d",
            "postgresql://u:a@b@h/d", "postgresql://u:a/b@h/d", "postgresql://u:a#b@h/d", "postgresql://u:a%b@h/d",
            "postgresql://u:p@h/a%00b", "postgresql://u:p@h/a b", "postgresql://u:p@h/d?sslmode=true", "postgresql://u:p@h/d?ssl=1",
            "postgresql://u:p@h/d?connect_timeout=soon", "postgresql://u:p@h/d?host", "postgresql://u:p@[::1/d", "postgresql://",
            "postgresql://u@h/d?port=99999", "postgresql://u@h/d?port=0",
        ),
    ),
    "REDIS_URL": (
        ("redis://:password@host:6379/0", "redis://h", "redis://h/", "rediss://u:p@h:1/15?ssl_cert_reqs=required", "rediss://h?ssl_cert_reqs=none"),
        (
            "nonsense", "http://h", "unix:///tmp/socket", "sentinel://h", "redis+socket:///tmp/socket", "redis://", "redis:///0",
            "redis://h/x", "redis://h/-1", "redis://h:x/0", "redis://h/0?db=1", "redis://h/0?ssl_cert_reqs=none", "redis://:a@b@h/0",
            "rediss://h/0?ssl_cert_reqs=bogus",
        ),
    ),
    "BUCKET": (
        ("documents", "a.b-c", "abc,def, ghi ,", "x" * 63, "team--usw2-az1--x-s3"),
        (
            "a,,b", "aaa,,bbb", ",",
            "ab", "x" * 64, "Documents", "docs_1", "-docs", "docs-", "a..b", "192.168.0.1", "s3://docs", "docs/x",
            "xn--docs", "docs-s3alias",
            "arn:aws:s3:us-east-1:123456789012:accesspoint/docs", "döcs", "a b",
        ),
    ),
    "OPENAI_API_KEY": (("sk-abc", "x" * 4096), ("sk abc", "schlüssel", "x" * 4097)),
    "OPENAI_BASE_URL": (
        ("https://api.openai.com/v1", "http://127.0.0.1:8080", "http://[::1]:1/v1/", "http://h/a@b/v1"),
        ("api.openai.com", "ftp://h/v1", "https://", "https://h:x/v1", "https://h/v1?x=1", "https://h/v1#x", "https://h /v1"),
    ),
    "LEX_INGEST_EMBEDDING_PROVIDER": (("openai", "a", "x" * 64, "my.own-1_2"), ("x" * 65, "a b", "a/b", "a=b", "-a", "ä")),
    "LEX_INGEST_EMBEDDING_MODEL": (("BAAI/bge-m3", "nomic-embed-text:latest", "x" * 200), ("x" * 201, "a b", "modèle")),
    "LEX_INGEST_EMBEDDING_DIMENSIONS": (("1", "4000"), ("0", "4001", *NO_NUMBERS)),
    "LEX_INGEST_VECTOR_TYPE": (("halfvec", "vector"), ("bit", "HALFVEC")),
    "LEX_INGEST_EMBEDDING_SEND_DIMENSIONS": (("0", "1"), ("true", "yes", "2", "on")),
    "LEX_INGEST_EMBEDDING_BATCH": (("1", "2048"), ("0", "2049", *NO_NUMBERS)),
    "LEX_INGEST_EMBEDDING_IN_FLIGHT": (("1", "256"), ("0", "257", *NO_NUMBERS)),
    "LEX_INGEST_EMBEDDING_MAX_TOKENS": (("16", "1000000"), ("15", "1000001", *NO_NUMBERS)),
    "LEX_INGEST_EMBEDDING_TIMEOUT": (("0.1", "60", "600"), ("0.09", "600.1", *NO_NUMBERS)),
    "LEX_INGEST_PROVIDERS": (
        ("a=key", "a=key@http://127.0.0.1:1/v1,b=k@y=,"),
        ("sk-key", "=key", "a=", "a=k,,b=k", "a=k,a=l", "a=k@https://", "a b=k", "a=k k"),
    ),
    "LEX_INGEST_TENANTS": (("acme/,globex/", "x" * 1024), ("x" * 1025, "a/,,b/", ",")),
    "LEX_INGEST_HNSW_M": (("2", "100;LEX_INGEST_HNSW_EF_CONSTRUCTION=200"), ("1", "101", "33", *NO_NUMBERS)),
    "LEX_INGEST_HNSW_EF_CONSTRUCTION": (("4;LEX_INGEST_HNSW_M=2", "32", "1000"), ("3", "31", "1001", *NO_NUMBERS)),
    "LEX_INGEST_REQUESTS_PER_MINUTE": (("1", "10000000"), ("0", "10000001", *NO_NUMBERS)),
    "LEX_INGEST_TOKENS_PER_MINUTE": (("1", "100000000000"), ("0", "100000000001", *NO_NUMBERS)),
    "LEX_INGEST_EMBEDDING_PROCESSES": (("1", "10000"), ("0", "10001", *NO_NUMBERS)),
    "LEX_INGEST_BUDGET_PER_DAY": (
        ("5", "5.00", "0.000001", "1000000000", "1t", "1000000000000000t"),
        ("0", "5,00", "-1", "+1", "1e9t", "1e3", "5 USD", "０t", "1_000t", "1.5t", "1000000001", "1000000000000001t", "nan"),
    ),
    "LEX_INGEST_PRICES": (
        ("m=0", "a=1000000,b=0.02,", "v/m=v2=1"),
        ("m", "=1", "m=", "m=-1", "m=1e3", "m=1_0", "m=１", "m=1000001", "m=nan", "m=1,,n=1", "m=1,m=1"),
    ),
    "LEX_INGEST_TEXT_SEARCH": (("english", "simple", "my_config"), ("pg_catalog.english", "a b", "1a", "x" * 64, "eng'lish")),
    "LEX_INGEST_CHUNK_SIZE": (
        ("800", "50000", "20;LEX_INGEST_CHUNK_OVERLAP=10"), ("2000000", "50001", "799", "19", *NO_NUMBERS)
    ),
    "LEX_INGEST_CHUNK_OVERLAP": (("0", "2000"), ("2001", "25001", *NO_NUMBERS)),
    "LEX_INGEST_CHUNK_SIZES": (
        ("legal/=2000/200,code/=1500/0,", "a=b=20/10", "x=50000/25000"),
        ("legal/", "x=19/0", "x=50001/0", "x=100/51", "x=100", "x=100/", "x=1_00/0", "x=１00/0",
         "x=100/10,,y=100/10", "x=100/1,x=100/2"),
    ),
    "LEX_INGEST_MAX_OBJECT_BYTES": (("1", "50000000000000"), ("0", "50000000000001", *NO_NUMBERS)),
    "LEX_INGEST_MAX_TEXT_CHARS": (("1", "250000000"), ("0", "250000001", *NO_NUMBERS)),
    "LEX_INGEST_PDF_ENGINE": (("auto", "pdfium", "pdfminer"), ("pypdf", "AUTO")),
    "LEX_INGEST_EXTRACT_TIMEOUT": (("1", "0300.5", "1200"), ("0.9", "1201", "0", *NO_NUMBERS)),
    "LEX_INGEST_EXTRACT_MEMORY": (("64000000", "1000000000000"), ("63999999", "1000000000001", "640MB", *NO_NUMBERS)),
    "LEX_INGEST_LEASE": (("5", "3600", "1;LEX_INGEST_TICK=1"), ("0.9", "3601", "4.9", *NO_NUMBERS)),
    "LEX_INGEST_TICK": (("0.1", "30", "3600;LEX_INGEST_LEASE=3600"), ("0.09", "3601", "31", *NO_NUMBERS)),
    "LEX_INGEST_REQUEUE_AFTER": (("0.1", "86400"), ("0.09", "86401", *NO_NUMBERS)),
    "LEX_INGEST_LOW_WATER": (("1", "100000"), ("0", "100001", *NO_NUMBERS)),
    "LEX_INGEST_SHUTDOWN_GRACE": (("0.1", "1800"), ("0", "1801", *NO_NUMBERS)),
    "LEX_INGEST_ERASE_AFTER": (("1", "31536000"), ("0", "31536001", *NO_NUMBERS)),
    "LEX_INGEST_LEDGER_DAYS": (("1", "3650"), ("0", "3651", "99999999999", *NO_NUMBERS)),
    "LEX_INGEST_LOG_LEVEL": (("DEBUG", "info", "CRITICAL"), ("bogus", "10", "WARN")),
}  # fmt: skip


def cases(accepted: bool) -> Iterator[tuple[str, str]]:
    for variable, (good, bad) in VALUES.items():
        yield from ((variable, value) for value in (good if accepted else filter(None, bad)))


def read(variable: str, value: str) -> Settings:
    value, *others = value.split(";")
    return Settings.from_environment({variable: value} | dict(other.split("=") for other in others))


def test_every_setting_has_values_on_both_sides_of_its_border() -> None:
    assert set(VALUES) == set(VARIABLES)
    assert all(good and bad for good, bad in VALUES.values())


@pytest.mark.parametrize(("variable", "value"), list(cases(accepted=True)))
def test_a_value_on_the_border_is_taken(variable: str, value: str) -> None:
    default = Settings()
    name = next(item.name for item in fields(Settings) if item.metadata["variable"] == variable)
    taken = getattr(read(variable, value), name)
    assert taken is not None
    assert isinstance(taken, type(getattr(default, name))) or getattr(default, name) is None


@pytest.mark.parametrize(("variable", "value"), list(cases(accepted=False)))
def test_a_value_beyond_the_border_is_refused_on_one_line_with_what_is_allowed(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(variable, value)
    (line,) = str(caught.value).splitlines()
    assert variable in line
    assert "can't be used" in line
    assert " must be " in line or " at least " in line
    assert len(line) < 600


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_default_is_a_value_that_its_own_form_takes(variable: str) -> None:
    (item,) = [item for item in fields(Settings) if item.metadata["variable"] == variable]
    default = item.default
    if default in (None, "", ()):
        return
    written = (
        str(int(default)) if isinstance(default, bool) else f"{default:.10g}" if isinstance(default, float) else str(default)
    )
    assert item.metadata["form"].read(written) == default


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_value_that_is_not_utf_8_is_refused(variable: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable} can't be used: its value is not UTF-8"):
        Settings.from_environment({variable: "x\udcff"})


SECRET = "geheim7"  # of letters that no other part of the values below has


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:notaport/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}/{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@{SECRET}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}?{SECRET}#{SECRET}@h/d"),
        ("DATABASE_URL", f"u:{SECRET}@h/d"),
        ("DATABASE_URL", f"host=h password={SECRET}"),
        ("DATABASE_URL", f"postgresql://h?password={SECRET}"),
        ("DATABASE_URL", f"postgresql://u:p@h/d?{SECRET}@x"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}?{SECRET}@h/d"),
        ("REDIS_URL", f"redis://:{SECRET}@h/x"),
        ("OPENAI_BASE_URL", f"https://u:{SECRET}@h/v1?x=1"),
        ("OPENAI_API_KEY", f"{SECRET} {SECRET}"),
        ("LEX_INGEST_PROVIDERS", SECRET + "é"),
        ("LEX_INGEST_PROVIDERS", f"a={SECRET} {SECRET}"),
        ("LEX_INGEST_PROVIDERS", f"a={SECRET}@http://u:{SECRET}@h:x"),
    ],
)
def test_a_refusal_shows_no_password_and_no_key(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({variable: value})
    assert SECRET not in str(caught.value)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2000), min_size=1), st.sampled_from(["/", ":", "?", "#", "@", ""]))
def test_what_stands_between_the_user_and_the_last_at_is_never_shown(before: str, sign: str) -> None:
    shown = without_password(f"postgresql://user:{before}{SECRET}{sign}{SECRET}@host/name")
    assert SECRET not in shown


def test_the_parameters_of_a_database_url_are_those_of_libpq() -> None:
    assert {item.keyword.decode() for item in pq.Conninfo.get_defaults()} <= POSTGRESQL_PARAMETERS


def test_reading_settings_imports_the_standard_library_only() -> None:
    code = (
        "import sys; from worker.settings import Settings; Settings.from_environment({'DATABASE_URL': 'postgresql://h/d'});"
        "print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    others = {name for name in done.stdout.split() if not name.startswith(("_", "sitecustomize", "usercustomize"))}
    assert others <= {"worker"}


def test_the_shared_cases_are_refused() -> None:
    file = SHARED / "cases" / "cases.csv"
    if not file.exists():
        pytest.skip("the shared cases are not beside this checkout; the values above have each of them")
    with file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["kind"].startswith("setting:")]
    assert rows
    for row in rows:
        variable, _, value = row["must_hold"].rpartition(": exit code")[0].partition("=")
        with pytest.raises(SettingsError, match=variable):
            Settings.from_environment({variable: value})
        assert value in VALUES[variable][1]


@pytest.mark.parametrize("command", ["status", "up", "doctor", "put"])
@pytest.mark.parametrize(
    "setting",
    ["LEX_INGEST_LEASE=1e400", "LEX_INGEST_LOG_LEVEL=bogus", "BUCKET=a,,b", "DATABASE_URL=mysql://u@h/d", "LEX_INGEST_TICK=31"],
)
def test_a_command_ends_with_2_and_one_line(
    command: str, setting: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from infra.cli.main import main

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(*setting.split("=", 1))
    monkeypatch.setattr(sys, "argv", ["lex-ingest", command, *([str(tmp_path)] if command == "put" else [])])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    (line,) = said.err.splitlines()
    assert setting.partition("=")[0] in line
    assert said.out == ""


@pytest.mark.parametrize("setting", ["LEX_INGEST_LEASE=nan", "DATABASE_URL=postgresql://u:geheim7@h:x/d"])
def test_a_worker_ends_with_2_and_one_line(setting: str) -> None:
    name, _, value = setting.partition("=")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "celery", "-A", "worker.celery_app", "worker"],
        capture_output=True, text=True, check=False, timeout=100, cwd=Path(__file__).parents[2],
        env={**os.environ, name: value, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["reason"].startswith(f"{name}=")
    assert SECRET not in line
