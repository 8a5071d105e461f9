"""Who may see what: a bucket and the key prefixes that a caller may read. Every read takes one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """Documents of ``buckets`` whose key begins with one of ``prefixes``. No prefix, or no bucket, sees nothing."""

    buckets: tuple[str, ...]
    prefixes: tuple[str, ...]

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
