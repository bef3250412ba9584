"""``tokentide fleet``: which GPUs to hold for several models."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import EXIT_FINDINGS, Output, OutputOption, clean_errors, emit, notice, say
from pipeline.cli.fleet_quarter import quarter
from pipeline.cli.sizing_options import CatalogOption, ObservedOption
from pipeline.errors import InputError
from sizing.planning.fleet_types import Fleet

__all__ = ["app", "reference_date"]

#: A plan may be so much worse than the best, as a share of it, and each program is worked at for so many nodes times
#: variables: the proof that nothing is better takes the most time.
RELATIVE_GAP = 1e-4
MOST_WORK = 100_000

app = typer.Typer(no_args_is_help=True, help="Which GPUs to hold for several models, and at what cost.")


app.command()(quarter)


@app.command()
@clean_errors
def plan(
    file: Annotated[Path, typer.Argument(help="TOML with pools, stock and prices (docs/fleet.md).")],
    quantile: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Quantile of every pool's demand to hold.")
    ] = 0.95,
    budget: Annotated[
        float | None, typer.Option(min=0, max=1e12, help="Dollars per hour at most, instead of the file's.")
    ] = None,
    scenarios: Annotated[
        int, typer.Option(min=0, max=500, help="Demand scenarios to draw from the quantiles; 0: those of the file.")
    ] = 0,
    correlation: Annotated[
        float, typer.Option(min=0, max=1, help="Correlation of the pools' demand in drawn scenarios.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of drawn scenarios.")] = 0,
    as_of: Annotated[
        str | None, typer.Option(help="Date that prices are judged by, such as 2026-11-30; else today.")
    ] = None,
    observed: ObservedOption = None,
    catalog_file: CatalogOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Find the cheapest mix of GPUs that holds every SLO.

    Ends with 3 where a pool goes short. Example: tokentide fleet plan fleet.toml --quantile 0.95 --budget 40 -o json
    """
    from pipeline.cli.fleet_output import plan_json, plan_text, price_warnings
    from pipeline.cli.sizing_options import learned_from
    from pipeline.config.fleet_file import read_fleet_file
    from sizing.calibration.csv_rows import calibration_for
    from sizing.planning.fleet import plan_fleet
    from sizing.planning.fleet_candidates import Excluded, pool_candidates
    from sizing.planning.fleet_regret import sampled_scenarios
    from sizing.planning.fleet_types import Candidate
    from sizing.planning.integer_program import Effort

    day = reference_date(as_of)
    described = read_fleet_file(file, catalog_file)
    fleet = described.fleet if budget is None else replace(described.fleet, budget_dollars_per_hour=budget)
    learned = learned_from(observed, catalog_file)
    drawn = sampled_scenarios(fleet, scenarios, seed, correlation) if scenarios else described.scenarios
    candidates: list[Candidate] = []
    excluded: list[Excluded] = []
    for number, pool in enumerate(fleet.pools):
        with described.file.at("pools", number):
            found, not_possible = pool_candidates(
                pool, fleet, described.catalog, lambda resolved: calibration_for(resolved, learned), drawn
            )
        candidates += found
        excluded += not_possible
    answer = plan_fleet(
        fleet,
        candidates,
        quantile=quantile,
        reference_date=day,
        scenarios=drawn,
        excluded=excluded,
        effort=Effort(RELATIVE_GAP, MOST_WORK),
    )
    data = plan_json(answer, described, day)
    for warning in price_warnings(data):
        notice(warning)
    for name, level in unknown_demand(fleet, quantile):
        notice(
            f"{file}: demand_levels of {name} end at {level:g}: its demand at {quantile:g} is not told, "
            f"and the plan holds that of {level:g}"
        )
    if output is Output.JSON:
        emit(output, data)
    else:
        say(plan_text(data))
    if not answer.mix.holds:
        raise typer.Exit(EXIT_FINDINGS)


def unknown_demand(fleet: Fleet, quantile: float) -> list[tuple[str, float]]:
    """Pools whose told quantiles of demand end before ``quantile``, each with its highest level.

    A single level is a demand that is known, not a quantile of it.
    """
    return [(pool.name, pool.levels[-1]) for pool in fleet.pools if len(pool.levels) > 1 and pool.levels[-1] < quantile]


def reference_date(text: str | None) -> datetime.date:
    """Return the date of ``--as-of``; today without one.

    Raises:
        InputError: it is no date.
    """
    if text is None:
        return datetime.datetime.now(tz=datetime.UTC).date()
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise InputError(f"--as-of must be a date such as 2026-11-30, not {text[:40]!r}") from None
