"""The numbers of lists in the formats that a ``w:numFmt`` names (ISO/IEC 29500-1, 17.18.59 ST_NumberFormat).

Left in digits: the formats that are words of a language (``cardinalText``, ``vietnameseCounting``, ``thaiCounting`` …),
``custom``, and in each format the numbers beyond those that it defines or that would grow too long for a list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

_Format = Callable[[int], str]

# A letter is repeated so many times at most, and counting goes so far.
_MOST_REPEATS = 30
_COUNTING_END = 10_000
_ROMAN = {
    "m": 1000, "cm": 900, "d": 500, "cd": 400, "c": 100, "xc": 90, "l": 50, "xl": 40, "x": 10, "ix": 9, "v": 5, "iv": 4, "i": 1,
}  # fmt: skip
_HEBREW = "אבגדהוזחטיכלמנסעפצקרשת"
# Ones, tens and hundreds; the final forms are 500 to 900.
_HEBREW_DIGITS = (" אבגדהוזחט", " יכלמנסעפצ", " קרשתךםןףץ")
_RUSSIAN = "абвгдежзиклмнопрстуфхцчшщыэюя"
_ARABIC = "أبتثجحخدذرزسشصضطظعغفقكلمنهوي"
_ABJAD = "أبجدهوزحطيكلمنسعفصقرشتثخذضغظ"
_THAI = "กขคงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮ"
_HINDI_CONSONANTS = "".join(map(chr, range(0x915, 0x93A)))
_HINDI_VOWELS = (*map(chr, range(0x905, 0x915)), "अं", "अः")
_AIUEO = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヰヱヲン"
_AIUEO_HALF = "ｱｲｳｴｵｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾅﾆﾇﾈﾉﾊﾋﾌﾍﾎﾏﾐﾑﾒﾓﾔﾕﾖﾗﾘﾙﾚﾛﾜｦﾝ"
_AIUEO_WITH_HALF = _AIUEO.replace("ヰヱ", "")
_IROHA = "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセスン"
# Two of these have no half-width form.
_IROHA_HALF = _IROHA.translate({ord(full): ord(half) for full, half in zip(_AIUEO_WITH_HALF, _AIUEO_HALF, strict=True)})
_GANADA = "가나다라마바사아자차카타파하"
_CHOSUNG = "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ"
_STEMS, _BRANCHES = "甲乙丙丁戊己庚辛壬癸", "子丑寅卯辰巳午未申酉戌亥"
_KOREAN_ONES = ("", "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉")
_KOREAN_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")


def formatted(count: int, name: str) -> str:
    """A number in one of ``w:numFmt``'s formats; in digits where the format or this number in it is none of those known here."""
    return _FORMATS.get(name, str)(count)


def _repeated(letters: Sequence[str], count: int) -> str:
    """a … z, aa, bb … zz, aaa …"""
    repeats, letter = divmod(count - 1, len(letters))
    return letters[letter] * (repeats + 1) if 0 < count <= len(letters) * _MOST_REPEATS else str(count)


def _listed(items: Sequence[str], count: int) -> str:
    return items[count - 1] if 0 < count <= len(items) else str(count)


def _digits(figures: str, count: int) -> str:
    return "".join(figures[int(digit)] for digit in str(count)) if count >= 0 else str(count)


def _roman(count: int) -> str:
    if not 0 < count < 5000:
        return str(count)
    digits = []
    for text, value in _ROMAN.items():
        times, count = divmod(count, value)
        digits.append(text * times)
    return "".join(digits)


def _ordinal(count: int) -> str:
    teens = 10 < count % 100 < 14
    return f"{count}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(count % 10, 'th')}"


def _counted(figures: str, units: str, ones: str, zeros: bool, count: int) -> str:
    """四百二十: each figure with its unit. ``units`` are those of 10, 100 and 1000; ``ones`` those that a 1 stands in front of;
    ``zeros``: one zero fills a gap within the number, as in 一百零五."""
    if not 0 < count < _COUNTING_END:
        return str(count)
    found = ""
    gap = False
    for place, digit in reversed([*enumerate(map(int, reversed(str(count))))]):
        unit = units[place - 1] if place else ""
        if not digit:
            gap = bool(found)
            continue
        found += figures[0] if gap and zeros else ""
        found += unit if digit == 1 and unit and unit not in ones else figures[digit] + unit
        gap = False
    return found


def _chinese_thousand(count: int) -> str:
    """十, 十一 … but 一百一十一."""
    text = _counted(_WITH_ZERO, "十百千", "十百千", True, count)
    return text[1:] if 10 <= count < 20 else text


def _to_ninety_nine(figures: str, count: int) -> str:
    """十, 十一 … 九十九; from a hundred on figure by figure: 一〇〇."""
    return _counted(figures, "十百千", "", False, count) if 0 < count < 100 else _digits(figures, count)


def _hebrew_numeral(count: int) -> str:
    if not 0 < count < 1000:
        return str(count)
    hundreds, rest = divmod(count, 100)
    # 15 and 16 in the regular way would be parts of the name of God.
    tens, ones = (0, 0) if rest in (15, 16) else divmod(rest, 10)
    written = "".join(letters[digit] for letters, digit in zip(_HEBREW_DIGITS, (ones, tens, hundreds), strict=True))[::-1]
    return written.replace(" ", "") + {15: "טו", 16: "טז"}.get(rest, "")


def _hebrew_letters(count: int) -> str:
    """א … ת, את, בת …"""
    repeats, letter = divmod(count - 1, len(_HEBREW))
    return _HEBREW[letter] + _HEBREW[-1] * repeats if 0 < count <= len(_HEBREW) * _MOST_REPEATS else str(count)


def _korean_words(count: int) -> str:
    return _KOREAN_TENS[count // 10] + _KOREAN_ONES[count % 10] if 0 < count < 100 else str(count)


def _enclosed(first: int, many: int) -> _Format:
    return partial(_listed, [chr(first + number) for number in range(many)])


_IDEOGRAPHS = "〇一二三四五六七八九"
_WITH_ZERO = "零一二三四五六七八九"
_TAIWANESE = "○一二三四五六七八九"
_HANGUL = "영일이삼사오육칠팔구"
_FULL_WIDTH = "０１２３４５６７８９"

_FORMATS: dict[str, _Format] = {
    "none": lambda count: "",
    "bullet": lambda count: "",
    "lowerLetter": partial(_repeated, "abcdefghijklmnopqrstuvwxyz"),
    "upperLetter": partial(_repeated, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "lowerRoman": _roman,
    "upperRoman": lambda count: _roman(count).upper(),
    "ordinal": _ordinal,
    "decimalZero": lambda count: f"{count:02}",
    "hex": lambda count: f"{count:X}",
    "numberInDash": lambda count: f"- {count} -",
    "chicago": partial(_repeated, "*†‡§"),
    "decimalFullWidth": partial(_digits, _FULL_WIDTH),
    "decimalFullWidth2": partial(_digits, _FULL_WIDTH),
    "decimalEnclosedCircle": _enclosed(0x2460, 20),
    "decimalEnclosedCircleChinese": _enclosed(0x2460, 10),
    "decimalEnclosedParen": _enclosed(0x2474, 20),
    "decimalEnclosedFullstop": _enclosed(0x2488, 20),
    "ideographEnclosedCircle": _enclosed(0x3220, 10),
    "ideographDigital": partial(_digits, _IDEOGRAPHS),
    "ideographTraditional": partial(_listed, _STEMS),
    "ideographZodiac": partial(_listed, _BRANCHES),
    "ideographZodiacTraditional": partial(_listed, [_STEMS[year % 10] + _BRANCHES[year % 12] for year in range(60)]),
    "ideographLegalTraditional": partial(_counted, "零壹貳參肆伍陸柒捌玖", "拾佰仟", "拾佰仟", True),
    "chineseCounting": partial(_to_ninety_nine, _IDEOGRAPHS),
    "chineseCountingThousand": _chinese_thousand,
    "chineseLegalSimplified": partial(_counted, "零壹贰叁肆伍陆柒捌玖", "拾佰仟", "拾佰仟", True),
    "taiwaneseCounting": partial(_to_ninety_nine, _TAIWANESE),
    "taiwaneseCountingThousand": _chinese_thousand,
    "taiwaneseDigital": partial(_digits, _TAIWANESE),
    "japaneseCounting": partial(_counted, _WITH_ZERO, "十百千", "", False),
    "japaneseLegal": partial(_counted, "零壱弐参四伍六七八九", "拾百阡", "拾百阡", False),
    "japaneseDigitalTenThousand": partial(_digits, _IDEOGRAPHS),
    "aiueo": partial(_repeated, _AIUEO_HALF),
    "aiueoFullWidth": partial(_repeated, _AIUEO),
    "iroha": partial(_repeated, _IROHA_HALF),
    "irohaFullWidth": partial(_repeated, _IROHA),
    "koreanDigital": partial(_digits, _HANGUL),
    "koreanDigital2": partial(_digits, _WITH_ZERO),
    "koreanCounting": partial(_counted, _HANGUL, "십백천", "", False),
    "koreanLegal": _korean_words,
    "ganada": partial(_repeated, _GANADA),
    "chosung": partial(_repeated, _CHOSUNG),
    "hebrew1": _hebrew_numeral,
    "hebrew2": _hebrew_letters,
    "arabicAlpha": partial(_repeated, _ARABIC),
    "arabicAbjad": partial(_repeated, _ABJAD),
    # The standard lists the consonants under the vowels' name, and the vowels under theirs.
    "hindiVowels": partial(_repeated, _HINDI_CONSONANTS),
    "hindiConsonants": partial(_repeated, _HINDI_VOWELS),
    "hindiNumbers": partial(_digits, "०१२३४५६७८९"),
    "thaiLetters": partial(_repeated, _THAI),
    "thaiNumbers": partial(_digits, "๐๑๒๓๔๕๖๗๘๙"),
    "russianLower": partial(_repeated, _RUSSIAN),
    "russianUpper": partial(_repeated, _RUSSIAN.upper()),
}
