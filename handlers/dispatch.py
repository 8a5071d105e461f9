"""Scheduled Lambda function: one tick of the dispatcher, for when no worker runs that would tick by itself."""

from __future__ import annotations

from typing import Any

from worker import telemetry
from worker.services.dispatch import tick
from worker.services.housekeeping import tidy_if_due
from worker.settings import SettingsError, get_settings
from worker.store.driver import connect

log = telemetry.get_logger(__name__)


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Tick once, and prune where that is due. The event (from EventBridge Scheduler) is not read.

    Returns:
        ``{"ran": bool, "woken": int, "lost_leases": int}``.

    Raises:
        SettingsError: the function is not configured.
        psycopg.OperationalError, redis.RedisError: a part is away; the schedule tries again.
    """
    try:
        settings = get_settings().require("database_url", "redis_url")
    except SettingsError as error:
        log.error("the settings can't be used", extra={"code": "settings", "reason": str(error)})
        raise
    with connect(settings.database_url, "lex-ingest-dispatch-function") as connection:
        try:
            result = tick(connection, settings)
        finally:
            tidy_if_due(connection, settings)  # needs no Redis
    log.info("tick", extra={"ran": result.ran, "woken": result.woken, "lost_leases": result.lost_leases})
    return {"ran": result.ran, "woken": result.woken, "lost_leases": result.lost_leases}
