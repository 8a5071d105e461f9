"""How soon a connection to PostgreSQL notices that the other side is gone, for every connection of the project."""

from __future__ import annotations

from typing import Any

# libpq's parameters, in seconds but for tcp_user_timeout (milliseconds): PostgreSQL manual, "Database Connection Control
# Functions". Without them a server that vanishes silently is waited for by the kernel's defaults: two hours.
KEEPALIVES: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
