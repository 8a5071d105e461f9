"""Markdown: its own source, block by block, under its headings; a reader of the source reads what search finds.

markdown-it-py (MIT, CommonMark-tested, typed) finds the blocks; alternatives: mistune (faster, no source lines),
python-markdown (HTML only), a regular expression (takes comments in code fences for headings).
"""

from __future__ import annotations

import re
from pathlib import Path

from markdown_it import MarkdownIt

from worker.domain.text import Extraction
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.encodings import decode

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.MULTILINE)


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a Markdown file: one block a top-level block of the source (a list or a code fence is one).

    Raises:
        Rejected: ``type_mismatch`` (binary data), ``too_large``.
        NoText: ``empty``.
    """
    decoded = decode(path.read_bytes())
    source = decoded.text.replace("\r\n", "\n").replace("\r", "\n")
    builder = BlockBuilder(limits)
    if decoded.guessed:
        builder.warn(f"the encoding was guessed: {decoded.encoding}")
    title: str | None = None
    front = _FRONT_MATTER.match(source)
    if front:
        named = _TITLE.search(front[1])
        title = named[1] if named else None
        builder.add(front[1])
        source = source[front.end() :]
    # Inline parsing is the costly half, and the source is what is kept.
    tokens = MarkdownIt("commonmark").enable("table").disable("inline").parse(source)
    lines = source.split("\n")
    done = 0
    for index, token in enumerate(tokens):
        if token.level or not token.map or token.nesting < 0:
            continue
        start, end = token.map
        # Link definitions give no token: what stands between two blocks is text as well.
        builder.add("\n".join(lines[done:start]))
        if token.type == "heading_open":
            heading = tokens[index + 1].content
            builder.add_heading(int(token.tag[1:]), heading)
            title = title or heading
        elif token.type != "hr":
            builder.add("\n".join(lines[start:end]), "table" if token.type == "table_open" else "paragraph")
        done = end
    builder.add("\n".join(lines[done:]))
    return builder.finish("text/markdown", "markdown", title)
