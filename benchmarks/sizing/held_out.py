"""Predictions of rows whose architecture nothing was learned from, as ``tokentide size --points`` makes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from conformal import conformal
from measurements import Row
from numpy.typing import NDArray

from sizing.calibration.global_fit import Learned
from sizing.calibration.intervals import IntervalBins, interval_kind
from sizing.calibration.table import predict_point
from sizing.replica.memory import resolve
from sizing.replica.step_time import StepCoefficients

Floats = NDArray[np.float64]
#: Shares of the probability that intervals of 90 % are made of, the first that holds; and the least that they are to
#: hold of every architecture.
LEVELS = tuple(percent / 100 for percent in range(90, 100))
LEAST_INSIDE = 0.85


def table_row(row: Row, **more: float) -> dict[str, object]:
    """A row as ``tokentide size --points`` takes it."""
    deployment = row.deployment
    return {
        "model": row.model,
        "gpu": deployment.gpu,
        "tp": deployment.tensor_parallel,
        "dp": deployment.data_parallel,
        "pp": deployment.pipeline_parallel,
        "ep": deployment.expert_parallel,
        "precision": deployment.precision,
        "kv_precision": deployment.kv_precision or "",
        "isl": row.input_tokens,
        "osl": row.output_tokens,
        "concurrency": row.concurrency,
        # Not told by the rows: enough for their clients and no more, since places cost memory in the sampling step.
        "max_num_seqs": max(math.ceil(row.concurrency / deployment.data_parallel), 1),
        "engine": deployment.engine,
        # Not told by the rows; these models only just fit, and benchmark recipes give engines all they can.
        "memory_utilisation": 0.95,
        **more,
    }


def observed_row(row: Row) -> dict[str, object]:
    """A row with its measurements, to calibrate on."""
    return table_row(row, tpot_ms=row.tpot_seconds * 1e3, ttft_ms=row.ttft_seconds * 1e3)


def predictions(rows: list[Row], held_out: Mapping[str, Learned]) -> list[tuple[Row, dict[str, Any]]]:
    """Every row that can be predicted, with its prediction from concurrency alone."""
    found = []
    for row in rows:
        answer = predict_point(table_row(row), coefficients=StepCoefficients(learned=held_out[row.model]))
        if answer["error"] is None:
            found.append((row, answer))
    return found


def distances_and_ratios(rows: list[Row], held_out: Mapping[str, Learned]) -> dict[str, Floats | NDArray[np.str_]]:
    """Of every predicted row: distance from what was measured, measured over predicted TPOT and TTFT, architecture,
    precision of the weights, kind of deployment.

    ``tpot`` is 1 where the measured time lies between the predicted one and the least if clients send in waves
    (``sizing.replica.closed_loop.wave_ratio``), and relative to the latter below it: intervals reach that much lower.
    ``tpot plain`` is the ratio as it is.
    """
    distances, tpot, plain, ttft, names, precisions, kinds = [], [], [], [], [], [], []
    for row, answer in predictions(rows, held_out):
        learned = held_out[row.model]
        # The batch that the prediction had, for its distance.
        batch = answer["tokens_per_second"] * answer["tpot_ms_p50"] / 1e3 / resolve(row.deployment).lanes
        distances.append(learned.distance(resolve(row.deployment), row.input_tokens, row.output_tokens, batch))
        ratio = row.tpot_seconds * 1e3 / answer["tpot_ms_p50"]
        low, _ = learned.tpot_interval.factors(distances[-1], interval_kind(resolve(row.deployment)))
        waves = answer["tpot_ms_lower"] / answer["tpot_ms_p50"] / low
        tpot.append(max(ratio, min(ratio / waves, 1.0)))
        plain.append(ratio)
        ttft.append(row.ttft_seconds * 1e3 / answer["ttft_ms_p50"])
        names.append(row.model)
        precisions.append(row.deployment.precision)
        kinds.append(interval_kind(resolve(row.deployment)))
    return {
        "distance": np.array(distances),
        "tpot": np.array(tpot),
        "tpot plain": np.array(plain),
        "ttft": np.array(ttft),
        "model": np.array(names),
        "precision": np.array(precisions),
        "kind": np.array(kinds),
    }


def with_intervals(
    learned: Learned, found: Mapping[str, Floats | NDArray[np.str_]], chosen: NDArray[np.bool_] | None = None
) -> Learned:
    """What was learned, with conformal intervals of (the chosen ones among) the rows in ``distances_and_ratios``.

    Few architectures say little about another one, so more of the probability is asked for than an interval's name
    says. Intervals of 90 %: the least with which each of the given architectures, left out, has 85 % inside, so the
    architecture that is tested has no say in it. Of 80 %, which a plan's replicas follow from: three percent more,
    which holds on average (checked by leaving each out: benchmarks/sizing/results.md). Those of TPOT are by kind of
    deployment near measurements; those of TTFT are not, since clients make more of it than the kind does.
    """
    rows = {name: values if chosen is None else values[chosen] for name, values in found.items()}

    def bins(metric: str, level: float, *, symmetric: bool, kept: NDArray[np.bool_] | None = None) -> IntervalBins:
        distances, ratios, names, kinds = (
            rows[name] if kept is None else rows[name][kept] for name in ("distance", metric, "model", "kind")
        )
        by_kind = kinds if metric == "tpot" else None
        return conformal(distances, ratios, names, level, symmetric=symmetric, kinds=by_kind)  # type: ignore[arg-type]

    def least_inside(metric: str, level: float, *, symmetric: bool) -> float:
        shares = []
        for name in np.unique(rows["model"]):
            own = rows["model"] == name
            made = bins(metric, level, symmetric=symmetric, kept=~own)
            low, high = np.array(
                [
                    made.factors(float(distance), str(kind))
                    for distance, kind in zip(rows["distance"][own], rows["kind"][own], strict=True)
                ]
            ).T
            shares.append(float(np.mean((low <= rows[metric][own]) & (rows[metric][own] <= high))))
        return min(shares)

    def every(metric: str, *, symmetric: bool) -> IntervalBins:
        holding = (level for level in LEVELS if least_inside(metric, level, symmetric=symmetric) >= LEAST_INSIDE)
        return bins(metric, next(holding, LEVELS[-1]), symmetric=symmetric)

    return replace(
        learned,
        tpot_interval=every("tpot", symmetric=True),
        tpot_interval_80=bins("tpot", 0.83, symmetric=True),
        ttft_interval=every("ttft", symmetric=False),
    )
