"""Cut a list of texts into provider requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# OpenAI's limit for one request is 300,000 tokens (API reference, "Create embeddings"). No tokenizer gives more tokens
# than a text has UTF-8 bytes, so a bound in bytes errs on the safe side.
MAX_REQUEST_BYTES = 290_000


def batches(texts: Sequence[str], max_inputs: int, max_bytes: int = MAX_REQUEST_BYTES) -> Iterator[range]:
    """Yield ranges of indexes into ``texts``, in order, each within both limits.

    A text that is over ``max_bytes`` by itself stands alone: the provider's answer says what is wrong with it.
    """
    start = 0
    size = 0
    for index, text in enumerate(texts):
        bytes_here = len(text.encode())
        if index > start and (index - start >= max_inputs or size + bytes_here > max_bytes):
            yield range(start, index)
            start, size = index, 0
        size += bytes_here
    if start < len(texts):
        yield range(start, len(texts))
