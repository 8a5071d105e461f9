"""Mail (RFC 5322 with MIME) and mailboxes (mbox): what a reader of the mail sees, attached messages included.

worker.extract.mime cuts the message up (it names the alternatives); a mailbox is cut at its "From " lines, as mailbox.mbox does,
which wants a file name and keeps an index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from worker.domain.errors import Rejected
from worker.domain.text import Extraction, Metadata
from worker.extract import html
from worker.extract.blocks import NO_METADATA, BlockBuilder, Limits, shortened_line
from worker.extract.encodings import decode, wide_encoding
from worker.extract.mail_fields import MAX_FIELD_BYTES, decode_field, decode_text, iso_date
from worker.extract.mime import MAX_HEADER_BYTES, Part, read_part
from worker.extract.text import add_paragraphs
from worker.extract.xml_errors import check_memory

MAX_PARTS = 10_000
MAX_DEPTH = 50
_SHOWN = ("From", "To", "Cc", "Date")
# What mail servers and programs write for one another: traces, signatures, the description of the parts.
_MACHINES = re.compile(
    r"received|x-|arc-|dkim-|domainkey|authentication-|content-|mime-version|return-path|(?:subject|from|to|cc|date)$"
)
_OTHER_FIELDS, _OTHER_FIELD_BYTES = 50, 1_000
_NAME_CHARACTERS = 100
_READABLE = re.compile(r"text/(?!rtf$|richtext$)|message/(?:delivery-status|disposition-notification|feedback-report)$")
_MESSAGES = ("message/rfc822", "message/global", "message/news")
# A plain alternative with fewer words than this may only say that there is an HTML one.
_STUB_WORDS = 50
_MAILBOX_LINE = re.compile(rb"From \S[^\r\n]{0,500}(?:\r\n|\n|\r)(?=[!-9;-~]{1,100}:)")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_GUESSES = 10


def extract(path: Path, limits: Limits) -> Extraction:
    """Read a mail or a mailbox: subject, the people and the date, the body, the names of attachments, attached messages.

    Raises:
        Rejected: ``too_large`` (also more than ``MAX_PARTS`` parts in a mail, or in a mailbox more than it may have blocks).
        NoText: ``empty``.
    """
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")) or wide_encoding(data):
        data = decode(data).text.encode("utf-8", "replace")
    builder = BlockBuilder(limits)
    reader = _Reader(builder, limits)
    mails = _mails(data.lstrip(b"\r\n"))
    for mail in mails:
        reader.mail(read_part(mail, 0, len(mail)))
    reader.warn()
    if reader.mails > 1:
        return builder.finish("application/mbox", "eml")
    return builder.finish("message/rfc822", "eml", reader.subject, metadata=reader.metadata)


def _mails(data: bytes) -> Iterator[bytes]:
    """The mails of a mailbox, their quoted "From " lines restored; a file that begins otherwise is one mail."""
    if not _MAILBOX_LINE.match(data):
        yield data
        return
    # Without a blank line before it, such a line is one of a text (RFC 4155).
    lines = (line.start() for line in _MAILBOX_LINE.finditer(data))
    starts = [at for at in lines if at == 0 or data[max(0, at - 4) : at].replace(b"\r", b"").endswith(b"\n\n")]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        yield _QUOTED_FROM.sub(rb"\1", data[start:end])


@dataclass(slots=True)
class _Alternatives:
    """How many words of one multipart/alternative were read: its parts say the same in several forms."""

    words: int = 0


@dataclass(slots=True)
class _Enclosed:
    """What one message brings along: the names of its attachments, and messages with their depth, read after its text."""

    names: list[str] = field(default_factory=list)
    messages: list[tuple[Part, int]] = field(default_factory=list)


class _Reader:
    """Turns mails into blocks and counts what was left out."""

    def __init__(self, builder: BlockBuilder, limits: Limits) -> None:
        self.mails = 0
        self.subject: str | None = None
        self.metadata: Metadata = NO_METADATA
        self._builder = builder
        self._limits = limits
        self._parts = self._earlier_parts = self._attachments = self._unreadable = self._too_deep = 0
        self._cut: set[str] = set()
        self._guessed: set[str] = set()

    def mail(self, mail: Part) -> None:
        """Add one mail of the file; what the file says about itself is what its first mail does."""
        self.mails += 1
        self._earlier_parts += self._parts
        self._parts = 0
        self._builder.leave_headings()
        self._message(mail, 0, 0)
        if self.mails == 1:
            self.subject = " ".join(self._values(mail, "subject"))
            senders, dates = self._values(mail, "from"), self._values(mail, "date")
            self.metadata = Metadata(author=", ".join(senders) or None, created=iso_date(dates[0]) if dates else None)

    def warn(self) -> None:
        """Say what was left out of all mails."""
        for count, words in (
            (self._attachments, "attachments were not read"),
            (self._unreadable, "parts that should be text hold other data"),
            (self._too_deep, f"parts that are nested deeper than {MAX_DEPTH} levels were left out"),
        ):
            if count:
                self._builder.warn(f"{words}: {count}")
        for sentence in sorted(self._cut):
            self._builder.warn(sentence)
        for encoding in sorted(self._guessed)[:_GUESSES]:
            self._builder.warn(f"the encoding was guessed: {encoding}")

    def _message(self, mail: Part, depth: int, nesting: int) -> None:
        builder = self._builder
        builder.heading_base = nesting
        builder.add_heading(0, " ".join(self._values(mail, "subject")))
        builder.add("\n".join(f"{name}: {value}" for name in _SHOWN for value in self._values(mail, name.lower())))
        enclosed = _Enclosed()
        self._part(mail, depth, enclosed, None)
        self._note_other_fields(mail)
        if enclosed.names:
            builder.add("Attachments: " + "\n".join(enclosed.names), "note")
        for message, inner_depth in enclosed.messages:
            self._message(message, inner_depth, nesting + 1)

    def _part(self, part: Part, depth: int, enclosed: _Enclosed, alternatives: _Alternatives | None) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Rejected("too_large", f"the mail has more than {MAX_PARTS} parts")
        # Parts without a text never meet the limit of blocks.
        if self._earlier_parts + self._parts > self._limits.max_blocks:
            raise Rejected("too_large", f"the mailbox has more than {self._limits.max_blocks} parts")
        if depth > MAX_DEPTH:
            self._too_deep += 1
            return
        if part.cut:
            self._cut.add(f"headers longer than {MAX_HEADER_BYTES} bytes were cut")
        kind = part.media_type
        if kind.startswith("multipart/"):
            inner = _Alternatives() if kind == "multipart/alternative" else alternatives
            before = self._parts
            for child in part.children():
                self._part(child, depth + 1, enclosed, inner)
            # Without its delimiter a multipart is the text that it is.
            if self._parts == before:
                self._text(part, enclosed, alternatives)
        elif kind in _MESSAGES:
            enclosed.messages.append((part.message(), depth + 1))
        elif part.attached or not _READABLE.match(kind):
            self._attachments += 1
            self._name(part, enclosed)
        else:
            self._text(part, enclosed, alternatives)

    def _text(self, part: Part, enclosed: _Enclosed, alternatives: _Alternatives | None) -> None:
        said = alternatives.words if alternatives else 0
        if said >= _STUB_WORDS:
            return
        text = self._decoded(part)
        if text is None:
            self._unreadable += 1
            self._name(part, enclosed)
            return
        if part.media_type == "text/html":
            # The scratch is read only where a short plain text stands beside the page.
            scratch = BlockBuilder(self._limits)
            if said and (not _add_page(text, scratch) or sum(len(block.split()) for block in scratch.texts) < 3 * said):
                return
            if _add_page(text, self._builder):
                said = _STUB_WORDS
            else:
                add_paragraphs(text, self._builder)
        else:
            add_paragraphs(text, self._builder)
            said += len(text.split())
        if alternatives:
            alternatives.words = said

    def _decoded(self, part: Part) -> str | None:
        try:
            text, guessed = decode_text(part.payload(), part.parameter("charset"))
        except Rejected:
            return None
        if guessed:
            self._guessed.add(guessed)
        return text

    def _name(self, part: Part, enclosed: _Enclosed) -> None:
        name = part.file_name()
        if isinstance(name, bytes):
            name = decode_field(name[: 10 * _NAME_CHARACTERS])
        if name:
            kind = shortened_line(part.media_type, _NAME_CHARACTERS)
            enclosed.names.append(f"{shortened_line(name, _NAME_CHARACTERS)} ({kind})")

    def _note_other_fields(self, mail: Part) -> None:
        """Fields that people may look for (Message-ID, Newsgroups, Reply-To, Organization), behind the text."""
        others = [(name, value) for name, value in mail.fields if not _MACHINES.match(name.lower())][:_OTHER_FIELDS]
        charset = mail.parameter("charset")
        self._builder.add(
            "\n".join(f"{name}: {decode_field(value[:_OTHER_FIELD_BYTES], charset)}" for name, value in others), "note"
        )

    def _values(self, mail: Part, name: str) -> list[str]:
        raw = [value for field_name, value in mail.fields if field_name.lower() == name][:_OTHER_FIELDS]
        if any(len(value) > MAX_FIELD_BYTES for value in raw):
            self._cut.add(f"header fields longer than {MAX_FIELD_BYTES} bytes were cut")
        charset = mail.parameter("charset")
        return [text for text in (decode_field(value, charset) for value in raw) if text]


def _add_page(markup: str, builder: BlockBuilder) -> bool:
    """Add an HTML part; False where it can't be read as a page, and then nothing was added."""
    try:
        html.add_page(markup, builder)
    except etree.LxmlError as error:
        check_memory(error)
        return False
    except Rejected as error:
        if error.code != "damaged":
            raise
        return False
    return True
