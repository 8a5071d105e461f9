"""Gates: what every document would meet alike (a throttling provider, a refused key) is closed for all at once."""

from __future__ import annotations

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from worker.store.lease_statements import in_seconds
from worker.store.models import Gate


def close(connection: Connection, name: str, seconds: float, code: str, reason: str) -> None:
    """Close the gate for ``seconds`` from now; one that is closed for longer stays so."""
    statement = insert(Gate).values(name=name, closed_until=in_seconds(seconds), code=code, reason=reason)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[Gate.name],
            set_={
                "closed_until": func.greatest(Gate.closed_until, statement.excluded.closed_until),
                "code": statement.excluded.code,
                "reason": statement.excluded.reason,
            },
        )
    )


def closed(connection: Connection) -> list[Gate]:
    """The gates that are closed now, as detached rows."""
    rows = connection.execute(select(Gate).where(Gate.closed_until > func.now()).order_by(Gate.name)).mappings()
    return [Gate(**row) for row in rows]
