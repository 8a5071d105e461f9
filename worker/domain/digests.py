"""The digest of a chunk's text: under it the text's vector stands, for every chunk that has the same one."""

from __future__ import annotations

from hashlib import sha256

DIGEST_SIZE = 32  # bytes


def text_digest(text: str, tenant: str = "") -> bytes:
    """SHA-256 of the text, of ``tenant`` before it where there is one.

    So two tenants share no vector, and neither can learn from a bill or a delay that the other has a text. Texts hold no NUL
    (``worker.domain.text``): what stands before one is the tenant.
    """
    return sha256(f"{tenant}\0{text}".encode() if tenant else text.encode()).digest()
