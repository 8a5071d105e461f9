"""infra/localstack/deploy.py: its pure parts. The rest needs LocalStack."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from infra.localstack import deploy

ROOT = Path(__file__).parents[2]


def test_the_template_of_this_checkout_takes_the_uploaded_package_for_both_functions() -> None:
    packaged = deploy.packaged_template((ROOT / "template.yaml").read_text(), "s3://packages/abc.zip")
    assert packaged.count("CodeUri: s3://packages/abc.zip\n") == 2
    assert "CodeUri: handlers" not in packaged


def test_a_template_that_names_its_code_otherwise_is_refused() -> None:
    with pytest.raises(deploy.DeployError):
        deploy.packaged_template("Resources: {}\n", "s3://packages/abc.zip")


def test_the_same_files_give_the_same_zip_whatever_their_times(tmp_path: Path) -> None:
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "a.py").write_text("A = 1\n")
    first = deploy.zip_package(tmp_path)
    (tmp_path / "handlers" / "a.py").touch()
    assert deploy.zip_package(tmp_path) == first
    assert zipfile.ZipFile(io.BytesIO(first)).read("handlers/a.py") == b"A = 1\n"


def test_the_secrets_it_makes_are_the_ones_that_the_template_reads() -> None:
    template = (ROOT / "template.yaml").read_text()
    for name in deploy.SECRETS:
        assert f"Default: {name}\n" in template


@pytest.mark.parametrize(
    ("machine", "wanted"), [("aarch64", "arm64"), ("arm64", "arm64"), ("x86_64", "x86_64"), ("AMD64", "x86_64")]
)
def test_the_functions_get_the_processor_of_this_machine(machine: str, wanted: str) -> None:
    assert deploy.architecture(machine) == wanted
