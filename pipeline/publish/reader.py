"""What the HTTP API asks of the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pipeline.store.series import Grid, Samples

__all__ = ["Reader"]


T = TypeVar("T")


class Reader(Protocol):
    """What the API asks of the store; called from worker threads. Rows are plain dicts or the store's nouns."""

    def history(
        self, model: str, pool: str, start: float, end: float, grain_seconds: int
    ) -> Sequence[Mapping[str, Any]]:
        """Return the windows in [start, end) at a grain, oldest first: start, end, sums, closed, gap, replicas."""
        ...

    def one_state(self, read: Callable[[], T]) -> T:
        """Return what ``read`` returns, whose reads of this are all of one state; it may be called more than once."""
        ...

    def history_span(self) -> tuple[int, int] | None:
        """Return the start of the oldest window that is kept, of any pool, and the end of the newest; None: none is."""
        ...

    def latencies(
        self, model: str, pool: str, start: float, end: float, grain_seconds: int
    ) -> Mapping[int, Mapping[str, Any]]:
        """Return TTFT and TPOT of the windows in [start, end) by their start, as far as they are kept."""
        ...

    def forecasts_at(
        self, model: str, pool: str, signal: str, horizon_seconds: int, start: float, end: float
    ) -> Sequence[Mapping[str, Any]]:
        """Return what was forecast a horizon ahead for times in [start, end], oldest first: target_at and quantiles."""
        ...

    def recommendations(
        self, model: str, pool: str, limit: int, before: tuple[float, int] | None = None
    ) -> Sequence[Any]:
        """Return the newest recommendations of a pool; ``before``: of those before (issued_at, generation)."""
        ...

    def alerts(self, since: float) -> Sequence[Any]:
        """Return the alerts raised or ended since ``since`` (epoch seconds)."""
        ...

    def pools(self) -> Sequence[tuple[str, str]]:
        """Return every (model, pool) that has been seen."""
        ...

    def samples(
        self,
        source: str,
        measure: str,
        pools: Collection[tuple[str, str]],
        grid: Grid,
        more: tuple[Sequence[int], str] | None = None,
    ) -> Mapping[tuple[str, str, int], Samples]:
        """Return samples by (model, pool, horizon); see ``pipeline.store.series.samples``."""
        ...

    def forecast_paths(
        self, signal: str, pools: Collection[tuple[str, str]], as_of: float
    ) -> Mapping[tuple[str, str], Sequence[tuple[float, Sequence[float]]]]:
        """Return what was forecast at a time; see ``pipeline.store.series.forecast_paths``."""
        ...

    def full_matches(self, pattern: str, values: Collection[str]) -> set[str]:
        """Return the values that a regular expression matches; see ``pipeline.store.series.full_matches``."""
        ...
