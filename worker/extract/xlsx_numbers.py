"""What a spreadsheet shows for a number: the part of Excel's number formats that changes what a reader understands.

Dates, times and percentages are shown as such, dates in ISO 8601; every other format (currency, colours, fixed decimals) as
General. Own code: the libraries that know number formats (SheetJS' SSF) are no Python; openpyxl only tells dates from numbers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, timedelta

# ISO/IEC 29500-1, 18.8.30. 27 to 36 and 50 to 58 are dates and times of East Asian locales.
_BUILTIN = {
    **dict.fromkeys((*range(14, 18), *range(27, 32), 36, *range(50, 59)), "yyyy-mm-dd"),
    **dict.fromkeys((18, 20, 32, 34), "h:mm"),
    **dict.fromkeys((19, 21, 33, 35, 45), "h:mm:ss"),
    9: "0%",
    10: "0.00%",
    22: "yyyy-mm-dd h:mm",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
}
# Quoted text, an escaped character, one as wide as a character, one that fills the cell.
_LITERALS = re.compile(r'"[^"]*"|\\.|_.|\*.', re.DOTALL)
_ELAPSED = re.compile(r"\[(?:h+|m+|s+)\]")
_NOISE = re.compile(r"\[[^\]]*\]|general|standard|am/pm|a/p")
_FRACTION = re.compile(r"s[.,]0+")
_PERCENT_DECIMALS = re.compile(r"\.([0#?]+)")
# The format code is at most 255 characters in Excel.
_MAX_CODE = 1000
_MAX_DAY = 2_958_465  # 9999-12-31
_DAY_SECONDS = 86_400
# Excel itself keeps no digits beyond this, while a float may have 308 of them.
_MOST_PERCENT = 1e15


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """``percent`` with its decimals, or which of date, time of day, seconds, or hours beyond 24 a number shows."""

    percent: int | None = None
    date: bool = False
    time: bool = False
    seconds: bool = False
    milliseconds: bool = False
    elapsed: bool = False


def number_format(identifier: int, code: str | None) -> NumberFormat | None:
    """The format with this id, and this code where the file gives one; None where it is shown as General."""
    plain = _LITERALS.sub("", (code or _BUILTIN.get(identifier, ""))[:_MAX_CODE].lower()).split(";")[0]
    elapsed = _ELAPSED.search(plain) is not None
    plain = _NOISE.sub("", plain.replace("[h", "h[").replace("[m", "m[").replace("[s", "s[") if elapsed else plain)
    if "%" in plain:
        decimals = _PERCENT_DECIMALS.search(plain)
        return NumberFormat(percent=min(len(decimals[1]), 10) if decimals else 0)
    milliseconds = _FRACTION.search(plain) is not None
    if any(digit in _FRACTION.sub("s", plain) for digit in "0#?"):
        return None
    time = "h" in plain or "s" in plain
    # m is the month, but beside hours or seconds the minute.
    day = any(letter in plain for letter in "yd") or "mmm" in plain or ("m" in plain and not time and not elapsed)
    if not (time or day or elapsed):
        return None
    return NumberFormat(None, day, time, "s" in plain, milliseconds, elapsed)


def shown(value: float, format: NumberFormat | None, date1904: bool) -> str:
    """The number as the cell shows it. A number that the format can't show (a date before the first) is shown as General."""
    if format is None or not math.isfinite(value):
        return general(value)
    if format.percent is not None and abs(value) < _MOST_PERCENT:
        # Excel rounds halves up, of the 15 digits that it knows: 0.125 is 13%.
        return f"{value * 100 * (1 + 1e-14):.{format.percent}f}%"
    if format.percent is not None:
        return general(value)
    first = 0 if date1904 else 1
    if value < 0 or value >= _MAX_DAY + 1 or (format.date and value < first):
        return general(value)
    if format.elapsed:
        return _clock(value * _DAY_SECONDS, format)
    day, seconds = divmod(round(value * _DAY_SECONDS, 3 if format.milliseconds else 0), _DAY_SECONDS)
    if not format.time:
        return _day(int(value), date1904)
    return f"{_day(int(day), date1904)} {_clock(seconds, format)}" if format.date else _clock(seconds, format)


def general(value: float) -> str:
    """As Excel's General shows it in a cell wide enough, which is eleven characters; whole numbers with all their 15 digits.

    An amount of ten digits and more keeps its decimals, which Excel would round away to fit.
    """
    if not math.isfinite(value):
        return ""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < 15 and value == int(value):
        return str(int(value))
    if -4 <= size <= -1:
        return f"{value:.{10 + size}g}"
    if 0 <= size < 10:
        return f"{value:.10g}"
    if 10 <= size < 15:
        return f"{value:.15g}"
    return f"{value:.6g}".upper()


def _day(day: int, date1904: bool) -> str:
    if date1904:
        return _iso(date(1904, 1, 1), day)
    if day == 60:
        # Excel believes, as Lotus 1-2-3 did, that 1900 was a leap year.
        return "1900-02-29"
    return _iso(date(1899, 12, 31) if day < 60 else date(1899, 12, 30), day)


def _iso(epoch: date, days: int) -> str:
    try:
        return (epoch + timedelta(days)).isoformat()
    except OverflowError:
        return general(days)


def _clock(seconds: float, format: NumberFormat) -> str:
    thousandths = round(seconds * 1000) if format.milliseconds else round(seconds) * 1000
    minutes, rest = divmod(thousandths, 60_000)
    text = f"{minutes // 60:02d}:{minutes % 60:02d}"
    if format.seconds:
        text += f":{rest // 1000:02d}"
    return f"{text}.{rest % 1000:03d}" if format.milliseconds else text
