"""Full text search: every chunk's words with their positions, and the index over them; an index over what files say of themselves.

The words are a stored column, not an index over an expression: ranking needs each word's number in a chunk, and reading those out
of 4000 characters again takes about a millisecond a chunk. The configuration has a name of ours, so that another
language changes the dictionary and not the column (worker.store.language).

Revision: 0006, after 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# What counts as a word, for texts and queries alike: runs of letters and digits. PostgreSQL's parser alone would take "ERR-4711" for "err"
# and the number -4711, and "read/write" for a file. Accents go ("Strömung" is found by "stromung"), ligatures and wide letters
# become plain ones (NFKD), Hangul is put together again (NFKC), and scripts without spaces count by the character.
_WORDS = r"""
CREATE FUNCTION search_words(source text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT regexp_replace(
        CASE WHEN source ~ '[^\x01-\x7f]' THEN regexp_replace(
            normalize(regexp_replace(normalize(source, NFKD), '[\u0300-\u036f]', '', 'g'), NFKC),
            '([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])', ' \1 ', 'g')
        ELSE source END,
        '[^[:alnum:]]+', ' ', 'g')
$$
"""


def upgrade() -> None:
    op.execute("CREATE TEXT SEARCH CONFIGURATION lex_ingest (COPY = pg_catalog.english)")
    op.execute("COMMENT ON TEXT SEARCH CONFIGURATION lex_ingest IS 'english'")
    op.execute(_WORDS)
    op.execute(
        "ALTER TABLE document_chunks ADD COLUMN words TSVECTOR GENERATED ALWAYS AS (to_tsvector('lex_ingest', search_words(text))) STORED"
    )
    # Three times the usual sample: what is left out of the list of common words is then in less than about 1% of the chunks.
    op.execute("ALTER TABLE document_chunks ALTER COLUMN words SET STATISTICS 300")
    op.execute("CREATE INDEX ix_document_chunks_words ON document_chunks USING gin (words)")
    op.execute("CREATE INDEX ix_generations_file_metadata ON generations USING gin (file_metadata jsonb_path_ops)")


def downgrade() -> None:
    op.execute("DROP INDEX ix_generations_file_metadata")
    op.execute("ALTER TABLE document_chunks DROP COLUMN words")
    op.execute("DROP FUNCTION search_words")
    op.execute("DROP TEXT SEARCH CONFIGURATION lex_ingest")
