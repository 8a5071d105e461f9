"""Who may see what: a bucket and the key prefixes that a caller may read. Every read takes one."""

from __future__ import annotations

from dataclasses import dataclass

from worker.domain.text import storable


@dataclass(frozen=True, slots=True)
class Scope:
    """Documents of ``buckets`` whose key begins with one of ``prefixes``. No prefix, or no bucket, sees nothing."""

    buckets: tuple[str, ...]
    prefixes: tuple[str, ...]

    def __post_init__(self) -> None:
        # As for ``Filters``. No key has the replacement in a place where it had NUL, so a scope never grows by this.
        object.__setattr__(self, "buckets", tuple(storable(bucket) for bucket in self.buckets))
        object.__setattr__(self, "prefixes", tuple(storable(prefix) for prefix in self.prefixes))

    @classmethod
    def of_buckets(cls, buckets: tuple[str, ...]) -> Scope:
        """Everything in these buckets, for an operator."""
        return cls(buckets, ("",))

    def within(self, prefix: str) -> Scope:
        """The part of this scope below ``prefix``: never more than this scope itself."""
        narrowed = []
        for own in self.prefixes:
            if prefix.startswith(own):
                narrowed.append(prefix)
            elif own.startswith(prefix):
                narrowed.append(own)
        return Scope(self.buckets, tuple(narrowed))
