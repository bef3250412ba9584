"""Whose state is kept after a step, so that a crash costs little and keeping costs little, too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice

from pipeline.windows.types import PoolKey

__all__ = ["RELEARNED_SECONDS", "SnapshotTurns"]

#: Fewest pools whose state is kept at a time, unless there are fewer: each time is a transaction.
_POOLS_PER_SNAPSHOT = 16
#: After a crash the steps since the pools' snapshots are learned again. Where that would take longer than so many
#: seconds of CPU, pools have their turns sooner, as long as keeping takes no more than this share of a core.
RELEARNED_SECONDS, _KEEPING_SHARE = 6.0, 0.01


class SnapshotTurns:
    """Every pool has its turn in ``every_steps`` steps at most, and at once where the store has no state of it.

    Args:
        every_steps: ``store.snapshot_every_steps``.
        grain_seconds: from one step to the next.
    """

    def __init__(self, every_steps: int, grain_seconds: float) -> None:
        self._every_steps = every_steps
        self._affordable_seconds = _KEEPING_SHARE * grain_seconds
        self._kept_at: dict[PoolKey, int] = {}  # the step after which a pool's state was kept, oldest first
        self._credit = 0.0  # pools whose state may be kept
        self._pool_seconds = 0.0  # of CPU that keeping the state of a pool takes, by the newest ones

    def restored(self, kept_at: Mapping[PoolKey, int]) -> None:
        """Take what the store has: the step after which the state of each pool was kept."""
        self._kept_at = dict(sorted(kept_at.items(), key=lambda kept: kept[1]))

    def due(self, pools: Collection[PoolKey], as_of: int, step_seconds: float, *, behind: bool) -> list[PoolKey]:
        """Return the pools whose state is to be kept after the step of ``as_of`` (epoch seconds); ``took`` must follow.

        Args:
            pools: all that there are.
            as_of: the newest step.
            step_seconds: CPU that the step of a pool takes; 0: not known.
            behind: more windows are due: there is no time to keep more than must be.
        """
        self._kept_at = {key: at for key, at in self._kept_at.items() if key in pools}
        self._credit = min(self._credit + self._rate(len(pools), step_seconds, behind=behind), len(pools))
        due = [key for key in pools if key not in self._kept_at]
        if self._credit >= min(len(pools), _POOLS_PER_SNAPSHOT):
            due += islice(self._kept_at, int(self._credit))
            self._credit -= int(self._credit)
        for key in due:
            self._kept_at.pop(key, None)
            self._kept_at[key] = as_of
        return due

    def took(self, seconds: float, pools: int) -> None:
        """Learn what keeping the state of so many pools took, in seconds of CPU."""
        self._pool_seconds = seconds / pools

    @property
    def oldest(self) -> int:
        """The step of the oldest state that the store has once those that are due have been written."""
        return next(iter(self._kept_at.values()))

    def _rate(self, pools: int, step_seconds: float, *, behind: bool) -> float:
        """How many of so many pools are kept after a step."""
        least = pools / self._every_steps
        if behind or self._pool_seconds == 0.0:
            return least
        # In turns of n steps, snapshots are n / 2 steps old in the mean, and all pools have to learn these again.
        wanted = pools * pools * step_seconds / (2.0 * RELEARNED_SECONDS)
        return max(least, min(wanted, self._affordable_seconds / self._pool_seconds))
