"""The order in which the local model reads the windows of its requests."""

from __future__ import annotations

from collections import OrderedDict

# One step in this many goes to a request that the order would pass over, so that no request waits for ever.
SHARE = 4


class Scheduler:
    """Chooses which request the model works on next, one window at a time.

    - A small request has one window in all: a query or a short note. It goes before every long request, and small
      requests are served in the order in which they came. After ``SHARE`` - 1 of them in a row, one window of a long
      request is next, if there is one.
    - Of the long requests, the one with the fewest windows left is next, and of equal ones the oldest. So a note does
      not wait behind a document, and of two like requests one is answered early instead of both late, when both of
      their clients may have given up. Every ``SHARE``-th window of long requests is one of the oldest request, so
      that a stream of short ones does not stop it.

    Not thread-safe: the caller holds a lock. A request is any number that the caller gives it.
    """

    def __init__(self) -> None:
        self._small: OrderedDict[int, None] = OrderedDict()
        self._long: dict[int, int] = {}  # windows that are left, in the order in which the requests came
        self._small_in_a_row = self._long_steps = 0

    def add(self, request: int, windows: int) -> None:
        """Accept a request of at least one window."""
        if windows == 1:
            self._small[request] = None
        else:
            self._long[request] = windows

    def take(self) -> int | None:
        """The request whose window is next, or None if there is no window left to read."""
        if self._small and not (self._long and self._small_in_a_row >= SHARE - 1):
            self._small_in_a_row += 1
            return self._small.popitem(last=False)[0]
        self._small_in_a_row = 0
        if not self._long:
            return None
        self._long_steps += 1
        is_turn_of_oldest = self._long_steps % SHARE == 0
        request = next(iter(self._long)) if is_turn_of_oldest else min(self._long, key=self._long.__getitem__)
        self._long[request] -= 1
        if not self._long[request]:
            del self._long[request]
        return request

    def remove(self, request: int) -> None:
        """Forget the windows of a request that were not taken yet."""
        self._small.pop(request, None)
        self._long.pop(request, None)
