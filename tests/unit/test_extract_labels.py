"""Which codec a declared encoding means, and which words mean none."""

from __future__ import annotations

import codecs
import contextlib
import encodings
import pkgutil
import time

import pytest

from worker.extract.encodings import decode
from worker.extract.labels import codec_of, text_codec


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("x-sjis", "cp932"),
        ("ISO-8859-1", "cp1252"),
        ("iso88592", "iso8859-2"),
        ("iso-8859-8-i", "iso8859-8"),
        ("ks_c_5601-1987", "cp949"),
        ("windows-874", "cp874"),
        ("x-mac-cyrillic", "mac_cyrillic"),
        ("csGB2312", "gb18030"),
        ("utf-16", None),
        ("zip", None),
        ("rot13", None),
        ("no\0thing", None),
        ("3dwindows-1252", None),
        ("punycode", None),
        ("idna", None),
        ("unicode_escape", None),
        ("raw-unicode-escape", None),
        ("undefined", None),
        ("quopri", None),
        ("palmos", None),
        ("ibm037", None),
        ("IBM850", "cp850"),
        ("cp819", "cp1252"),
    ],
)
def test_labels_mean_what_they_mean_in_a_browser(label: str, codec: str | None) -> None:
    assert codec_of(label) == codec


def test_every_codec_of_python_is_either_told_to_be_one_of_texts_or_refused() -> None:
    no_texts = {"base64", "bz2", "charmap", "hex", "idna", "mbcs", "oem", "palmos", "punycode", "quopri", "raw-unicode-escape"}
    no_texts |= {"rot-13", "undefined", "unicode-escape", "uu", "zlib"}
    ebcdic = {"cp037", "cp1026", "cp1140", "cp273", "cp424", "cp500", "cp875"}
    known = set()
    for module in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(LookupError):
            known.add(codecs.lookup(module.name).name)
    assert {name for name in known if text_codec(name) is None} <= no_texts | ebcdic
    assert all(text_codec(name) is None for name in no_texts | ebcdic)


def test_a_page_that_declares_a_codec_of_host_names_is_read_quickly() -> None:
    page = b"<meta charset=punycode>" + "é".encode("latin-1") * 200_000 + b"-z" * 200_000
    begun = time.process_time()
    assert "é" in decode(page, "punycode").text
    assert time.process_time() - begun < 5
