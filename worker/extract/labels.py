"""Names of encodings, as browsers understand them: the WHATWG Encoding Standard's labels, on Python's codecs.

Own table: webencodings has the same one with decoders of its own, and would be a dependency for some sixty names.
"""

from __future__ import annotations

import codecs
import re

# A page that says ISO-8859-1 means windows-1252 (WHATWG Encoding Standard, "Names and labels"): what each codec stands for.
_BROWSER_CODECS = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "shift_jis": "cp932",
    "shift_jis_2004": "cp932",
    "shift_jisx0213": "cp932",
    "euc_jis_2004": "euc_jp",
    "euc_jisx0213": "euc_jp",
}
# Labels of the same standard that Python does not know.
_LABELS = {
    "ansi_x3.4-1968": "cp1252",
    "x-ansi": "cp1252",
    "x-cp1250": "cp1250",
    "x-cp1251": "cp1251",
    "x-cp1252": "cp1252",
    "x-cp1253": "cp1253",
    "x-cp1254": "cp1254",
    "x-cp1255": "cp1255",
    "x-cp1256": "cp1256",
    "x-cp1257": "cp1257",
    "x-cp1258": "cp1258",
    "dos-874": "cp874",
    "windows-874": "cp874",
    "csiso88596e": "iso8859-6",
    "csiso88596i": "iso8859-6",
    "iso-8859-6-e": "iso8859-6",
    "iso-8859-6-i": "iso8859-6",
    "sun_eu_greek": "iso8859-7",
    "csiso88598e": "iso8859-8",
    "csiso88598i": "iso8859-8",
    "iso-8859-8-e": "iso8859-8",
    "iso-8859-8-i": "iso8859-8",
    "logical": "iso8859-8",
    "visual": "iso8859-8",
    "csisolatin9": "iso8859-15",
    "mac": "mac_roman",
    "csmacintosh": "mac_roman",
    "koi": "koi8-r",
    "koi8": "koi8-r",
    "koi8-ru": "koi8-u",
    "x-mac-roman": "mac_roman",
    "x-mac-cyrillic": "mac_cyrillic",
    "x-mac-ukrainian": "mac_cyrillic",
    "x-gbk": "gb18030",
    "csgb2312": "gb18030",
    "gb_2312": "gb18030",
    "gb_2312-80": "gb18030",
    "csiso58gb231280": "gb18030",
    "cn-big5": "big5hkscs",
    "x-x-big5": "big5hkscs",
    "x-euc-jp": "euc_jp",
    "cseucpkdfmtjapanese": "euc_jp",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "cseuckr": "cp949",
    "csksc56011987": "cp949",
    "iso-ir-149": "cp949",
    "ks_c_5601-1989": "cp949",
    "ksc_5601": "cp949",
    "windows-949": "cp949",
    "unicode-1-1-utf-8": "utf-8",
    "unicode11utf8": "utf-8",
    "unicode20utf8": "utf-8",
    "x-unicode20utf8": "utf-8",
}
# Python's codecs that are encodings of texts, by the names that it gives them. It has others: for host names and for its own
# literals (punycode's takes quadratic time), for compressed bytes, and those of whatever system it runs on.
_TEXT_NAMES = """
    ascii utf-7 utf-8 utf-8-sig utf-16 utf-16-be utf-16-le utf-32 utf-32-be utf-32-le
    iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 iso8859-10 iso8859-11 iso8859-13
    iso8859-14 iso8859-15 iso8859-16 tis-620 koi8-r koi8-t koi8-u kz1048 ptcp154 hp-roman8
    cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp874 cp932 cp949 cp950
    cp437 cp720 cp737 cp775 cp850 cp852 cp855 cp856 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865 cp866 cp869 cp1006 cp1125
    mac-arabic mac-croatian mac-cyrillic mac-farsi mac-greek mac-iceland mac-latin2 mac-roman mac-romanian mac-turkish
    big5 big5hkscs euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk hz johab shift_jis shift_jis_2004 shift_jisx0213
    iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr
"""
_TEXT = frozenset(_TEXT_NAMES.split())
_ISO = re.compile(r"^iso8859(\d{1,2})$")


def text_codec(label: str) -> str | None:
    """The Python codec of that name, if it is an encoding of texts that are ASCII where they can be (EBCDIC is not)."""
    try:
        codec = codecs.lookup(label).name
    # UnicodeError, LookupError: an unknown name; ValueError: one with a NUL in it.
    except (LookupError, ValueError):
        return None
    return codec if codec in _TEXT else None


def codec_of(label: str) -> str | None:
    """The Python codec that a browser uses for a label; None for an unknown one, and for those that a browser refuses."""
    label = _ISO.sub(r"iso8859-\1", label.strip().lower())
    codec = _LABELS.get(label) or text_codec(label)
    return browser_codec(codec) if codec else None


def browser_codec(codec: str) -> str | None:
    """The codec that a browser uses for what seems to be in this one; None where that must be told by other means."""
    return None if codec.startswith(("utf-16", "utf-32", "utf-7")) else _BROWSER_CODECS.get(codec, codec)
