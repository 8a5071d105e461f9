"""DOCX, made by hand: what the libraries can't write, in the text and its tables."""

from __future__ import annotations

from pathlib import Path

from tests.support.docx_files import (
    cell,
    container,
    paragraph,
    read,
    run,
    shown,
    xml,
)


def test_headings_and_items_carry_their_printed_numbers(tmp_path: Path) -> None:
    styles = xml(
        "w:styles",
        '<w:style w:type="paragraph" w:styleId="H2"><w:name w:val="heading 2"/>'
        '<w:pPr><w:numPr><w:ilvl w:val="1"/><w:numId w:val="4"/></w:numPr></w:pPr></w:style>',
    )

    def level(at: int, start: int, form: str, text: str) -> str:
        inside = f'<w:start w:val="{start}"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/>'
        return f'<w:lvl w:ilvl="{at}">{inside}</w:lvl>'

    sections, items = level(0, 2, "decimal", "%1") + level(1, 1, "decimal", "%1.%2"), level(0, 1, "lowerLetter", "(%1)")
    numbering = xml(
        "w:numbering",
        f'<w:abstractNum w:abstractNumId="1">{sections}</w:abstractNum><w:abstractNum w:abstractNumId="2">{items}</w:abstractNum>'
        '<w:num w:numId="4"><w:abstractNumId w:val="1"/></w:num><w:num w:numId="5"><w:abstractNumId w:val="2"/></w:num>',
    )
    item = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="5"/></w:numPr>'
    deleted = (
        f'<w:p><w:pPr>{item}<w:rPr><w:del w:id="1"/></w:rPr></w:pPr><w:del><w:r><w:delText>x</w:delText></w:r></w:del></w:p>'
    )
    body = (
        paragraph("Scope", '<w:pStyle w:val="H2"/>')
        + paragraph("first", item)
        + deleted
        + paragraph("second", item)
        + f"<w:tbl><w:tr><w:tc><w:p><w:pPr>{item}</w:pPr>{run('in a cell')}</w:p></w:tc>{cell('b')}</w:tr></w:tbl>"
    )
    extraction = read(tmp_path, container(body, {"s.xml": ("styles", styles), "n.xml": ("numbering", numbering)}))
    assert shown(extraction) == ["2.1 Scope", "(a) first", "(b) second", "(c) in a cell | b"]
    assert extraction.blocks[1].heading_path == ("2.1 Scope",)


def test_notes_stand_behind_their_paragraph_and_are_read_once(tmp_path: Path) -> None:
    def notes(kind: str, *texts: str) -> str:
        inside = "".join(
            f'<w:{kind} w:id="{number}"><w:p><w:r><w:{kind}Ref/></w:r>{run(text)}</w:p></w:{kind}>'
            for number, text in enumerate(texts, 1)
        )
        return xml(f"w:{kind}s", f'<w:{kind} w:id="0" w:type="separator"><w:p>{run("rule")}</w:p></w:{kind}>{inside}')

    parts: dict[str, tuple[str, str | bytes]] = {
        "f.xml": ("footnotes", notes("footnote", "foot one", "foot two")),
        "e.xml": ("endnotes", notes("endnote", "end")),
        "c.xml": ("comments", notes("comment", "said", "said of nothing")),
    }
    reference = '<w:r><w:{0}Reference w:id="{1}"/></w:r>'
    body = (
        f"<w:p>{run('A')}{reference.format('footnote', 1)}{run('B')}{reference.format('endnote', 1)}"
        f"{reference.format('footnote', 1)}</w:p>"
        f"<w:tbl><w:tr><w:tc><w:p>{run('left')}{reference.format('footnote', 2)}</w:p></w:tc>{cell('right')}</w:tr></w:tbl>"
        f"<w:p>{run('C')}{reference.format('comment', 1)}</w:p>"
    )
    expected = ["AB", "foot one", "end", "left | right", "foot two", "C", "said", "said of nothing"]
    extraction = read(tmp_path, container(body, parts))
    assert shown(extraction) == expected
    assert [block.text for block in extraction.blocks if block.kind == "note"] == [
        *("foot one", "end", "foot two", "said", "said of nothing")
    ]


def test_moved_text_is_read_where_it_was_moved_to(tmp_path: Path) -> None:
    body = (
        f"<w:p>{run('stays')}<w:moveFrom>{run(' moved')}</w:moveFrom></w:p>"
        f"<w:p><w:moveTo>{run('moved')}</w:moveTo>{run(' here')}</w:p>"
    )
    assert shown(read(tmp_path, container(body))) == ["stays", "moved here"]


def test_deleted_rows_and_cells_are_left_out_at_any_depth(tmp_path: Path) -> None:
    gone = f"<w:tr><w:trPr><w:del w:id='1'/></w:trPr>{cell('gone')}{cell('gone')}</w:tr>"
    kept = f"<w:tr>{cell('a')}{cell('gone', '<w:cellDel/>')}{cell('b')}</w:tr>"
    inner = f"<w:tbl><w:tr>{cell('c')}{cell('d')}</w:tr>{gone}</w:tbl>"
    body = f"<w:tbl>{kept}{gone}<w:ins><w:tr><w:tc>{inner}</w:tc>{cell('e')}</w:tr></w:ins></w:tbl>"
    assert shown(read(tmp_path, container(body))) == ["a | b\nc | d | e"]


def test_a_cell_merged_either_way_is_read_once(tmp_path: Path) -> None:
    below = cell("shadow", "<w:vMerge/>")
    beside = cell("shadow", '<w:hMerge w:val="continue"/>')
    high, wide = cell("high", '<w:vMerge w:val="restart"/>'), cell("wide", '<w:hMerge w:val="restart"/>')
    first = f"<w:tr>{high}{wide}{beside}</w:tr>"
    body = f"<w:tbl>{first}<w:tr>{below}{cell('x')}{cell('y')}</w:tr></w:tbl>"
    assert shown(read(tmp_path, container(body))) == ["high | wide |\n | x | y"]


def test_a_table_of_one_column_is_a_frame_around_its_blocks(tmp_path: Path) -> None:
    inner = f"<w:tbl><w:tr>{cell('a')}{cell('b')}</w:tr></w:tbl>"
    body = f"<w:tbl><w:tr><w:tc><w:p>{run('above')}</w:p>{inner}<w:p>{run('below')}</w:p></w:tc></w:tr></w:tbl>"
    extraction = read(tmp_path, container(body))
    assert [(block.text, block.kind) for block in extraction.blocks] == [
        *(("above", "paragraph"), ("a | b", "table"), ("below", "paragraph"))
    ]


def test_symbols_are_read_as_what_they_show(tmp_path: Path) -> None:
    def in_font(font: str) -> str:
        return f'<w:r><w:rPr><w:rFonts w:ascii="{font}"/></w:rPr><w:t>\uf061</w:t></w:r>'

    symbols = (
        '<w:sym w:font="Wingdings" w:char="F0FC"/><w:sym w:font="Symbol" w:char="F0B0"/>'
        '<w:sym w:font="Unknown" w:char="F041"/><w:sym w:font="Arial" w:char="20AC"/><w:sym w:font="Symbol" w:char="no"/>'
    )
    body = f"<w:p><w:r>{symbols}</w:r></w:p><w:p>{run('angle ')}{in_font('Symbol')}{in_font('Other')}</w:p>"
    assert shown(read(tmp_path, container(body))) == ["✓°€", "angle α"]


def test_hyphens_that_steer_line_breaks_do_not_break_words(tmp_path: Path) -> None:
    body = "<w:p><w:r><w:t>e</w:t><w:noBreakHyphen/><w:t>mail so</w:t><w:softHyphen/><w:t>ft ha\xadrd</w:t></w:r></w:p>"
    assert shown(read(tmp_path, container(body))) == ["e-mail soft hard"]


def test_tab_stops_are_no_tabs_and_hidden_text_is_read(tmp_path: Path) -> None:
    stops = '<w:tabs><w:tab w:val="left" w:pos="720"/></w:tabs>'
    body = f"<w:p><w:pPr>{stops}</w:pPr>{run('a')}<w:r><w:tab/><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>"
    assert shown(read(tmp_path, container(body))) == ["a\thidden"]


def test_formulas_and_words_drawn_as_pictures_are_read(tmp_path: Path) -> None:
    body = (
        f"<w:p>{run('so ')}<m:oMath><m:r><m:t>x=1</m:t></m:r></m:oMath>"
        "<w:r><w:pict><v:shape><v:textpath string='DRAFT'/></v:shape></w:pict></w:r></w:p>"
    )
    assert shown(read(tmp_path, container(body))) == ["so x=1", "DRAFT"]
