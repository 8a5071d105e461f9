"""Numbers in the formats of 17.18.59, at the places where their sequences turn."""

from __future__ import annotations

import pytest

from worker.extract.docx_number_formats import _FORMATS, formatted


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("decimal", {0: "0", 12: "12"}),
        ("decimalZero", {3: "03", 12: "12"}),
        ("lowerLetter", {1: "a", 26: "z", 27: "aa", 53: "aaa", 0: "0", 10**8: "100000000"}),
        ("upperLetter", {2: "B", 28: "BB"}),
        ("lowerRoman", {4: "iv", 1999: "mcmxcix", 10**8: "100000000"}),
        ("upperRoman", {14: "XIV"}),
        ("ordinal", {1: "1st", 2: "2nd", 3: "3rd", 11: "11th", 21: "21st", 112: "112th"}),
        ("none", {5: ""}),
        ("hex", {9: "9", 26: "1A"}),
        ("numberInDash", {5: "- 5 -"}),
        ("chicago", {1: "*", 4: "§", 5: "**"}),
        ("decimalFullWidth", {10: "１０"}),
        ("decimalHalfWidth", {10: "10"}),
        ("decimalEnclosedCircle", {1: "①", 20: "⑳", 21: "21"}),
        ("decimalEnclosedCircleChinese", {10: "⑩", 11: "11"}),
        ("decimalEnclosedParen", {1: "⑴", 20: "⒇", 21: "21"}),
        ("decimalEnclosedFullstop", {1: "⒈", 20: "⒛"}),
        ("ideographEnclosedCircle", {1: "㈠", 10: "㈩", 11: "11"}),
        ("ideographDigital", {7: "七", 10: "一〇", 205: "二〇五"}),
        ("ideographTraditional", {1: "甲", 10: "癸", 11: "11"}),
        ("ideographZodiac", {1: "子", 12: "亥", 13: "13"}),
        ("ideographZodiacTraditional", {1: "甲子", 12: "乙亥", 60: "癸亥", 61: "61"}),
        ("ideographLegalTraditional", {10: "壹拾", 21: "貳拾壹", 105: "壹佰零伍"}),
        ("chineseCounting", {1: "一", 10: "十", 11: "十一", 20: "二十", 99: "九十九", 100: "一〇〇", 0: "〇"}),
        (
            "chineseCountingThousand",
            {10: "十", 19: "十九", 110: "一百一十", 105: "一百零五", 1005: "一千零五", 2050: "二千零五十"},
        ),
        ("chineseLegalSimplified", {1: "壹", 10: "壹拾", 66: "陆拾陆"}),
        ("taiwaneseCounting", {12: "十二", 100: "一○○"}),
        ("taiwaneseCountingThousand", {105: "一百零五", 10_000: "10000"}),
        ("taiwaneseDigital", {10: "一○"}),
        ("japaneseCounting", {10: "十", 110: "百十", 111: "百十一", 1200: "千二百", 205: "二百五"}),
        ("japaneseLegal", {1: "壱", 10: "壱拾", 123: "壱百弐拾参"}),
        ("japaneseDigitalTenThousand", {12: "一二"}),
        ("aiueo", {1: "ｱ", 45: "ｦ", 46: "ﾝ", 47: "ｱｱ"}),
        ("aiueoFullWidth", {1: "ア", 48: "ン", 49: "アア"}),
        ("iroha", {1: "ｲ", 3: "ﾊ", 25: "ヰ", 48: "ﾝ"}),
        ("irohaFullWidth", {2: "ロ", 47: "ス", 48: "ン", 49: "イイ"}),
        ("koreanDigital", {10: "일영", 23: "이삼"}),
        ("koreanDigital2", {10: "一零"}),
        ("koreanCounting", {10: "십", 21: "이십일", 110: "백십"}),
        ("koreanLegal", {1: "하나", 11: "열하나", 99: "아흔아홉", 100: "100"}),
        ("ganada", {1: "가", 14: "하", 15: "가가"}),
        ("chosung", {2: "ㄴ", 14: "ㅎ"}),
        ("hebrew1", {1: "א", 10: "י", 11: "יא", 15: "טו", 16: "טז", 115: "קטו", 248: "רמח", 600: "ם", 0: "0", 1000: "1000"}),
        ("hebrew2", {1: "א", 22: "ת", 23: "את", 123: "מתתתתת"}),
        ("arabicAlpha", {1: "أ", 2: "ب", 3: "ت", 28: "ي", 29: "أأ"}),
        ("arabicAbjad", {3: "ج", 4: "د"}),
        ("hindiVowels", {1: "क", 37: "ह"}),
        ("hindiConsonants", {1: "अ", 18: "अः"}),
        ("hindiNumbers", {10: "१०"}),
        ("thaiLetters", {1: "ก", 3: "ค", 41: "ฮ"}),
        ("thaiNumbers", {25: "๒๕"}),
        ("russianLower", {1: "а", 10: "к", 29: "я", 30: "аа"}),
        ("russianUpper", {2: "Б"}),
        ("cardinalText", {5: "5"}),
        ("noSuchFormat", {5: "5"}),
    ],
)
def test_a_number_is_written_in_its_format_and_stays_short(form: str, expected: dict[int, str]) -> None:
    assert {count: formatted(count, form) for count in expected} == expected


@pytest.mark.parametrize("form", sorted(_FORMATS))
def test_every_format_gives_something_short_for_any_number(form: str) -> None:
    for count in (*range(-1, 1100), 9999, 10_000, 10**9):
        assert len(formatted(count, form)) <= 60
        assert " " not in formatted(count, form).replace("- ", "").replace(" -", "")
