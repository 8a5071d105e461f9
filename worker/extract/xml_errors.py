"""Distinguishes lxml's errors about a file from its out-of-memory error, which has the same type."""

from __future__ import annotations

# libxml2's error for memory that it could not get (xmlerror.h, XML_ERR_NO_MEMORY).
_NO_MEMORY = 2


def check_memory(error: Exception) -> None:
    """Check that an error is not lxml's way to say that it ran out of memory.

    Raises:
        MemoryError: the parser ran out of memory.
    """
    if type(error).__module__.startswith("lxml") and getattr(error, "code", None) == _NO_MEMORY:
        raise MemoryError from error
