"""What reading a big DOCX costs: CPU seconds of our extractor against a walk with python-docx, and the share of words found.

Run it: ``python -m tests.benchmarks.docx_cpu``; with paths of DOCX files it measures those instead. The files are made for the
run, each about 5 MB as a ZIP. Each figure is the best of several runs in turns in this process, the parsers imported beforehand.
The words are counted by a third way: all ``w:t`` of the parts with text, those in deletions and in the second
branch of alternate content left out.
"""

from __future__ import annotations

import gc
import random
import re
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import docx
from docx.table import Table
from lxml import etree

from worker.extract.blocks import Limits
from worker.extract.docx import extract

MEGABYTES = 5
ROUNDS = 3
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_TEXT_PARTS = re.compile(r"word/(?:document|header|footer|footnotes|endnotes|comments)\d*\.xml")
_LEFT_OUT = frozenset({f"{_W}del", f"{_W}moveFrom", "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"})


def _sentence(choice: random.Random, length: int) -> str:
    # Words of random letters: they hardly compress, so the XML is some five times the size of the file, as in the field.
    return " ".join("".join(choice.choices("etaoinshrdlu", k=choice.randint(2, 10))) for _ in range(length))


def _mixed(choice: random.Random) -> Iterator[str]:
    """Headings, paragraphs of a few formatted runs, lists, and a table every twenty paragraphs."""
    for number in range(10**9):
        if number % 12 == 0:
            style = f"Heading{choice.randint(1, 3)}"
            yield f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{_sentence(choice, 5)}</w:t></w:r></w:p>'
        elif number % 20 == 0:
            cells = (
                f'<w:tc><w:tcPr><w:tcW w:w="2000"/></w:tcPr><w:p><w:r><w:t>{_sentence(choice, 4)}</w:t></w:r></w:p></w:tc>'
                for _ in range(32)
            )
            rows = "".join(f"<w:tr>{''.join(row)}</w:tr>" for row in zip(*[cells] * 4, strict=False))
            yield f'<w:tbl><w:tblPr><w:tblStyle w:val="TableGrid"/></w:tblPr>{rows}</w:tbl>'
        else:
            style = "ListNumber" if number % 5 == 0 else "BodyText"
            runs = "".join(
                f'<w:r w:rsidR="00A1{choice.randint(1000, 9999)}"><w:rPr><w:b/><w:sz w:val="22"/><w:lang w:val="en-GB"/></w:rPr>'
                f'<w:t xml:space="preserve">{_sentence(choice, 16)} </w:t></w:r>'
                for _ in range(5)
            )
            yield f'<w:p w:rsidR="00F3{number % 10000:04}"><w:pPr><w:pStyle w:val="{style}"/></w:pPr>{runs}</w:p>'


def _tiny_runs(choice: random.Random) -> Iterator[str]:
    """Paragraphs whose every word is a run of its own, as after many edits and spell checks."""
    while True:
        runs = "".join(
            f'<w:proofErr w:type="gramEnd"/><w:r><w:rPr><w:sz w:val="22"/></w:rPr><w:t xml:space="preserve">{word} </w:t></w:r>'
            for word in _sentence(choice, 60).split()
        )
        yield f"<w:p>{runs}</w:p>"


def _tables(choice: random.Random) -> Iterator[str]:
    """Tables of ten columns and nothing else."""
    while True:
        cells = (f"<w:tc><w:tcPr/><w:p><w:r><w:t>{_sentence(choice, 3)}</w:t></w:r></w:p></w:tc>" for _ in range(200))
        rows = "".join(f"<w:tr>{''.join(row)}</w:tr>" for row in zip(*[cells] * 10, strict=False))
        yield f"<w:tbl><w:tblPr/><w:tblGrid/>{rows}</w:tbl><w:p/>"


def _long(choice: random.Random) -> Iterator[str]:
    """Paragraphs of one run and a page each: what python-docx reads with the fewest steps."""
    while True:
        yield f"<w:p><w:r><w:t>{_sentence(choice, 500)}</w:t></w:r></w:p>"


KINDS = {"mixed": _mixed, "tiny runs": _tiny_runs, "tables": _tables, "long paragraphs": _long}


def make(path: Path, kind: str, size: int = MEGABYTES * 1_000_000) -> None:
    """Write a DOCX of about ``size`` bytes: python-docx's own default document with another body and a header."""
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "A letterhead of some words"
    document.save(str(path))
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    head, marker, tail = parts.pop("word/document.xml").partition(b"<w:sectPr")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in parts.items():
            target.writestr(name, data)
        assert target.fp is not None
        with target.open("word/document.xml", "w") as stream:
            stream.write(head)
            for block in KINDS[kind](random.Random(1)):
                stream.write(block.encode())
                # Deflate hands its bytes on in pieces of some 100 KiB.
                if target.fp.tell() > size:
                    break
            stream.write(marker + tail)


def python_docx(path: Path) -> str:
    """A user's walk with python-docx: headers, then paragraphs and tables of the body in order."""
    document = docx.Document(str(path))
    texts = [paragraph.text for section in document.sections for paragraph in section.header.paragraphs]
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            texts.extend(cell.text for row in item.rows for cell in row.cells)
        else:
            texts.append(item.text)
    return "\n".join(texts)


def ours(path: Path) -> str:
    """Our extractor's blocks."""
    return "\n".join(block.text for block in extract(path, Limits()).blocks)


def words_of(path: Path) -> Counter[str]:
    """The words that stand in ``w:t``, outside deletions, with how often each does; a paragraph's runs are joined."""
    found: Counter[str] = Counter()
    with zipfile.ZipFile(path) as archive:
        for name in filter(_TEXT_PARTS.fullmatch, archive.namelist()):
            open_paragraphs: list[list[str]] = []
            left_out = 0
            root = etree.fromstring(archive.read(name), etree.XMLParser(huge_tree=True, resolve_entities=False))
            for event, element in etree.iterwalk(root, events=("start", "end")):
                if element.tag in _LEFT_OUT:
                    left_out += 1 if event == "start" else -1
                elif element.tag == f"{_W}p":
                    if event == "start":
                        open_paragraphs.append([])
                    else:
                        found.update(re.findall(r"\w+", "".join(open_paragraphs.pop())))
                elif event == "start" and open_paragraphs and not left_out:
                    if element.tag == f"{_W}t":
                        open_paragraphs[-1].append(element.text or "")
                    elif element.tag in (f"{_W}tab", f"{_W}br", f"{_W}cr"):
                        open_paragraphs[-1].append(" ")
    return found


def measure(path: Path) -> float:
    """Print one line about a file and return our CPU over python-docx's."""
    best = {ours: float("inf"), python_docx: float("inf")}
    texts = {}
    for _ in range(ROUNDS):
        for read, least in best.items():
            gc.collect()
            begun = time.process_time()
            texts[read] = read(path)
            best[read] = min(least, time.process_time() - begun)
    wanted = words_of(path)
    shares = [
        sum((wanted & Counter(re.findall(r"\w+", texts[read]))).values()) / max(1, wanted.total()) for read in (ours, python_docx)
    ]
    ratio = best[ours] / best[python_docx]
    sys.stdout.write(
        f"{path.stat().st_size / 1e6:5.1f} MB  ours {best[ours]:6.2f} s, {shares[0]:7.2%} of {wanted.total()} words"
        f"   python-docx {best[python_docx]:6.2f} s, {shares[1]:7.2%}   ratio {ratio:4.2f}   {path.name}\n"
    )
    sys.stdout.flush()
    return ratio


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="lex-ingest-benchmark-") as folder:
        paths = [Path(argument) for argument in arguments]
        for kind in KINDS if not paths else ():
            paths.append(Path(folder) / f"{kind}.docx")
            make(paths[-1], kind)
        worst = max(map(measure, paths))
    sys.stdout.write(f"at most {worst:.0%} of python-docx's CPU (at most 100% wanted)\n")
    return 0 if worst <= 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
