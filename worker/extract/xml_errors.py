"""Tell lxml's errors about a file from its errors about the machine, which have the same type."""

from __future__ import annotations

# libxml2's error for memory that it could not get (xmlerror.h, XML_ERR_NO_MEMORY).
_NO_MEMORY = 2


def check_memory(error: Exception) -> None:
    """Do nothing about an error of lxml, unless the parser ran out of memory.

    Raises:
        MemoryError: it did.
    """
    if type(error).__module__.startswith("lxml") and getattr(error, "code", None) == _NO_MEMORY:
        raise MemoryError from error
