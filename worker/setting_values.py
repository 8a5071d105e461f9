"""How the values of variables are read: each function takes the text, and raises ValueError where it can't be used."""

from __future__ import annotations

from typing import NamedTuple


def read_names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def read_positive(value: str) -> int:
    number = int(value)
    if number <= 0:
        raise ValueError("must be greater than 0")
    return number


def read_seconds(value: str) -> float:
    number = float(value)
    if number <= 0:
        raise ValueError("must be greater than 0")
    return number


def read_pdf_engine(value: str) -> str:
    if value not in ("auto", "pdfium", "pdfminer"):
        raise ValueError("must be auto, pdfium or pdfminer")
    return value


def read_vector_type(value: str) -> str:
    if value not in MOST_DIMENSIONS:
        raise ValueError("must be halfvec or vector")
    return value


# What pgvector's HNSW index takes of each type (pgvector README, "HNSW").
MOST_DIMENSIONS = {"halfvec": 4000, "vector": 2000}


class Provider(NamedTuple):
    """Another embedding provider than the first one: its key, and where it is, unless its models' profiles say so."""

    key: str
    base_url: str | None


def read_providers(value: str) -> tuple[tuple[str, Provider], ...]:
    """Read ``name=key`` or ``name=key@https://…``."""
    found = []
    for entry in read_names(value):
        name, _, rest = entry.partition("=")
        key, at, url = rest.partition("@http")
        if not name or not key:
            raise ValueError("must be name=key or name=key@URL, with commas between")
        found.append((name, Provider(key, f"http{url}" if at else None)))
    return tuple(found)


class ChunkLimits(NamedTuple):
    """Characters in a chunk, at most, and how many of them it may share with the one before."""

    size: int
    overlap: int

    @property
    def usable(self) -> bool:
        return self.size > 0 and 0 <= self.overlap <= self.size // 2


def read_chunk_sizes(value: str) -> tuple[tuple[str, ChunkLimits], ...]:
    """Read ``prefix=size/overlap`` pairs, the longest prefix first. A prefix may hold ``=``, and no comma."""
    rules: dict[str, ChunkLimits] = {}
    for rule in read_names(value):
        prefix, _, limits = rule.rpartition("=")
        numbers = limits.split("/")
        if not prefix or len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise ValueError(f"{rule!r} is not of the form prefix=size/overlap")
        if prefix in rules:
            raise ValueError(f"{prefix!r} has two sizes")
        rules[prefix] = ChunkLimits(*map(int, numbers))
        if not rules[prefix].usable:
            raise ValueError(f"the overlap of {prefix!r} must be from 0 to half of its size")
    return tuple(sorted(rules.items(), key=lambda rule: len(rule[0]), reverse=True))
