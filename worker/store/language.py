"""The language of full text search: which dictionary the text search configuration ``lex_ingest`` uses.

Words of another language are still found as they stand, as long as they are no stop words of this one ("die" and "was" are in
English).
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from worker.domain.errors import IngestError


class UnknownLanguage(IngestError):
    """``unknown_language``: PostgreSQL has no text search configuration of that name."""


def current(connection: Connection) -> str:
    """The configuration that ``lex_ingest`` is a copy of; its comment says so."""
    return str(connection.execute(text("SELECT obj_description(CAST('lex_ingest' AS regconfig), 'pg_ts_config')")).scalar_one())


def set_to(connection: Connection, language: str) -> bool:
    """Make ``language`` the one of full text search, and every chunk's words anew; whether it was another one.

    The table is written again under an exclusive lock, about a millisecond a chunk: searches and workers wait meanwhile.

    Raises:
        UnknownLanguage: PostgreSQL has no such configuration.
    """
    if current(connection) == language:
        return False
    known = set(
        connection.execute(
            text("SELECT cfgname FROM pg_ts_config WHERE cfgnamespace = CAST('pg_catalog' AS regnamespace)")
        ).scalars()
    )
    if language not in known:
        raise UnknownLanguage(
            "unknown_language", f"LEX_INGEST_TEXT_SEARCH={language!r}: PostgreSQL has {', '.join(sorted(known))}"
        )
    rows = connection.execute(
        text(
            "SELECT t.alias, string_agg(quote_ident(d.dictname), ', ' ORDER BY m.mapseqno) AS dictionaries "
            "FROM pg_ts_config c JOIN pg_ts_config_map m ON m.mapcfg = c.oid JOIN pg_ts_dict d ON d.oid = m.mapdict "
            "JOIN ts_token_type('default') t ON t.tokid = m.maptokentype "
            "WHERE c.cfgname = :language AND c.cfgnamespace = CAST('pg_catalog' AS regnamespace) GROUP BY t.alias"
        ),
        {"language": language},
    ).all()
    for row in rows:
        connection.execute(
            text(f"ALTER TEXT SEARCH CONFIGURATION lex_ingest ALTER MAPPING FOR {row.alias} WITH {row.dictionaries}")
        )
    connection.execute(text(f"COMMENT ON TEXT SEARCH CONFIGURATION lex_ingest IS '{language}'"))
    connection.execute(
        text("ALTER TABLE document_chunks ALTER COLUMN words SET EXPRESSION AS (to_tsvector('lex_ingest', search_words(text)))")
    )
    return True
