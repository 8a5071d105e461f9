"""infra/Dockerfile and localstack-compose.yml, as far as they can be checked without an engine."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local.minilm import DIMENSIONS, MODEL
from worker.settings import VARIABLES, Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "infra" / "Dockerfile").read_text()
OWN_IMAGES = {"lex-ingest", "lex-ingest-deploy", "lex-ingest-embeddings"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "localstack-compose.yml").read_text())["services"]
    return found


def _stages() -> dict[str, list[str]]:
    """The instructions of each stage of the Dockerfile, continued lines joined."""
    stages: dict[str, list[str]] = {}
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    for line in filter(None, lines):
        if line.startswith("FROM "):
            stages[line.split(" AS ")[1]] = []
        stages[list(stages)[-1]].append(line)
    return stages


def _final(stages: dict[str, list[str]], instruction: str, stage: str = "runtime") -> str:
    return [line for line in stages[stage] if line.startswith(f"{instruction} ")][-1]


def test_the_image_runs_as_a_user_who_is_not_root() -> None:
    assert _final(_stages(), "USER").split()[1] not in {"0", "root"}
    assert _final(_stages(), "USER", "deploy").split()[1] not in {"0", "root"}


def test_packages_are_installed_from_the_hash_locked_files_only() -> None:
    installs = [line for lines in _stages().values() for line in lines if "pip " in line and "install" in line]
    assert len(installs) == 2
    for line in installs:
        assert "--require-hashes" in line
        assert re.search(r"-r /tmp/\w+\.txt", line)


def test_the_final_stage_brings_no_build_tool() -> None:
    runtime = "\n".join(_stages()["runtime"])
    assert not re.search(r"\b(apt-get|gcc|make|pip)\b", runtime)
    assert "--without-pip" in "\n".join(_stages()["builder"])


def test_the_image_starts_the_worker_stops_it_gently_and_asks_for_its_health() -> None:
    stages = _stages()
    assert _final(stages, "CMD") == 'CMD ["celery", "-A", "worker.celery_app", "worker", "--loglevel", "INFO"]'
    assert _final(stages, "STOPSIGNAL") == "STOPSIGNAL SIGTERM"
    assert "inspect ping" in _final(stages, "HEALTHCHECK")


def test_every_path_that_the_image_copies_exists_and_is_let_through_by_dockerignore() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [line for lines in _stages().values() for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert copied
    for line in copied:
        for source in line.split()[1:-1]:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in allowed, source


def test_every_foreign_image_is_pinned_to_a_release(services: dict[str, Any]) -> None:
    images = {service["image"] for service in services.values()} - OWN_IMAGES
    images |= set(re.findall(r"^FROM (\S+:\S+) AS", DOCKERFILE, re.MULTILINE))
    for image in images:
        name, _, tag = image.partition(":")
        assert re.match(r"\d+\.\d+", tag), f"{name} has no release in its tag"
    assert services["localstack"]["image"] == "localstack/localstack:4.14.0"


def test_own_images_are_built_from_stages_that_exist(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if service["image"] in OWN_IMAGES:
            assert service["build"]["dockerfile"] == "infra/Dockerfile", name
            assert service["build"]["target"] in _stages(), name


def test_every_command_names_something_that_exists(services: dict[str, Any]) -> None:
    assert services["worker"]["command"][:3] == ["celery", "-A", "worker.celery_app"]
    assert importlib.util.find_spec("worker.celery_app")
    assert services["embeddings"]["command"][:3] == ["python", "-m", "infra.local.embeddings"]
    assert importlib.util.find_spec("infra.local.embeddings")
    assert (ROOT / services["deploy"]["command"][1]).is_file()
    program, command = services["migrate"]["command"]
    assert program == "lex-ingest"
    from infra.cli.main import app

    assert command in {item.name or (item.callback and item.callback.__name__) for item in app.registered_commands}


def test_every_environment_name_of_our_processes_is_known(services: dict[str, Any]) -> None:
    for name in ("worker", "migrate", "deploy"):
        unknown = {key for key in services[name]["environment"] if key not in VARIABLES and not key.startswith("AWS_")}
        assert not unknown, name


def test_the_default_environment_is_one_that_the_settings_accept_and_the_local_model_answers(services: dict[str, Any]) -> None:
    raw = services["worker"]["environment"]
    values = {key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in raw.items()}
    settings = Settings.from_environment(values).require("database_url", "redis_url", "buckets", "openai_api_key")
    assert (settings.embedding_model, settings.embedding_dimensions) == (MODEL, DIMENSIONS)
    assert settings.openai_api_key == services["embeddings"]["environment"]["LEX_LOCAL_KEY"]
    assert settings.openai_base_url == f"http://127.0.0.1:{services['embeddings']['command'][-1]}/v1"
    # That server listens on loopback: the worker must share its network.
    assert services["worker"]["network_mode"] == "service:embeddings"


def test_each_service_waits_for_a_condition_that_its_dependency_can_meet(services: dict[str, Any]) -> None:
    waits = 0
    for name, service in services.items():
        for dependency, wait in service.get("depends_on", {}).items():
            one_shot = dependency in {"migrate", "deploy"}
            assert wait["condition"] == ("service_completed_successfully" if one_shot else "service_healthy"), name
            assert one_shot or "test" in services[dependency]["healthcheck"], dependency
            waits += 1
    assert waits >= 7


def test_valkey_keeps_every_task(services: dict[str, Any]) -> None:
    command = services["valkey"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
