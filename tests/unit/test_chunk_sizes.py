"""Chunk limits by key prefix: how they are read, which one a key gets, and that the recipe knows."""

from __future__ import annotations

import pytest

from worker.services.extraction import recipe
from worker.settings import Settings, SettingsError

VARIABLE = "LEX_INGEST_CHUNK_SIZES"


def settings(value: str) -> Settings:
    return Settings.from_environment({VARIABLE: value})


@pytest.mark.parametrize(
    ("key", "limits"),
    [
        ("legal/a.pdf", (2000, 200)),
        ("legal/drafts/a.pdf", (800, 0)),
        ("legal", (4000, 400)),
        ("team/legal/a.pdf", (4000, 400)),
        ("year=2024/a.txt", (1500, 750)),
    ],
)
def test_a_key_has_the_limits_of_its_longest_prefix_else_the_common_ones(key: str, limits: tuple[int, int]) -> None:
    assert settings("legal/=2000/200, legal/drafts/=800/0 ,year=2024/=1500/750,").chunk_limits(key) == limits


def test_the_common_limits_are_those_of_their_own_variables() -> None:
    environment = {"LEX_INGEST_CHUNK_SIZE": "1000", "LEX_INGEST_CHUNK_OVERLAP": "10", VARIABLE: "a/=50/5"}
    assert Settings.from_environment(environment).chunk_limits("b") == (1000, 10)


@pytest.mark.parametrize(
    "value",
    [
        "legal/", "legal/=2000", "=2000/200", "legal/=2000/", "legal/=2000/200/1", "legal/=-1/0", "legal/=0/0", "a=x/y",
        "legal/=2000/1001", "legal/=2000/200,legal/=1000/100",
    ],
)  # fmt: skip
def test_limits_that_can_t_be_used_are_refused_by_the_variable_s_name(value: str) -> None:
    with pytest.raises(SettingsError, match=VARIABLE):
        settings(value)


def test_the_order_in_which_the_prefixes_stand_changes_nothing() -> None:
    one, other = settings("a/=100/10,a/b/=200/20"), settings("a/b/=200/20,a/=100/10")
    assert one.chunk_limits("a/b/c") == other.chunk_limits("a/b/c") == (200, 20)


def test_the_recipe_changes_for_the_keys_whose_limits_change_and_for_no_other() -> None:
    before, after = settings("a/=100/10"), settings("a/=100/20,b/=50/5")
    assert recipe(before, "a/x") != recipe(after, "a/x")
    assert recipe(before, "b/x") != recipe(after, "b/x")
    assert recipe(before, "c/x") == recipe(after, "c/x")
