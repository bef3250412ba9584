"""What is made of each pool's view, made anew only when a step has changed the pool or something of it has expired."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.publish.counters import Counters
from pipeline.publish.state import LiveState
from pipeline.publish.views import PoolView
from pipeline.windows.types import PoolKey

__all__ = ["KeptViews"]

T = TypeVar("T")


class KeptViews(Generic[T]):
    """What ``make`` returned for each pool of a LiveState, by pool; for one thread at a time.

    ``as_of``, ``looked_at`` and, if asked for, ``counters`` are of the same instant as the pools: to ask the LiveState
    for them afterwards may give those of a later step.
    """

    def __init__(self, live: LiveState, make: Callable[[PoolView], T], *, with_counters: bool = False) -> None:
        self._live = live
        self._make = make
        self._with_counters = with_counters
        self._version = -1
        self.as_of: int | None = None  #: End of the newest closed window, epoch seconds; None: there is none.
        self.looked_at = -math.inf  #: When the LiveState was looked at last, epoch seconds.
        self.counters: Counters | None = None
        self._keys: frozenset[PoolKey] = frozenset()
        # When the first of what is kept expires, or sooner: what was renewed since is not looked for.
        self._valid_until = math.inf
        self._until: dict[PoolKey, float] = {}
        self.made: dict[PoolKey, T] = {}

    @property
    def version(self) -> int:
        """The version of the LiveState that was looked at last; -1: none."""
        return self._version

    @property
    def valid_until(self) -> float:
        """When something of what was made expires next, epoch seconds; any thread may ask."""
        return self._valid_until

    def refresh(self) -> bool:
        """Make anew what has changed since the last time; return whether anything has."""
        changes = self._live.changes(self._version, with_counters=self._with_counters)
        self._version, self.as_of, self.looked_at = changes.version, changes.as_of, changes.now
        self.counters = changes.counters
        views = list(changes.views)
        expired = changes.now >= self._valid_until
        if expired:
            over = [key for key, until in self._until.items() if until <= changes.now]
            views = list({view.key: view for view in (*self._live.views(over), *views)}.values())
        gone: set[PoolKey] = set()
        if changes.keys is not self._keys:
            gone, self._keys = self.made.keys() - changes.keys, changes.keys
        for view in views:
            self.made[view.key], self._until[view.key] = self._make(view), view.valid_until
        for key in gone:
            del self.made[key], self._until[key]
        if expired or gone:
            self._valid_until = min(self._until.values(), default=math.inf)
        else:
            self._valid_until = min([self._valid_until, *(view.valid_until for view in views)])
        return bool(views or gone)
