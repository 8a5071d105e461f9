"""Markdown: its own source, block by block, under its headings; a reader of the source reads what search finds.

markdown-it-py (MIT, CommonMark-tested, typed) finds the blocks; alternatives: mistune (faster, no source lines),
python-markdown (HTML only), a regular expression (takes comments in code fences for headings).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token

from worker.domain.text import Extraction, Metadata
from worker.extract.blocks import BlockBuilder, Limits
from worker.extract.encodings import decode
from worker.extract.html_facts import iso_date, language
from worker.extract.text import read_bounded

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
# Front matter is YAML; lines of "name: value" are all that is read of it, so that no document's YAML is ever evaluated.
_FIELD = re.compile(r"^(title|authors?|date|updated|lastmod|lang|language):[ \t]*(\S.*)$", re.MULTILINE | re.IGNORECASE)


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a Markdown file: one block a top-level block of the source (a list or a code fence is one).

    Raises:
        Rejected: ``type_mismatch`` (binary data), ``too_large``.
        NoText: ``empty``.
    """
    decoded = decode(read_bounded(path, limits))
    source = decoded.text.replace("\r\n", "\n").replace("\r", "\n")
    builder = BlockBuilder(limits)
    if decoded.guessed:
        builder.warn(f"the encoding was guessed: {decoded.encoding}")
    said: dict[str, str] = {}
    front = _FRONT_MATTER.match(source)
    if front:
        said = {field[1].lower(): _plain(field[2]) for field in reversed(list(_FIELD.finditer(front[1])))}
        builder.add(front[1])
        source = source[front.end() :]
    title = said.get("title")
    tokens = _outline(source)
    lines = source.split("\n")
    done = 0
    for index, token in enumerate(tokens):
        if token.level or not token.map:
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
    metadata = Metadata(
        author=said.get("author") or said.get("authors"),
        created=iso_date(said.get("date", "")),
        modified=iso_date(said.get("lastmod") or said.get("updated", "")),
        language=language(said.get("lang") or said.get("language")),
    )
    return builder.finish("text/markdown", "markdown", title, metadata=metadata)


class _Outline(StateBlock):
    """Keeps only the tokens that begin a top-level block, and the text of headings.

    All others are dropped: a list of 400,000 items has millions of them, of 300 bytes each.
    """

    def push(self, ttype: str, tag: str, nesting: Literal[-1, 0, 1]) -> Token:
        """Make the next token and return it."""
        token = super().push(ttype, tag, nesting)
        is_heading_text = ttype == "inline" and token.level == 1 and self.tokens[-2].type == "heading_open"
        if not is_heading_text and (token.level or nesting < 0):
            self.tokens.pop()
        return token


def _outline(source: str) -> list[Token]:
    """The tokens that begin the top-level blocks. Inline parsing, the costly half, is skipped, since the text is the source."""
    parser = MarkdownIt("commonmark").enable("table")
    # CommonMark 2.3; the parser's own rule for it belongs to the step that is left out here.
    state = _Outline(source.replace("\0", "\ufffd"), parser, {}, [])
    parser.block.tokenize(state, state.line, state.lineMax)
    return state.tokens


def _plain(value: str) -> str:
    """A YAML value without its quotation marks, a list of them as words with commas."""
    value = value.strip()
    items = value[1:-1].split(",") if value[0] == "[" and value[-1] == "]" else [value]
    return ", ".join(stripped for item in items if (stripped := item.strip().strip("\"'").strip()))
