"""What must be true of a system at rest, by plain SQL and the bucket's own bytes: no code under test has a say in it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import boto3
import psycopg

_ORPHANS = {
    "generations that nobody serves": """
        SELECT count(*) FROM generations g JOIN documents d ON d.id = g.document_id
        WHERE d.active_generation IS DISTINCT FROM g.generation""",
    "chunks that nobody serves": """
        SELECT count(*) FROM document_chunks c LEFT JOIN documents d ON d.id = c.document_id
        WHERE d.active_generation IS DISTINCT FROM c.generation""",
    "generations with another number of chunks than they say": """
        SELECT count(*) FROM generations g WHERE chunk_count <> (
            SELECT count(DISTINCT ordinal) FROM document_chunks c
            WHERE c.document_id = g.document_id AND c.generation = g.generation)""",
    "chunks that are not what their text says": """
        SELECT count(*) FROM document_chunks c JOIN generations g USING (document_id, generation)
        WHERE c.text <> substr(g.text, c.char_start + 1, c.char_end - c.char_start)""",
    "documents that are served without a text": """
        SELECT count(*) FROM documents d WHERE active_generation IS NOT NULL AND NOT EXISTS (
            SELECT FROM generations g WHERE g.document_id = d.id AND g.generation = d.active_generation)""",
    "leases at rest": "SELECT count(*) FROM documents WHERE lease_token IS NOT NULL",
}


def bucket_digests(bucket: str) -> dict[str, bytes]:
    """Key -> sha256 of the current bytes."""
    client = boto3.client("s3")
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            found[item["Key"]] = hashlib.sha256(client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()).digest()
    return found


def at_rest(database_url: str) -> bool:
    """Whether no document waits for anything."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute("SELECT NOT EXISTS (SELECT FROM documents WHERE due_at IS NOT NULL)").fetchone()
        return bool(row and row[0])


def violations(database_url: str, bucket: str, *, bad: Collection[str] = ()) -> list[str]:
    """Everything that is wrong, a line each. ``bad`` are keys whose files can't be indexed: they must not be, and must end.

    The index equals the bucket: each good object is INDEXED with the very bytes that the bucket has now (by sha256), nothing
    else is served, nothing waits, and no row is left over or lacks its counterpart.
    """
    wanted = bucket_digests(bucket)
    found = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT d.key, d.status, d.due_at, d.error_code, d.attempts, d.lease_losses, d.active_generation, g.sha256"
            " FROM documents d LEFT JOIN generations g ON g.document_id = d.id AND g.generation = d.active_generation"
            " WHERE d.bucket = %s",
            (bucket,),
        ).fetchall()
        known = {row[0] for row in rows}
        found += [f"{key}: lost, no document" for key in sorted(wanted.keys() - known)]
        for key, status, due_at, code, attempts, losses, active, digest in sorted(rows):
            why = f"{status} {code or ''} attempts={attempts} lease_losses={losses}"
            if due_at is not None:
                found.append(f"{key}: not at an end: {why}")
            elif key in bad:
                if status not in ("FAILED", "UNSUPPORTED", "NO_TEXT"):
                    found.append(f"{key}: can't be indexed, and is {why}")
            elif key in wanted:
                if status != "INDEXED":
                    found.append(f"{key}: a good document is {why}")
                elif digest is None or bytes(digest) != wanted[key]:
                    found.append(f"{key}: serves other bytes than the bucket's")
            elif status != "DELETED" or active is not None:
                found.append(f"{key}: not in the bucket, and is {why}")
        for what, statement in _ORPHANS.items():
            (number,) = connection.execute(statement.encode()).fetchone() or (0,)
            if number:
                found.append(f"{number} {what}")
        (tables,) = connection.execute(
            "SELECT array_agg(relname::text) FROM pg_class WHERE relname ~ '^embeddings_[0-9]+$' AND relkind = 'r'"
        ).fetchone() or ([],)
        vectors = " UNION ALL ".join(f"SELECT chunk_id FROM {table}" for table in tables or [])
        if vectors:
            statement = f"SELECT count(*) FROM document_chunks c WHERE id NOT IN ({vectors})"
            (number,) = connection.execute(statement.encode()).fetchone() or (0,)
            if number:
                found.append(f"{number} chunks without a vector")
    return found
