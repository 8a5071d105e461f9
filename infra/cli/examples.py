"""One example per command, which its ``--help`` ends with. A test reads each with the command's own options."""

from __future__ import annotations

EXAMPLES = {
    "up": "lex-ingest up --detach",
    "down": "lex-ingest down",
    "ps": "lex-ingest ps --json",
    "env": 'eval "$(lex-ingest env)"',
    "put": "lex-ingest put ~/Documents/reports --prefix reports/ --wait",
    "rm": "lex-ingest rm reports/2026.pdf",
    "status": "lex-ingest status --status FAILED --prefix reports/",
    "show": "lex-ingest show reports/2026.pdf",
    "search": "lex-ingest search 'who pays when a tool comes back broken?' -k 5 --type pdf",
    "cost": "lex-ingest cost --by document --prefix reports/",
    "model list": "lex-ingest model list",
    "model add": "lex-ingest model add text-embedding-3-large --dimensions 3072",
    "model backfill": "lex-ingest model backfill text-embedding-3-large --budget 5.00",
    "model switch": "lex-ingest model switch text-embedding-3-large",
    "model rollback": "lex-ingest model rollback",
    "model drop": "lex-ingest model drop text-embedding-3-small",
    "doctor": "lex-ingest doctor",
    "migrate": "lex-ingest migrate",
    "purge": "lex-ingest purge reports/2026.pdf",
    "replay": "lex-ingest replay --status FAILED",
    "reconcile-bucket": "lex-ingest reconcile-bucket --dry-run",
    "demo": "lex-ingest demo",
}
