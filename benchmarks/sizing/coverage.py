"""How often intervals hold: of TPOT, TTFT and replicas, fit and widths both without the architecture tested."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
from conformal import DISTANCES
from held_out import Floats, distances_and_ratios, with_intervals
from measurements import Row
from numpy.typing import NDArray

from sizing.calibration.global_fit import Learned
from sizing.errors import DoesNotFit
from sizing.planning.known_point import known_point
from sizing.planning.plan import plan_at
from sizing.replica.memory import resolve
from sizing.replica.step_time import StepCoefficients
from sizing.types import Demand, PolicyConfig, Slo

#: The demand of every question, in replicas as measured: many, so that rounding up hardly plays a part.
REPLICAS = 1000
#: The fewest rows of a family whose coverage is held against a bar.
FAMILY_ROWS = 30
#: An interval of the median demand; no limit plays a part.
POLICY = PolicyConfig(min_replicas=0, max_replicas=10**9, under_to_over_cost=1.0)


def held_out_intervals(
    found: Mapping[str, Floats | NDArray[np.str_]], held_out: Mapping[str, Learned]
) -> dict[str, Learned]:
    """What is learned without each architecture, with intervals made without it, too."""
    names = found["model"]
    return {name: with_intervals(learned, found, names != name) for name, learned in held_out.items()}


def replicas(row: Row, learned: Learned) -> tuple[bool, float, float, float] | None:
    """Size a row's traffic: is the objective met; lower, desired and upper replicas over those that the row needs.

    The objective is the measured TPOT and the rate is what ``REPLICAS`` replicas carried at it, so the row itself says
    how many are needed. Clients of a closed loop hold the batch: arrivals are evenly spaced and the median counts.
    None: it does not fit by what is predicted.
    """
    # As far as memory goes: the rows do not tell how many places their engines had.
    deployment = replace(row.deployment, max_num_seqs=4096, observed_kv_tokens=None, memory_utilisation=0.95)
    seconds = row.ttft_seconds + row.tpot_seconds * (row.output_tokens - 1)
    workload = row.point.workload
    rate = REPLICAS * row.concurrency / seconds
    try:
        point, known = known_point(
            resolve(deployment),
            workload,
            Slo(None, row.tpot_seconds, 0.5),
            dispersion=0.0,
            coefficients=StepCoefficients(learned=learned),
        )
    except DoesNotFit:
        return None
    plan = plan_at(point, Demand((0.5,), (rate,), workload, 0.0, dispersion=0.0), POLICY, known)
    return point.feasible, plan.lower / REPLICAS, plan.desired / REPLICAS, plan.upper / REPLICAS


def _share(inside: list[bool]) -> str:
    return f"{np.mean(inside):.1%}" if inside else "–"


def _bar(inside: list[bool]) -> str:
    """Whether the share inside a 90 % interval is within 85 and 95 %; few rows tell nothing."""
    if len(inside) < FAMILY_ROWS:
        return "none: few rows"
    share = np.mean(inside)
    return "met" if 0.85 <= share <= 0.95 else "too narrow" if share < 0.85 else "too wide"


def coverage(rows: list[Row], held_out: Mapping[str, Learned]) -> list[str]:
    """Nominal 90 % intervals of times and 80 % intervals of replicas, by architecture and by distance."""
    found = distances_and_ratios(rows, held_out)
    learned = held_out_intervals(found, held_out)
    distances, names = found["distance"], found["model"]
    inside: dict[str, NDArray[np.bool_]] = {}
    for metric, kind in (("tpot", "tpot_interval"), ("tpot 80", "tpot_interval_80"), ("ttft", "ttft_interval")):
        bounds = [
            getattr(learned[str(name)], kind).factors(float(distance), str(like))
            for name, distance, like in zip(names, distances, found["kind"], strict=True)
        ]
        low, high = np.array(bounds).T
        ratios = found[metric.split()[0]]
        inside[metric] = (low <= ratios) & (ratios <= high)

    def line(name: str, chosen: NDArray[np.bool_]) -> str:
        cells = " | ".join(_share(list(inside[metric][chosen])) for metric in ("tpot", "tpot 80", "ttft"))
        return f"| {name} | {np.count_nonzero(chosen)} | {cells} | {_bar(list(inside['tpot'][chosen]))} |"

    ends = (-1.0, *DISTANCES, np.inf)
    lines = [
        "",
        "## Intervals, model left out",
        "",
        "Fit and widths both without the architecture tested (conformal per bin of distance, near measurements by "
        "kind of deployment). Nominal 90 %, 80 % and "
        f"90 %. Bar: 85 to 95 % of TPOT inside, for families of at least {FAMILY_ROWS} rows.",
        "",
        "| rows | number | TPOT inside | TPOT inside, 10–90 % | TTFT inside | bar |",
        "|---|---|---|---|---|---|",
        line("all", np.ones(len(names), dtype=np.bool_)),
        *(line(name, names == name) for name in sorted(held_out)),
        *(
            line(f"{name} {kind}", (names == name) & (found["precision"] == kind))
            for name, kind in sorted({(str(n), str(k)) for n, k in zip(names, found["precision"], strict=True)})
        ),
        *(
            line(f"{kind}, distance 0 to 1", (found["kind"] == kind) & (distances <= 1))
            for kind in np.unique(found["kind"])
        ),
        *(
            line(f"distance {max(low, 0):g} to {high:g}", (distances > low) & (distances <= high))
            for low, high in pairwise(ends)
        ),
    ]
    points = np.quantile(found["tpot plain"], (0.1, 0.9))
    lines += ["", f"10 % and 90 % points of measured over predicted TPOT: {points[0]:.2f} and {points[1]:.2f}."]
    return [*lines, *replica_coverage(rows, learned)]


def measured_twice(rows: list[Row]) -> list[str]:
    """How far measurements of one set-up at one load lie apart by the engine's version, the only thing that differs."""
    loads: defaultdict[tuple[object, ...], dict[str, float]] = defaultdict(dict)
    for row in rows:
        deployment = replace(row.deployment, engine_version=None)
        load = (row.model, deployment, row.input_tokens, row.output_tokens, row.concurrency)
        loads[load][row.version] = row.tpot_seconds
    apart: defaultdict[str, list[float]] = defaultdict(list)
    for (name, *_), times in loads.items():
        if len(times) > 1:
            apart[str(name)].append(max(times.values()) / min(times.values()))
    lines = [
        "",
        "## One set-up at one load, measured under several versions of its engine",
        "",
        "Slowest over fastest TPOT; nothing else that the rows tell differs.",
        "",
        "| model | loads | median | 90 % point | largest |",
        "|---|---|---|---|---|",
    ]
    for name, ratios in sorted(apart.items()):
        lines.append(
            f"| {name} | {len(ratios)} | {np.median(ratios):.2f} | {np.quantile(ratios, 0.9):.2f} | {max(ratios):.2f} |"
        )
    return lines


def replica_coverage(rows: list[Row], learned: Mapping[str, Learned]) -> list[str]:
    """Lower to upper replicas against those that the measured rows need."""
    answers = [(row, replicas(row, learned[row.model])) for row in rows]
    lines = [
        "",
        "## Replicas, model left out",
        "",
        "The objective is each row's own measured TPOT, the demand what 1,000 replicas carried at it: the row needs "
        "1,000. Nominal 80 %. Where no load is predicted to meet the objective, replicas are those of a relaxed one.",
        "",
        "| rows | number | inside | too few (upper below) | too many (lower above) | median upper / lower | desired, median error |",  # noqa: E501
        "|---|---|---|---|---|---|---|",
    ]

    def line(name: str, chosen: list[tuple[bool, float, float, float]]) -> str:
        _, lower, desired, upper = np.array(chosen).T
        return (
            f"| {name} | {len(chosen)} | {np.mean((lower <= 1) & (upper >= 1)):.1%} | {np.mean(upper < 1):.1%} | "
            f"{np.mean(lower > 1):.1%} | {np.median(upper / lower):.2f} | {np.median(np.abs(desired - 1)):.1%} |"
        )

    sized = [(row, answer) for row, answer in answers if answer is not None]
    met = [(row, answer) for row, answer in sized if answer[0]]
    lines += [
        line("all", [answer for _, answer in sized]),
        line("predicted to meet the objective", [answer for _, answer in met]),
        line("predicted to miss it", [answer for _, answer in sized if not answer[0]]),
    ]
    for name in sorted(learned):
        lines.append(line(f"{name}, all", [answer for row, answer in sized if row.model == name]))
    refused = len(answers) - len(sized)
    return [*lines, "", f"{refused} rows do not fit by what is predicted." if refused else "Every row fits."]
