"""Rows from outside in a backtest: each counts from the time at which it became known, as live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from pipeline.errors import InputError
from pipeline.forecast.exogenous.known import Exogenous, KnownExogenous
from pipeline.forecast.exogenous.rows import ExogenousRow, ExternalForecast, RowRefused, SignalValue
from pipeline.forecast.types import SeriesKey
from pipeline.stream.exogenous.book import ExogenousBook

__all__ = ["exogenous_at", "rows_of_series", "signal_names"]

_MOST_SIGNALS = 8


def signal_names(rows: Sequence[ExogenousRow]) -> tuple[str, ...]:
    """Return the names of the signals among ``rows``, sorted.

    Raises:
        InputError: there are more than a forecaster takes.
    """
    names = tuple(sorted({row.name for row in rows if isinstance(row, SignalValue)}))
    if len(names) > _MOST_SIGNALS:
        raise InputError(f"{len(names)} signals are more than the {_MOST_SIGNALS} that forecasters take")
    return names


def rows_of_series(rows: Sequence[ExogenousRow], names: Sequence[str]) -> dict[str, list[ExogenousRow]]:
    """Return the rows that concern each series of a backtest by its name; signals concern all.

    Forecasts of ``model`` and ``pool`` belong to the series called ``model/pool``, or ``model`` where the pool is
    ``default``. Where there is one series and the forecasts are all of one, they are of that.

    Raises:
        InputError: the forecasts are of several signals of one pool, or none of them is of any of the series.
    """
    signals: list[ExogenousRow] = [row for row in rows if isinstance(row, SignalValue)]
    forecasts = [row for row in rows if isinstance(row, ExternalForecast)]
    owners = sorted({row.series for row in forecasts})
    own = {key: _owner(key, names, alone=len(owners) == 1) for key in owners}
    found = [name for name in own.values() if name is not None]
    if len(set(found)) < len(found):
        raise InputError(
            "the external forecasts are of several signals of one pool; keep those of the one that is tested"
        )
    if forecasts and not found:
        raise InputError(
            f"the external forecasts are of {', '.join('/'.join(key) for key in owners[:5])}; none is a series of this "
            f"backtest: {', '.join(names[:5])}"
        )
    parts: dict[str, list[ExogenousRow]] = {name: [*signals] for name in names}
    for row in forecasts:
        name = own[row.series]
        if name is not None:
            parts[name].append(replace(row, series=SeriesKey(name, "", "")))
    return parts


def _owner(key: SeriesKey, names: Sequence[str], *, alone: bool) -> str | None:
    for name in (f"{key.model}/{key.pool}", *([key.model] if key.pool == "default" else [])):
        if name in names:
            return name
    return names[0] if alone and len(names) == 1 else None


def exogenous_at(
    name: str, rows: Sequence[ExogenousRow], horizons_seconds: Sequence[int], step_seconds: int, signals: Sequence[str]
) -> Callable[[float], Exogenous]:
    """Return what is known at the end of each window of one series; call it in order of time.

    ``rows`` are those of ``rows_of_series``, ``signals`` the names of ``signal_names``.
    """
    known = KnownExogenous(step_seconds, horizons_seconds, signals)
    book = ExogenousBook(known.due_at, external=True, signals=signals, max_rows=len(rows) + 1)
    for row in rows:
        with suppress(RowRefused):
            book.put(row)
    series = SeriesKey(name, "", "")

    def at(end: float) -> Exogenous:
        known.step(end, book.take(known, end))
        return known.of(series)

    return at
