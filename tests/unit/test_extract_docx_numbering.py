"""List numbers as they are printed, from definitions as Word writes them."""

from __future__ import annotations

import pytest
from lxml import etree

from worker.extract.docx_numbering import Numbering
from worker.extract.docx_styles import Styles

NAMESPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def level(at: int, text: str, form: str = "decimal", more: str = "", start: int = 1) -> str:
    return f'<w:lvl w:ilvl="{at}"><w:start w:val="{start}"/><w:numFmt w:val="{form}"/>{more}<w:lvlText w:val="{text}"/></w:lvl>'


def lists(definitions: dict[int, str], of: dict[int, str], styles: str = "") -> tuple[Numbering, Styles]:
    """``definitions``: id -> its levels; ``of``: list id -> the inside of its ``w:num``."""
    xml = "".join(f'<w:abstractNum w:abstractNumId="{name}">{inside}</w:abstractNum>' for name, inside in definitions.items())
    xml += "".join(f'<w:num w:numId="{name}">{inside}</w:num>' for name, inside in of.items())
    known = Styles(f"<w:styles {NAMESPACE}>{styles}</w:styles>".encode())
    return Numbering(etree.fromstring(f"<w:numbering {NAMESPACE}>{xml}</w:numbering>"), known), known


def uses(definition: int, overrides: str = "") -> str:
    return f'<w:abstractNumId w:val="{definition}"/>{overrides}'


def labels(made: tuple[Numbering, Styles], *paragraphs: tuple[int | None, int | None] | str) -> list[str]:
    """What stands in front of each paragraph: (list id, level), or the id of its style."""
    numbering, styles = made
    found = []
    for paragraph in paragraphs:
        if isinstance(paragraph, str):
            found.append(numbering.label(styles[paragraph], None))
            continue
        name, at = paragraph
        inside = f'<w:ilvl w:val="{at}"/>' if at is not None else ""
        inside += f'<w:numId w:val="{name}"/>' if name is not None else ""
        found.append(numbering.label(styles[None], etree.fromstring(f"<w:numPr {NAMESPACE}>{inside}</w:numPr>")))
    return found


THREE = level(0, "%1.") + level(1, "%1.%2") + level(2, "(%3)", "lowerLetter")


def test_levels_count_within_each_other_and_begin_anew_under_the_next() -> None:
    made = lists({5: THREE}, {1: uses(5)})
    assert labels(made, (1, 0), (1, 1), (1, 2), (1, 2), (1, 1), (1, 2), (1, 0), (1, 1), (1, None)) == [
        *("1. ", "1.1 ", "(a) ", "(b) ", "1.2 ", "(a) ", "2. ", "2.1 ", "3. ")
    ]


def test_a_level_that_is_passed_over_counts_as_used() -> None:
    assert labels(lists({5: THREE}, {1: uses(5)}), (1, 1), (1, 1), (1, 0)) == ["1.1 ", "1.2 ", "2. "]
    starts = "".join(f'<w:lvlOverride w:ilvl="{at}"><w:startOverride w:val="1"/></w:lvlOverride>' for at in range(3))
    made = lists({5: THREE}, {1: uses(5), 2: uses(5, starts)})
    assert labels(made, (1, 0), (1, 1), (2, 1), (2, 0)) == ["1. ", "1.1 ", "1.1 ", "2. "]


def test_a_bullet_in_a_number_shows_nothing() -> None:
    levels = level(0, "•", "bullet") + level(1, "%1.%2")
    assert labels(lists({5: levels}, {1: uses(5)}), (1, 0), (1, 1)) == ["• ", ".1 "]


def test_lists_of_one_definition_go_on_counting_and_others_count_for_themselves() -> None:
    made = lists({5: THREE, 6: level(0, "%1)", "upperRoman")}, {1: uses(5), 2: uses(5), 3: uses(6)})
    assert labels(made, (1, 0), (2, 0), (3, 0), (1, 0)) == ["1. ", "2. ", "I) ", "3. "]


def test_an_overridden_start_begins_anew_where_its_list_is_first_used() -> None:
    override = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride>'
    made = lists({5: THREE}, {1: uses(5), 2: uses(5, override)})
    assert labels(made, (1, 0), (1, 0), (2, 0), (2, 0), (1, 0)) == ["1. ", "2. ", "7. ", "8. ", "9. "]


def test_an_overridden_level_is_printed_in_its_own_form() -> None:
    override = f'<w:lvlOverride w:ilvl="0">{level(0, "§%1", "upperLetter", start=3)}</w:lvlOverride>'
    assert labels(lists({5: THREE}, {1: uses(5, override)}), (1, 0), (1, 0)) == ["§C ", "§D "]


def test_a_level_may_never_restart_or_only_under_a_certain_one() -> None:
    never = level(0, "%1") + level(1, "%2", more='<w:lvlRestart w:val="0"/>')
    assert labels(lists({5: never}, {1: uses(5)}), (1, 0), (1, 1), (1, 0), (1, 1)) == ["1 ", "1 ", "2 ", "2 "]
    under_first = level(0, "%1") + level(1, "%2") + level(2, "%3", more='<w:lvlRestart w:val="1"/>')
    made = lists({5: under_first}, {1: uses(5)})
    assert labels(made, (1, 0), (1, 1), (1, 2), (1, 1), (1, 2), (1, 0), (1, 2)) == ["1 ", "1 ", "1 ", "2 ", "2 ", "2 ", "1 "]


def test_legal_numbering_prints_digits_only() -> None:
    both = level(0, "%1", "upperRoman") + level(1, "%1.%2", more="<w:isLgl/>") + level(2, "%1.%3")
    assert labels(lists({5: both}, {1: uses(5)}), (1, 0), (1, 1), (1, 2)) == ["I ", "1.1 ", "I.1 "]


@pytest.mark.parametrize(("character", "printed"), [("\uf0b7", "• "), ("o", "• "), ("–", "– "), ("-", "- ")])
def test_a_bullet_is_a_bullet_or_a_dash(character: str, printed: str) -> None:
    assert labels(lists({5: level(0, character, "bullet")}, {1: uses(5)}), (1, 0), (1, 0)) == [printed, printed]


def test_a_suffix_may_be_missing() -> None:
    made = lists({5: level(0, "%1.", more='<w:suff w:val="nothing"/>') + level(1, "%2", "none")}, {1: uses(5)})
    assert labels(made, (1, 0), (1, 1)) == ["1.", ""]


def test_styles_number_their_paragraphs_at_the_level_that_names_them() -> None:
    def style(name: str, inside: str, base: str = "") -> str:
        based = f'<w:basedOn w:val="{base}"/>' if base else ""
        return f'<w:style w:type="paragraph" w:styleId="{name}"><w:name w:val="{name}"/>{based}{inside}</w:style>'

    number = '<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>'
    styles = (
        style("One", number)
        + style("Two", number)
        + style("Three", "", "Two")
        + style("Off", number.replace('"1"', '"0"'), "Two")
    )
    levels = level(0, "%1", more='<w:pStyle w:val="One"/>') + level(1, "%1.%2", more='<w:pStyle w:val="Two"/>')
    made = lists({5: levels}, {1: uses(5)}, styles)
    assert labels(made, "One", "Two", "Three", "Off", "Unknown", "One") == ["1 ", "1.1 ", "1.2 ", "", "", "2 "]


def test_a_definition_that_stands_in_a_numbering_style_is_found() -> None:
    style = '<w:style w:type="numbering" w:styleId="S"><w:pPr><w:numPr><w:numId w:val="2"/></w:numPr></w:pPr></w:style>'
    made = lists({5: '<w:numStyleLink w:val="S"/>', 6: level(0, "%1:")}, {1: uses(5), 2: uses(6)}, style)
    assert labels(made, (1, 0), (1, 0)) == ["1: ", "2: "]


@pytest.mark.parametrize("name", [0, 9, None])
def test_a_list_that_does_not_exist_numbers_nothing(name: int | None) -> None:
    assert labels(lists({5: THREE}, {1: uses(5), 3: uses(8)}), (name, 0), (3, 0), (1, 8)) == ["", "", ""]


def test_an_own_list_counts_from_its_start_again() -> None:
    made = lists({5: THREE}, {1: uses(5)})
    assert labels(made, (1, 0), (1, 0)) == ["1. ", "2. "]
    assert labels((made[0].afresh(), made[1]), (1, 0)) == ["1. "]
    assert labels(made, (1, 0)) == ["3. "]


def test_senseless_attributes_are_no_numbers() -> None:
    broken = level(0, "%1", start=1).replace('w:start w:val="1"', f'w:start w:val="{"9" * 5000}"') + level(77, "%1")
    assert labels(lists({5: broken}, {1: uses(5)}), (1, 0), (1, 0), (1, 77)) == ["0 ", "1 ", ""]
