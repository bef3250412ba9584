"""What is made of each pool's view, made anew only when a step has changed the pool or something of it has expired."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.publish.state import LiveState
from pipeline.publish.views import PoolView
from pipeline.windows.types import PoolKey

__all__ = ["KeptViews"]

T = TypeVar("T")


class KeptViews(Generic[T]):
    """What ``make`` returned for each pool of a LiveState, by pool; for one thread at a time."""

    def __init__(self, live: LiveState, make: Callable[[PoolView], T]) -> None:
        self._live = live
        self._make = make
        self._version = -1
        self._valid_until = math.inf
        self._until: dict[PoolKey, float] = {}
        self.made: dict[PoolKey, T] = {}

    @property
    def valid_until(self) -> float:
        """When something of what was made expires next, epoch seconds; any thread may ask."""
        return self._valid_until

    def refresh(self) -> bool:
        """Make anew what has changed since the last time; return whether anything has."""
        changes = self._live.changes(self._version)
        self._version = changes.version
        views = list(changes.views)
        if changes.now >= self._valid_until:
            expired = [key for key, until in self._until.items() if until <= changes.now]
            views = list({view.key: view for view in (*self._live.views(expired), *views)}.values())
        gone = self.made.keys() - changes.keys
        if not views and not gone:
            return False
        for view in views:
            self.made[view.key], self._until[view.key] = self._make(view), view.valid_until
        for key in gone:
            del self.made[key], self._until[key]
        self._valid_until = min(self._until.values(), default=math.inf)
        return True
