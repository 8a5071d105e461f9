"""What users do with documents, through the command line and the S3 API of a running stack."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from tests.support.stack import LEX, environment, lex, lines, statuses, until, upload

SAMPLES = Path(__file__).parents[2] / "infra" / "samples"
KEYS = ["a+b.txt", "a b.txt", "100%.txt", "50%2B.txt", "é.txt", "new\nline.txt", "dir/é + 100% \n x.txt", "日本.txt"]


def test_a_folder_that_is_put_is_found_by_meaning(folder: Path) -> None:
    said = lex(folder, "put", str(SAMPLES / "documents"), "--wait", "--prefix", "samples/")
    assert said.startswith("18 indexed, 0 not, 0 still waiting")
    rows = lines(folder, "status", "--prefix", "samples/")
    assert {row["status"] for row in rows} == {"INDEXED"}
    promised = [
        "document_id",
        "key",
        "status",
        "error_code",
        "error",
        "attempts",
        "generation",
        "etag",
        "size",
        "content_type",
        "text_length",
        "chunks",
    ]
    assert all(name in row for row in rows for name in promised)
    for wanted in json.loads((SAMPLES / "searches.json").read_text()):
        hit = lines(folder, "search", wanted["query"], "-k", "3")[0]
        assert hit["key"] == "samples/" + wanted["key"]
        assert {"key", "document_id", "page", "score", "text"} <= set(hit)
        assert wanted["page"] in (None, hit["page"])


def test_show_gives_the_text_and_where_each_chunk_comes_from(folder: Path) -> None:
    (row,) = lines(folder, "show", "samples/energy/tidal-array-field-report.pdf")
    assert row["page_count"] == 5
    assert len(row["chunks"]) > 1
    for piece in row["chunks"]:
        assert {"ordinal", "page_start", "page_end", "char_start", "char_end", "text"} <= set(piece)
        assert row["text"][piece["char_start"] : piece["char_end"]] == piece["text"]
        assert 1 <= piece["page_start"] <= piece["page_end"] <= 5
    assert "page 3" in lex(folder, "show", "samples/energy/tidal-array-field-report.pdf")


def test_replay_does_each_document_once_and_search_never_lacks_one(folder: Path) -> None:
    before = {row["key"]: row for row in lines(folder, "status", "--prefix", "samples/")}
    assert len(lines(folder, "replay", "--prefix", "samples/")) == len(before)
    deadline = time.monotonic() + 90
    while True:
        now = {row["key"]: row for row in lines(folder, "status", "--prefix", "samples/")}
        # What is served shows in status, in the statement that also gives the rest: never nothing, never two.
        assert all(row["chunks"] == before[key]["chunks"] for key, row in now.items())
        if all(row["status"] == "INDEXED" for row in now.values()):
            break
        key = next(key for key, row in now.items() if row["status"] != "INDEXED")
        assert lines(folder, "search", "anything", "--prefix", key)
        assert time.monotonic() < deadline
    assert all(row["generation"] == before[key]["generation"] + 1 for key, row in now.items())
    assert all(row["document_id"] == before[key]["document_id"] for key, row in now.items())


def test_an_overwritten_document_shows_its_new_text_only(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "note.txt"
    file.write_text("The zebra crossing near the observatory is painted every spring.")
    lex(folder, "put", str(file), "--wait")
    (first,) = lines(folder, "status", "note.txt")
    file.write_text("Marmalade is boiled from Seville oranges in January.")
    lex(folder, "put", str(file), "--wait")
    (second,) = lines(folder, "status", "note.txt")
    assert (second["document_id"], second["generation"]) == (first["document_id"], first["generation"] + 1)
    assert lines(folder, "search", "orange jam", "-k", "1")[0]["key"] == "note.txt"
    assert not any("zebra" in hit["text"] for hit in lines(folder, "search", "zebra crossing", "-k", "50"))


def test_a_removed_document_leaves_search_and_keeps_its_row(folder: Path) -> None:
    lex(folder, "rm", "note.txt")
    until(lambda: statuses(folder)["note.txt"] == "DELETED", 30)
    assert not any(hit["key"] == "note.txt" for hit in lines(folder, "search", "orange jam", "-k", "50"))
    assert "no object" in lex(folder, "rm", "note.txt", expect=1)
    lex(folder, "replay", "--key", "note.txt", expect=1)


def test_purge_erases_a_removed_document_and_refuses_one_that_is_there(folder: Path) -> None:
    assert "still in the bucket" in lex(
        folder, "purge", next(key for key, status in statuses(folder).items() if status == "INDEXED"), expect=1
    )
    upload(folder, **{"purged.txt": "Quinces keep until the snow."})
    until(lambda: statuses(folder).get("purged.txt") == "INDEXED", 60)
    lex(folder, "rm", "purged.txt")
    until(lambda: statuses(folder)["purged.txt"] == "DELETED", 30)
    assert "2 events" in lex(folder, "purge", "purged.txt")
    assert "purged.txt" not in statuses(folder)
    assert "nothing was known" in lex(folder, "purge", "purged.txt", expect=1)


def test_every_key_arrives_exactly(folder: Path) -> None:
    upload(folder, **{key: f"The text of {key!r}." for key in KEYS})
    until(lambda: all(statuses(folder).get(key) == "INDEXED" for key in KEYS), 60)
    others = {key for key in statuses(folder) if not key.startswith("samples/")} - {*KEYS, "note.txt"}
    assert others == set()
    assert "new\\nline.txt" in lex(folder, "status", "new\nline.txt")


def test_a_file_that_can_t_be_read_is_told_with_its_reason(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<< nothing more")
    lex(folder, "put", str(tmp_path / "broken.pdf"), "--wait", expect=1)
    (row,) = lines(folder, "status", "broken.pdf")
    assert (row["status"], row["error_code"], row["attempts"]) == ("FAILED", "damaged", 1)
    assert "damaged" in lex(folder, "status", "--status", "failed")


def test_doctor_names_the_part_that_is_away_and_the_next_step(folder: Path) -> None:
    assert {check["name"] for check in lines(folder, "doctor")} >= {"postgres", "redis", "workers", "bucket", "embeddings"}
    away = environment() | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run([*LEX, "doctor"], capture_output=True, text=True, cwd=folder.parent, env=away, timeout=60, check=False)
    assert done.returncode == 1
    assert "check DATABASE_URL" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_migrate_says_where_the_schema_is(folder: Path) -> None:
    assert "already at" in lex(folder, "migrate")


def test_the_demo_finds_what_it_should_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [*LEX, "demo"], capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("INDEXED") == 18
    assert "lex-ingest up --detach" in done.stdout
    assert list(tmp_path.iterdir()) == []
