"""The order in which the local model reads the windows of its requests."""

from __future__ import annotations

from collections import OrderedDict

# Windows of small requests in a row, after which a waiting long request gets one: a stream of queries leaves it a quarter.
SMALL_IN_A_ROW = 3


class Scheduler:
    """Chooses which request the model works on next, one window at a time.

    - A small request has one window in all: a query or a short note. It goes before every long request; small requests
      are served in the order in which they came.
    - Long requests take turns: one window per turn. A request waits for its own windows times the number of requests
      at work, however long the others are.
    - After ``SMALL_IN_A_ROW`` windows of small requests, one window of a long request is next, if there is one.

    Not thread-safe: the caller holds a lock. A request is any number that the caller gives it.
    """

    def __init__(self) -> None:
        self._small: OrderedDict[int, None] = OrderedDict()
        self._long: OrderedDict[int, int] = OrderedDict()  # windows that are left, in the order of the turns
        self._in_a_row = 0

    def add(self, request: int, windows: int) -> None:
        """Accept a request of at least one window."""
        if windows == 1:
            self._small[request] = None
        else:
            self._long[request] = windows

    def take(self) -> int | None:
        """The request whose window is next, or None if there is no window left to read."""
        if self._small and not (self._long and self._in_a_row >= SMALL_IN_A_ROW):
            self._in_a_row += 1
            return self._small.popitem(last=False)[0]
        self._in_a_row = 0
        if not self._long:
            return None
        request, left = self._long.popitem(last=False)
        if left > 1:
            self._long[request] = left - 1
        return request

    def remove(self, request: int) -> None:
        """Forget the windows of a request that were not taken yet."""
        self._small.pop(request, None)
        self._long.pop(request, None)
