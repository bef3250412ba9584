"""Rows from outside that wait for the step from which on they count. Bounded; read by one thread, filled by another."""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Collection
from itertools import count

import msgspec

from pipeline.forecast.exogenous.known import KnownExogenous
from pipeline.forecast.exogenous.rows import ExogenousRow, ExternalForecast, Refusal, RowRefused, SignalValue, parse_row

__all__ = ["MAX_ROWS", "ExogenousBook"]

#: Rows that wait, at most; further ones are refused and counted.
MAX_ROWS = 200_000
#: Rows that one step is given, at most; what is left waits for the next one.
MAX_ROWS_PER_STEP = 20_000
_MAX_BYTES = 16_384

_Waiting = tuple[float, float, float, int, ExogenousRow]


class ExogenousBook:
    """Rows in the order in which they count.

    Args:
        due_at: when a row counts, as ``KnownExogenous.due_at``.
        external: whether external forecasts are wanted.
        signals: the names of the signals that are wanted.
        max_rows: rows that wait, at most.
    """

    def __init__(
        self,
        due_at: Callable[[ExogenousRow], float],
        *,
        external: bool,
        signals: Collection[str],
        max_rows: int = MAX_ROWS,
    ) -> None:
        self._due_at = due_at
        self._external = external
        self._signals = frozenset(signals)
        self._max_rows = max_rows
        self._waiting: list[_Waiting] = []
        self._order = count()
        self._lock = threading.Lock()
        #: Rows taken so far, and rows refused by reason.
        self.accepted = 0
        self.refused: Counter[str] = Counter()

    def take_record(self, value: bytes | None, received_at: float | None) -> None:
        """Note the value of one record of a topic, written at ``received_at`` (epoch seconds).

        Raises:
            RowRefused: it cannot be used; it was counted in ``refused``.
        """
        try:
            self._put(parse_row(_decoded(value), received_at))
        except RowRefused as refused:
            self.refused[refused.reason] += 1
            raise

    def put(self, row: ExogenousRow) -> None:
        """Note one row.

        Raises:
            RowRefused: nothing here uses it, or too many wait; it was counted in ``refused``.
        """
        try:
            self._put(row)
        except RowRefused as refused:
            self.refused[refused.reason] += 1
            raise

    def _put(self, row: ExogenousRow) -> None:
        if isinstance(row, SignalValue) and row.name not in self._signals:
            names = ", ".join(sorted(self._signals)) or "none"
            raise RowRefused(Refusal.UNKNOWN_SIGNAL, f"{row.name[:64]!r} is not a signal of forecast.signals: {names}")
        if isinstance(row, ExternalForecast) and not self._external:
            raise RowRefused(Refusal.UNKNOWN_SERIES, "external forecasts are not wanted: forecast.external is not set")
        with self._lock:
            if len(self._waiting) >= self._max_rows:
                raise RowRefused(Refusal.TOO_MANY, f"more than {self._max_rows} rows wait")
            issued = row.issued_at if isinstance(row, ExternalForecast) else row.at
            heapq.heappush(self._waiting, (self._due_at(row), row.known_at, issued, next(self._order), row))
            self.accepted += 1

    def outcomes(self) -> dict[str, int]:
        """How many rows were taken, and refused by reason, since the start; from 0, so that rates see the first."""
        return {"taken": self.accepted, **{reason.value: self.refused[reason] for reason in Refusal}}

    def take(
        self, known: KnownExogenous, as_of: float, is_pool: Callable[[tuple[str, str]], bool] = lambda _: True
    ) -> tuple[ExogenousRow, ...]:
        """Remove the rows that count at ``as_of`` (epoch seconds); return those that say something new to ``known``.

        Forecasts of a (model, pool) for which ``is_pool`` is false are refused, so that made-up names take no memory.
        """
        found: list[ExogenousRow] = []
        with self._lock:
            while self._waiting and self._waiting[0][0] <= as_of and len(found) < MAX_ROWS_PER_STEP:
                row = heapq.heappop(self._waiting)[-1]
                if isinstance(row, ExternalForecast) and not is_pool(row.series[:2]):
                    self.refused[Refusal.UNKNOWN_SERIES] += 1
                elif known.is_news(row, as_of):
                    found.append(row)
        return tuple(found)


def _decoded(value: bytes | None) -> dict[str, object]:
    if value is None or len(value) > _MAX_BYTES:
        size = "no value" if value is None else f"{len(value)} bytes, more than {_MAX_BYTES}"
        raise RowRefused(Refusal.MALFORMED, f"the record has {size}")
    try:
        raw = msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise RowRefused(Refusal.MALFORMED, f"not JSON: {str(error)[:200]}") from error
    if not isinstance(raw, dict):
        raise RowRefused(Refusal.MALFORMED, "a row must be a JSON object")
    return raw
