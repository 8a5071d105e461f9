"""What must be true of a system at rest, by plain SQL and the bucket's own bytes: no code under test has a say in it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

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


def bucket_bodies(bucket: str) -> dict[str, bytes]:
    """Key -> the current bytes."""
    client = boto3.client("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def at_rest(database_url: str) -> bool:
    """Whether no document waits for anything."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute("SELECT NOT EXISTS (SELECT FROM documents WHERE due_at IS NOT NULL)").fetchone()
        return bool(row and row[0])


def violations(database_url: str, bucket: str, *, bad: Collection[str] = ()) -> list[str]:
    """Everything that is wrong, a line each. ``bad`` are keys whose files can't be indexed: they must not be, and must end.

    The index equals the bucket: each good object is INDEXED with the very bytes that the bucket has now (by sha256, and by its
    text where it is one), nothing else is served, nothing waits, and no row is left over or lacks its counterpart.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        return differences(connection, bucket, bucket_bodies(bucket), bad) + _left_over(connection)


def differences(
    connection: psycopg.Connection[Any],
    bucket: str,
    wanted: Mapping[str, bytes],
    bad: Collection[str],
    keys: Sequence[str] | None = None,
) -> list[str]:
    """In which documents, of all or of ``keys``, the index is not what these bodies say."""
    rows = connection.execute(
        "SELECT d.key, d.status, d.due_at, d.error_code, d.attempts, d.lease_losses, d.active_generation, g.sha256, g.text"
        " FROM documents d LEFT JOIN generations g ON g.document_id = d.id AND g.generation = d.active_generation"
        " WHERE d.bucket = %s AND (%s::text[] IS NULL OR d.key = ANY (%s))",
        (bucket, keys, keys),
    ).fetchall()
    here = wanted.keys() if keys is None else wanted.keys() & set(keys)
    found = [f"{key}: lost, no document" for key in sorted(here - {row[0] for row in rows})]
    for key, status, due_at, code, attempts, losses, active, digest, text in sorted(rows):
        why = f"{status} {code or ''} attempts={attempts} lease_losses={losses}"
        if due_at is not None:
            found.append(f"{key}: not at an end: {why}")
        elif key in bad:
            if status not in ("FAILED", "UNSUPPORTED", "NO_TEXT"):
                found.append(f"{key}: can't be indexed, and is {why}")
        elif key in wanted:
            if status != "INDEXED":
                found.append(f"{key}: a good document is {why}")
            elif digest is None or bytes(digest) != hashlib.sha256(wanted[key]).digest():
                found.append(f"{key}: serves other bytes than the bucket's")
            elif not _is_text_of(text, wanted[key]):
                found.append(f"{key}: serves another text than the bucket's")
        elif status != "DELETED" or active is not None:
            found.append(f"{key}: not in the bucket, and is {why}")
    return found


def _is_text_of(text: str, body: bytes) -> bool:
    """Whether a text file says just that, white space aside; of other files the digest has to do."""
    if body.startswith(b"%PDF-"):
        return True
    words = body.decode().split()
    # A slow file of the tests begins with two words that say so.
    return text.split() == words[2 * (words[:1] == ["SLOW"]) :]


def _left_over(connection: psycopg.Connection[Any]) -> list[str]:
    statements = dict(_ORPHANS)
    (tables,) = connection.execute(
        "SELECT array_agg(relname::text) FROM pg_class WHERE relname ~ '^embeddings_[0-9]+$' AND relkind = 'r'"
    ).fetchone() or ([],)
    if vectors := " UNION ALL ".join(f"SELECT text_sha256 FROM {table}" for table in tables or []):
        statements["chunks without a vector"] = f"SELECT count(*) FROM document_chunks WHERE text_sha256 NOT IN ({vectors})"
        statements["vectors of texts that stand nowhere and that nobody is to erase"] = f"""
            SELECT count(*) FROM ({vectors}) v
            WHERE NOT EXISTS (SELECT FROM document_chunks c WHERE c.text_sha256 = v.text_sha256)
              AND NOT EXISTS (SELECT FROM released_texts r WHERE r.text_sha256 = v.text_sha256)"""
    counted = {what: connection.execute(sql.encode()).fetchone() or (0,) for what, sql in statements.items()}
    return [f"{number} {what}" for what, (number,) in counted.items() if number]
