"""A Celery application with late acknowledgement, for the test of the pinned broker library."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("late", broker=os.environ["LATE_BROKER"])
app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True, broker_connection_max_retries=None)


@app.task(name="late.nap")
def nap(seconds: float, note: str) -> None:
    time.sleep(seconds)
    with Path(note).open("a") as file:
        file.write("done\n")
