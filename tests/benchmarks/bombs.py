"""Hostile files through a whole local stack: ``python -m tests.benchmarks.bombs FOLDER``.

../shared/hostile/make_bombs.py writes such a folder.

Every file must come to a typed end within 30 seconds, with at most 768 MB for whoever reads it, the worker's processes at most
20 MB larger than before, the same worker consuming at the end, and no good document harmed. Prints a line a file; exit code 1 if
one of these does not hold. What was INDEXED is shown with the beginning of its text, for a person to judge.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3
import psycopg
from psycopg.rows import dict_row

from infra.local import stack
from tests.support.storm import processes_of
from worker.domain.document import TERMINAL

LONGEST, LARGEST, GROWTH = 30.0, 768_000_000, 20_000_000
_ENDED = "SELECT d.*, left(g.text, 60) AS text FROM documents d LEFT JOIN generations g ON g.document_id = d.id WHERE key = %s"
GOOD = "A good document about the lighthouse of {}."


def memory(run: Path) -> dict[int, int]:
    """Resident bytes of the worker's main process and of those of its pool."""
    pids = [*processes_of(run, "worker"), *processes_of(run, "child")]
    return {pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") for pid in pids}


def put(client: Any, database: psycopg.Connection[dict[str, Any]], bucket: str, key: str, body: bytes) -> dict[str, Any]:
    """Put an object and wait for the end of its document; gives the row and the seconds that it took."""
    client.put_object(Bucket=bucket, Key=key, Body=body)
    started = time.monotonic()
    while time.monotonic() - started < 2 * LONGEST:
        row = database.execute(_ENDED, (key,)).fetchone()
        if row is not None and row["status"] in TERMINAL:
            return {**row, "seconds": time.monotonic() - started}
        time.sleep(0.1)
    return {"status": "no end", "error_code": None, "text": None, "seconds": time.monotonic() - started}


def peaks(log: Path) -> list[int]:
    """The peaks of memory that the worker has logged, one a file, in order."""
    lines = (json.loads(line) for line in log.read_text(errors="replace").splitlines() if line.startswith("{"))
    return [line["peak"] for line in lines if line.get("message") == "file read"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bombs", description=__doc__)
    parser.add_argument("folder", type=Path)
    files = sorted(path for path in parser.parse_args(arguments).folder.iterdir() if path.is_file())
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        running = stack.up(Path(folder) / "stack", detach=False)
        os.environ.update(running.environment)
        run, log = running.data_dir / "run", running.data_dir / "log" / "worker.log"
        client, bucket = boto3.client("s3"), running.environment["BUCKET"]
        try:
            with psycopg.connect(running.environment["DATABASE_URL"], autocommit=True, row_factory=dict_row) as database:
                # Each process of the pool has read something, so that none of its imports counts as growth.
                for number in range(8):
                    put(client, database, bucket, f"before/{number}.txt", GOOD.format(number).encode())
                before = memory(run)
                for path in files:
                    row = put(client, database, bucket, path.name, path.read_bytes())
                    what = row["error_code"] or repr(row["text"])
                    print(f"{path.name:<28} {row['seconds']:6.1f} s  {row['status']:<12} {what}", flush=True)  # noqa: T201 - a command
                    if row["status"] == "no end" or row["seconds"] > LONGEST:
                        found.append(f"{path.name}: {row['status']} after {row['seconds']:.0f} s")
                good = put(client, database, bucket, "after.txt", GOOD.format("the end").encode())
                if good["status"] != "INDEXED":
                    found.append(f"a good document after them is {good['status']}")
                after = memory(run)
        finally:
            highest = max(peaks(log), default=0)
            stack.down(running.data_dir)
            if running.supervisor is not None:
                running.supervisor.wait()
    grown = max((after[pid] - size for pid, size in before.items() if pid in after), default=0)
    print(f"{len(files)} files; largest reader {highest / 1e6:.0f} MB; worker grown by {grown / 1e6:.1f} MB")  # noqa: T201 - the same
    if before.keys() != after.keys():
        found.append("a process of the worker died")
    if highest > LARGEST or grown > GROWTH:
        found.append(f"memory: {highest / 1e6:.0f} MB, {grown / 1e6:.1f} MB")
    for violation in found:
        print(f"VIOLATION {violation}")  # noqa: T201 - the same
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
