"""The task that fills a further embedding profile: a turn of some seconds, on the embedding stage's queue."""

from __future__ import annotations

from celery import current_app, shared_task

from worker import producer
from worker.contract import FILL_TASK, FillProfile
from worker.services.fill_reasons import Outcome
from worker.services.filling import fill
from worker.settings import get_settings
from worker.tasks.base import IngestTask, TaskResult


@shared_task(base=IngestTask, name=FILL_TASK)
def fill_embedding_profile(profile_id: int) -> TaskResult:
    """Give what is served vectors of the profile too, for some seconds; where there is more, another turn is sent for.

    Args:
        profile_id: the profile's number (`lex-ingest model list --json`). Whether it is to be filled stands in its row.

    Returns:
        ``{"status": "success", "profile_id": …, "texts": …, "refused": …}`` where nothing is missing any more; ``"more"``,
        ``"resting"`` (the profile's row says why) or ``"unwanted"``; ``"skipped"`` where another filler is at it.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is away; the dispatcher calls again.
    """
    turn = fill(profile_id, get_settings())
    if turn is None:
        return {"status": "skipped", "profile_id": profile_id, "reason": "another filler is at it"}
    if turn.outcome is Outcome.MORE and not current_app.conf.task_always_eager:
        producer.send([FillProfile(profile_id)], get_settings())
    status = "success" if turn.outcome is Outcome.WHOLE else turn.outcome.value
    return {"status": status, "profile_id": profile_id, "texts": turn.texts, "refused": turn.refused}
