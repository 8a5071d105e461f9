"""Every code in which a document may end, and what it tells its user: what is the matter, and what to do about it.

A test compares this table with the code; the README's table is made of it.
"""

from __future__ import annotations

CODES: dict[str, str] = {
    # FAILED
    "bomb": "The file unpacks or repeats a text to far more than any document holds; if it is honest, save it again in parts.",
    "crashed": "The parser died on the file; open it in its program, save it as a new file and upload that.",
    "damaged": "The file is broken and can't be read; upload it again, or repair it in the program that made it.",
    "embedding_failed": "The embedding provider fails (HTTP 5xx) on a text of this document and answers for others; replay the "
    "document once the provider works.",
    "embedding_rejected": "The embedding provider refuses a text of this document; the message says what the refusal is about.",
    "embedding_timeout": "The embedding provider does not answer for one text of this document within "
    "LEX_INGEST_EMBEDDING_TIMEOUT; raise it, or lower LEX_INGEST_CHUNK_SIZE, and replay the document.",
    "embedding_unusable": "The embedding provider's vectors for this document can't be used, and the message says why; repair "
    "the provider or change the model, and replay the document.",
    "encrypted": "The file needs a password; upload a copy without one.",
    "forbidden_doctype": "A part of the Office file declares a document type, which Office never does; save it again in Office.",
    "memory": "Reading the file takes more memory than allowed; split the file, or raise the worker's limit.",
    "timeout": "Reading the file takes longer than allowed; split the file, or raise the worker's limit.",
    "too_large": "The file, or the text in it, is larger than allowed; split the file, or raise the worker's limit.",
    "too_many_pages": "The file has more pages or slides than allowed; split the file.",
    "type_mismatch": "The content is not of the kind that the name says; give the file its right name, or upload the right file.",
    # NO_TEXT
    "empty": "The file is sound and holds no text; nothing is to be done, unless the wrong file was uploaded.",
    "needs_ocr": "The pages are images without a text layer; run a text recognition (OCR) over the file and upload the result.",
    # UNSUPPORTED
    "unsupported_type": "No extractor reads this type, which the message names; convert the file, for instance to PDF.",
}
