"""``tokentide fleet quarter``: GPUs by week for a quarter, and how many of them to commit to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import Output, OutputOption, clean_errors, emit, notice, say
from pipeline.cli.files import write_text
from pipeline.cli.sizing_options import CatalogOption, ObservedOption
from pipeline.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.config.quarter_file import History

__all__ = ["quarter"]

#: Days of history below which a quarter is nothing but the widest guess.
_LEAST_DAYS = 14


@clean_errors
def quarter(
    file: Annotated[Path, typer.Argument(help="TOML with pools, their history and prices (docs/quarter.md).")],
    weeks: Annotated[int, typer.Option(min=1, max=26, help="Weeks ahead.")] = 13,
    paths: Annotated[int, typer.Option(min=20, max=2000, help="Demand paths to draw for each pool.")] = 300,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the paths.")] = 0,
    as_of: Annotated[
        str | None, typer.Option(help="Date that prices are judged by, such as 2026-11-30; else today.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write an HTML page with charts.")] = None,
    observed: ObservedOption = None,
    catalog_file: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say how many GPUs each week of the next quarter needs, and how many to reserve, buy or leave to on-demand.

    Example: tokentide fleet quarter quarter.toml --report quarter.html
    """
    from pipeline.cli.fleet import reference_date
    from pipeline.cli.quarter_output import PlannedPool, quarter_html, quarter_json, quarter_text, quarter_warnings
    from pipeline.cli.sizing_options import learned_from
    from pipeline.config.quarter_file import read_quarter_file
    from pipeline.forecast.day_paths import PathSource
    from sizing.calibration.csv_rows import calibration_for
    from sizing.errors import InvalidInput
    from sizing.planning.fleet_candidates import pool_candidates
    from sizing.planning.quarter import PoolDemand, plan_gpu_type

    day = reference_date(as_of)
    described = read_quarter_file(file, catalog_file)
    learned = learned_from(observed, catalog_file)
    pools: list[PlannedPool] = []
    for number, pool in enumerate(described.pools):
        with described.file.at("pools", number):
            candidates, excluded = pool_candidates(
                pool.pool, pool.fleet, described.catalog, lambda resolved: calibration_for(resolved, learned)
            )
            if not candidates:
                raise InvalidInput(f"{pool.gpu} cannot serve it: {excluded[0].reason}")
        with described.file.at("pools", number, "history"):
            first_hour, rates = _hourly(pool.history)
            source = PathSource()
            source.learn(first_hour, rates)
            drawn = source.draw(weeks, paths, seed + number)
            if drawn is None:
                raise InputError(f"{pool.history.path} has no whole UTC day of demand")
        replica = candidates[0]
        demand = PoolDemand(
            name=pool.pool.name,
            rates=drawn.rates,
            replica_requests_per_second=replica.requests_per_second,
            gpus_per_replica=replica.gpus,
            min_replicas=pool.min_replicas,
            growth={growth.name: factors for growth, factors in drawn.growth},
        )
        growth = {growth.name: growth.per_day for growth, _ in drawn.growth}
        newest = source.newest_day
        assert newest is not None
        pools.append(PlannedPool(pool, demand, replica.confidence, growth, newest, len(rates) // 24))
    plans = [
        plan_gpu_type(
            gpu, [p.demand for p in pools if p.described.gpu == gpu], described.hourly[gpu], described.options[gpu]
        )
        for gpu in dict.fromkeys(p.described.gpu for p in pools)
    ]
    data = quarter_json(plans, pools, described.hourly, day, weeks=weeks, paths=paths, seed=seed)
    for warning in quarter_warnings(data):
        notice(warning)
    if report is not None:
        write_text(report, quarter_html(data))
        notice(f"wrote {report}")
    if output is Output.JSON:
        emit(output, data)
    else:
        say(quarter_text(data))


def _hourly(history: History) -> tuple[int, NDArray[np.float64]]:
    """Read a history as the highest rate of each hour (requests/s, NaN where unknown) and the first hour's number."""
    import numpy as np

    from pipeline.replay.formats import SeriesKind
    from pipeline.replay.sources import read_demand

    found = read_demand(
        history.path,
        step_seconds=history.step_seconds,
        time_column=history.time_column,
        value_column=history.value_column,
        kind=SeriesKind(history.kind),
        notice=notice,
    )
    if len(found) != 1:
        raise InputError(f"{history.path} holds {len(found)} series; a pool has one")
    series = found[0]
    rates = series.values * history.peak_ratio
    if history.kind != "gauge":  # sums
        rates = rates / history.step_seconds
    before = int(series.start % 3600) // history.step_seconds
    per_hour = 3600 // history.step_seconds
    after = -(before + len(rates)) % per_hour
    padded = np.concatenate((np.full(before, np.nan), rates, np.full(after, np.nan))).reshape(-1, per_hour)
    known = np.isfinite(padded)
    hours = np.where(known.any(axis=1), np.where(known, padded, -np.inf).max(axis=1), np.nan)
    if len(hours) < 24 * _LEAST_DAYS:
        raise InputError(f"{history.path} has {len(hours) / 24:.1f} days; a quarter needs {_LEAST_DAYS} days at least")
    return int(series.start // 3600), hours
