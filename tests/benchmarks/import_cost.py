"""What a cold start pays: CPU seconds (user + system) of importing the handler, and of what it avoids.

Run it: ``python -m tests.benchmarks.import_cost``. Each line is the best of several fresh processes, measured in turns so
that a busy machine slows all alike; the interpreter's own start is in every figure. ``.pyc`` files exist, as they must in
a Lambda package (DESIGN.md, "Traps that were measured").
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

HANDLER = "import handlers.s3_events"
EVERYTHING = "import celery, sqlalchemy.orm, psycopg, boto3, aws_lambda_powertools"
# `import celery` alone is lazy and loads next to nothing; a process that sends a task loads this.
EVERYTHING_LOADED = "from celery import Celery; import sqlalchemy.orm, psycopg, boto3, aws_lambda_powertools"
# What the first message adds: Celery loads its transport when it connects.
HANDLER_AND_TRANSPORT = "import handlers.s3_events, kombu.transport.redis"
TARGET = 0.6


def cpu_seconds(statement: str) -> float:
    """CPU time of one fresh process that runs ``statement``, tracing off."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "POWERTOOLS_TRACE_DISABLED": "true"}
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rounds: int = 10) -> dict[str, float]:
    """The best CPU time of each statement. The first round only warms caches."""
    statements = (HANDLER, HANDLER_AND_TRANSPORT, EVERYTHING, EVERYTHING_LOADED)
    best = dict.fromkeys(statements, float("inf"))
    for number in range(rounds + 1):
        for statement in statements:
            seconds = cpu_seconds(statement)
            if number:
                best[statement] = min(best[statement], seconds)
    return best


def main() -> int:
    best = measure()
    for statement, seconds in best.items():
        sys.stdout.write(f"{seconds:.3f} s  {seconds / best[EVERYTHING]:4.0%}  {statement}\n")
    ratio = best[HANDLER] / best[EVERYTHING]
    sys.stdout.write(f"handlers.s3_events costs {ratio:.0%} of importing everything (at most {TARGET:.0%} wanted)\n")
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
