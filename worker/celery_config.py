"""Celery's configuration, made from the settings when the application first needs it. Every limit here has its reason.

Messages are acknowledged early: a message is a wake-up call, and the row is the record of the work (README, "Why a
document can't be lost").
"""

from __future__ import annotations

from kombu import Queue

from worker.contract import QUEUES, Stage
from worker.producer import tls_options
from worker.settings import get_settings

_settings = get_settings()

broker_url = _settings.redis_url or None
result_backend = _settings.redis_url or None
broker_use_ssl = tls_options(_settings.redis_url)
redis_backend_use_ssl = broker_use_ssl

task_queues = [Queue(name) for name in QUEUES.values()]
task_default_queue = QUEUES[Stage.PROCESS]
# A misspelt queue is an error at once, and no list in Redis that nobody reads.
task_create_missing_queues = False

# JSON only: a pickle from the broker would run code.
task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]
enable_utc = True
timezone = "UTC"

task_track_started = True
# One for all threads of a process: each would make its own otherwise, with a connection, and look through all installed packages
# for it. redis-py's client may be shared (its page "Advanced Features", "A note about threading").
result_backend_thread_safe = True
# Half an hour, then the process is ended; five minutes before, the task is told, and hands its document back.
task_time_limit = 30 * 60
task_soft_time_limit = 25 * 60
# Documents differ in length by orders: a process that reserves several keeps short ones waiting behind a long one.
worker_prefetch_multiplier = 1
# Parsers and allocators keep memory; a new process gives it back.
worker_max_tasks_per_child = 1000
worker_hijack_root_logger = False
# Seconds to wait for the result of a process that has gone. With Celery's ten, a worker that has handed its documents back was
# still there when whoever told it to go lost patience.
worker_lost_wait = 1.0
# With early acknowledgement a lost connection loses no work in progress.
worker_cancel_long_running_tasks_on_connection_loss = False

broker_connection_retry_on_startup = True
# For ever: Redis may be away for long, and a worker that gave up would have to be restarted by hand.
broker_connection_max_retries = None
# No retry_on_timeout here: redis-py would connect again inside kombu's event loop and block it for the whole socket_timeout
# (measured with CLIENT KILL: 12 s until the worker consumed again, against 4 s without).
_socket = {"socket_timeout": 10, "socket_connect_timeout": 5, "socket_keepalive": True}
# After a lost connection Celery would begin with a low prefetch count, which grows only as tasks end: with both of these left as
# they were, a worker stood still for 30 s after some fifty cuts.
worker_enable_prefetch_count_reduction = False
broker_transport_options = {
    # Redis gives an unacknowledged message out again after this; above the hard limit, no running task is repeated.
    "visibility_timeout": 60 * 60,
    "health_check_interval": 25,
    **_socket,
}
result_backend_transport_options = {"visibility_timeout": 60 * 60}
result_expires = 24 * 60 * 60
redis_socket_timeout = _socket["socket_timeout"]
redis_socket_connect_timeout = _socket["socket_connect_timeout"]
redis_socket_keepalive = True
redis_retry_on_timeout = True
redis_backend_health_check_interval = 25
