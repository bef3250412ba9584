"""Makes ``sizing/learned.json``: the factors on the terms of step time and closed-loop TTFT, and interval widths.

    python benchmarks/sizing/fit.py [--data FOLDER] [--out sizing/learned.json]

FOLDER holds ``aic_silicon`` (ai-dynamo/aiconfigurator commit 095f58a51c, Apache-2.0) and ``inferno_guidellm``
(llm-inferno/model-trainer commit 047f0ae0b9, Apache-2.0). Only fitted numbers and ranges are written, no measurement.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measurements import DATA, Row, guidellm, silicon, uniform_lengths
from numpy.typing import NDArray

from sizing.calibration.global_fit import (
    STEP_TERMS,
    TTFT_TERMS,
    Domain,
    Learned,
    TermFactors,
    features,
    learned_from_mapping,
)
from sizing.calibration.intervals import IntervalBins, engine_family
from sizing.calibration.measurement import implied_lane_batch, steady_step_seconds
from sizing.catalog.engines import engine_release
from sizing.replica.memory import Resolved, resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients
from sizing.types import Deployment

Floats = NDArray[np.float64]
Points = list[tuple[float, float, float, float, float]]

FEATURES = ("moe", "trtllm", "sglang", "quantized_products", "int4", "native_fp4", "group")
#: Features that the step time does without, and its ridge; the ridge of the closed-loop TTFT. Chosen once, among 10,
#: 30, 100 and 300 and among 3, 10 and 30, by leaving out each of the six architectures; of five of them the same search
#: takes 30 or 100. Step times do not tell SGLang apart: its factors would be those of the models measured under it.
WITHOUT, STEP_RIDGE, TTFT_RIDGE = ("sglang",), 30.0, 10.0
#: Terms that no end-to-end time has a say in: kernels tell (``sizing.replica.step_time``).
KNOWN = ("kv",)
_SURE = 1e9
#: Weight of one of the 112 Llama-3.1-8B points against one silicon row.
POINT_WEIGHT = 0.5
#: Weights are never read faster than the data sheet says, and experts never faster than their kernels read them.
STEP_FLOOR = {"dense_weights": math.log(1 / 1.1), "experts": 0.0}
#: The largest distance that counts as interpolation.
NEAR = 1.0
#: Releases that no fit has seen and whose step times agree: vLLM 0.11.0 saturates within 5 % of what is predicted
#: (kubernetes-sigs/inference-perf 7de5ef2ed6, three set-ups; run.py).
CHECKED_RELEASES: dict[str, tuple[int, ...]] = {"vllm": (0, 11, 0)}
ONE = (1.0,) * len(STEP_TERMS)
PLAIN = Learned(
    TermFactors((), (0.0,) * len(STEP_TERMS), ((),) * len(STEP_TERMS), (-9.0,) * len(STEP_TERMS)),
    TermFactors((), (0.0,) * len(TTFT_TERMS), ((),) * len(TTFT_TERMS), (-9.0,) * len(TTFT_TERMS)),
    IntervalBins((math.inf,), (0.5,), (2.0,)),
    IntervalBins((math.inf,), (0.6,), (1.7,)),
    IntervalBins((math.inf,), (0.2,), (5.0,)),
    (),
    NEAR,
)
LLAMA = resolve(Deployment("llama-3.1-8b", "h100-sxm"))


def step_columns(resolved: Resolved, workload: Any, lane_batch: float) -> list[float]:
    """Seconds of a step per term, unscaled, in the order of ``STEP_TERMS``."""
    coefficients = StepCoefficients(learned=PLAIN)
    return [
        steady_step_seconds(
            resolved, workload, lane_batch, coefficients, tuple(float(name == other) for other in STEP_TERMS)
        )
        for name in STEP_TERMS
    ]


def phi(resolved: Resolved, names: tuple[str, ...]) -> list[float]:
    values = features(resolved)
    return [values[name] for name in names]


def fit_terms(
    columns: Floats,
    seconds: Floats,
    values: Floats,
    weights: Floats,
    ridge: float,
    floor: Floats,
    known: NDArray[np.bool_] | None = None,
) -> tuple[Floats, Floats]:
    """Log factors (base per term; weight per term and feature) by Gauss–Newton on robust relative errors.

    A pseudo-Huber loss of |predicted / measured - 1| with scale 0.1 (of the log ratio in the first rounds); normal
    priors of deviation 0.3 on feature weights and about 2 on bases, times ``ridge``.
    """
    terms, count = columns.shape[1], values.shape[1]
    found = np.zeros(terms * (1 + count))
    prior = np.concatenate([np.full(terms, 0.2 * ridge), np.full(terms * count, ridge / 0.3**2)])
    if known is not None:
        prior[np.concatenate([known, np.repeat(known, count)])] = _SURE
    scale, target = 0.1, np.log(seconds)
    for round_number in range(80):
        logs = found[:terms] + values @ found[terms:].reshape(terms, count).T
        held = logs < floor
        parts = columns * np.exp(np.clip(np.maximum(logs, floor), -6, 3))
        total = parts.sum(axis=1)
        shares = np.where(held, 0.0, parts / total[:, None])
        error = np.log(total) - target
        if round_number < 10:
            pull = 1 / np.sqrt(1 + (error / scale) ** 2)
        else:
            error = np.where(np.abs(error) < 1e-6, 1e-6, error)
            ratio = np.clip(np.exp(np.clip(error, -3, 3)), 0.2, 5)
            pull = (ratio - 1) / np.sqrt(1 + ((ratio - 1) / scale) ** 2) * ratio / error
        weight = weights * pull / scale**2
        slope = np.concatenate([shares, (shares[:, :, None] * values[:, None, :]).reshape(len(seconds), -1)], axis=1)
        normal = (slope * weight[:, None]).T @ slope + np.diag(prior)
        gradient = (slope * weight[:, None]).T @ error + prior * found
        found = found + np.clip(-np.linalg.solve(normal, gradient), -0.5, 0.5) * (1.0 if round_number < 20 else 0.5)
    return found[:terms], found[terms:].reshape(terms, count)


class Design:
    """Everything that the fits need of the rows and points, worked out once."""

    def __init__(self, rows: list[Row], points: Points) -> None:
        self.rows = rows
        self.resolved = [resolve(row.deployment) for row in rows]
        plain = StepCoefficients(learned=PLAIN)
        self.batch = [implied_lane_batch(r, row.point, plain) for r, row in zip(self.resolved, rows, strict=True)]
        columns = [
            step_columns(resolved, row.point.workload, batch)
            for resolved, row, batch in zip(self.resolved, rows, self.batch, strict=True)
        ]
        for tokens_in, tokens_out, rate, _, itl in points:
            columns.append(
                step_columns(LLAMA, uniform_lengths(tokens_in, tokens_out), max(rate * tokens_out * itl, 1.0))
            )
        everything = [*self.resolved, *[LLAMA] * len(points)]
        self.columns = np.array(columns)
        self.seconds = np.array([row.tpot_seconds for row in rows] + [point[4] for point in points])
        self.values = np.array([phi(resolved, FEATURES) for resolved in everything])
        self.weights = np.array([1.0] * len(rows) + [POINT_WEIGHT] * len(points))
        self.architectures = np.array([row.model for row in rows] + ["llama-3.1-8b"] * len(points))
        self.ttft = np.array([row.ttft_seconds for row in rows])
        self._steps: dict[tuple[bytes, tuple[str, ...], float], TermFactors] = {}

    def step(self, keep: NDArray[np.bool_], without: tuple[str, ...], ridge: float) -> TermFactors:
        """The step factors of the kept rows and points, some features left out; every question is answered once."""
        key = (keep.tobytes(), without, ridge)
        if key not in self._steps:
            self._steps[key] = self._step(keep, without, ridge)
        return self._steps[key]

    def _step(self, keep: NDArray[np.bool_], without: tuple[str, ...], ridge: float) -> TermFactors:
        floor = np.array([STEP_FLOOR.get(name, -6.0) for name in STEP_TERMS])
        used = np.array([name not in without for name in FEATURES])
        return _factors(
            fit_terms(
                self.columns[keep],
                self.seconds[keep],
                self.values[keep] * used,
                self.weights[keep],
                ridge,
                floor,
                np.array([name in KNOWN for name in STEP_TERMS]),
            ),
            floor,
        )

    def ttft_columns(self, step: TermFactors, keep: NDArray[np.bool_]) -> Floats:
        """Terms of the closed-loop TTFT of the kept rows, given step factors."""
        coefficients = StepCoefficients(learned=replace(PLAIN, step=step))
        return np.array(
            [
                ReplicaModel(
                    self.resolved[index], self.rows[index].point.workload, dispersion=0.0, coefficients=coefficients
                ).closed_loop_ttft_terms(self.batch[index], self.rows[index].concurrency)
                for index in np.flatnonzero(keep)
            ]
        )

    def closed_loop_ttft(self, columns: Floats, keep: NDArray[np.bool_], ridge: float) -> TermFactors:
        """The factors of the closed-loop TTFT of the kept rows, given their columns."""
        floor = np.full(len(TTFT_TERMS), -6.0)
        values, ones = self.values[: len(self.rows)][keep], np.ones(len(columns))
        return _factors(fit_terms(columns, self.ttft[keep], values, ones, ridge, floor), floor)

    def learn(self, without: str | None = None) -> Learned:
        """Everything learned from all architectures but one; intervals still to be set."""
        keep = self.architectures != without
        kept = keep[: len(self.rows)]
        step = self.step(keep, WITHOUT, STEP_RIDGE)
        return replace(
            PLAIN,
            step=step,
            closed_loop_ttft=self.closed_loop_ttft(self.ttft_columns(step, kept), kept, TTFT_RIDGE),
            domains=self.domains(without),
            oldest_releases=oldest_releases([row for row in self.rows if row.model != without]),
        )

    def domains(self, without: str | None = None) -> tuple[Domain, ...]:
        """Kinds of deployments with the ranges of their loads."""
        kinds: defaultdict[tuple[str, str, str, bool], list[list[float]]] = defaultdict(list)
        for row, resolved, batch in zip(self.rows, self.resolved, self.batch, strict=True):
            if row.model != without:
                kind = (resolved.gpu.name, engine_family(row.backend), resolved.precision, resolved.model.experts > 0)
                kinds[kind].append([math.log2(max(v, 1.0)) for v in (row.input_tokens, row.output_tokens, batch)])
        found = []
        for kind in sorted(kinds):
            places = np.round(np.array(kinds[kind]), 3)
            low, high = (tuple(map(float, ends)) for ends in (places.min(axis=0), places.max(axis=0)))
            found.append(Domain(*kind, low, high))  # type: ignore[arg-type]
        return tuple(found)


def _factors(fit: tuple[Floats, Floats], floor: Floats) -> TermFactors:
    base, weights = fit
    return TermFactors(
        FEATURES,
        tuple(float(round(value, 4)) for value in base),
        tuple(tuple(float(round(value, 4)) for value in row) for row in weights),
        tuple(float(round(value, 4)) for value in floor),
    )


def leave_one_architecture_out(design: Design) -> dict[str, Learned]:
    """What is learned without any row or point of each architecture."""
    return {str(name): design.learn(str(name)) for name in sorted({row.model for row in design.rows})}


def oldest_releases(rows: list[Row]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The oldest release of every engine among the rows that tell one; nightly builds have no number."""
    found = dict(CHECKED_RELEASES)
    for row in rows:
        release = engine_release(row.version) if row.version[:1].isdigit() else None
        if release is not None:
            name = engine_family(row.backend)
            found[name] = min(found.get(name, release), release)
    return tuple(sorted(found.items()))


def to_mapping(learned: Learned, notes: dict[str, Any]) -> dict[str, Any]:
    """The content of ``learned.json``."""

    def terms(factors: TermFactors, names: tuple[str, ...]) -> dict[str, Any]:
        return {
            "features": list(factors.features),
            "terms": {
                name: {"base": base, "weights": list(weights), "floor": floor}
                for name, base, weights, floor in zip(names, factors.base, factors.weights, factors.floor, strict=True)
            },
        }

    def bins(found: IntervalBins) -> dict[str, Any]:
        ends = [None if math.isinf(end) else end for end in found.upto]
        near = {kind: [low, high] for kind, low, high in found.near}
        return {"upto": ends, "lower": list(found.lower), "upper": list(found.upper)} | ({"near": near} if near else {})

    return {
        **notes,
        "step": terms(learned.step, STEP_TERMS),
        "closed_loop_ttft": terms(learned.closed_loop_ttft, TTFT_TERMS),
        "intervals": {
            "near": learned.near,
            "tpot": bins(learned.tpot_interval),
            "tpot_80": bins(learned.tpot_interval_80),
            "ttft": bins(learned.ttft_interval),
        },
        "oldest_releases": {name: ".".join(map(str, release)) for name, release in learned.oldest_releases},
        "domains": [
            {
                "gpu": kind.gpu,
                "engine": kind.engine,
                "precision": kind.precision,
                "moe": kind.moe,
                "low": list(kind.low),
                "high": list(kind.high),
            }
            for kind in learned.domains
        ],
    }


def main() -> None:
    from held_out import (
        distances_and_ratios,
        with_intervals,
    )  # predicts rows as users do; needs the loaders only, not the shipped numbers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[2] / "sizing" / "learned.json")
    options = parser.parse_args()
    rows, _ = silicon(options.data)
    design = Design(rows, guidellm(options.data))
    learned = design.learn()
    content = to_mapping(
        with_intervals(learned, distances_and_ratios(rows, leave_one_architecture_out(design))),
        {
            "made_by": "benchmarks/sizing/fit.py",
            "as_of": str(datetime.datetime.now(datetime.UTC).date()),
            "sources": [
                "ai-dynamo/aiconfigurator commit 095f58a51c, silicon_sample.csv, aggregated rows after cleaning "
                f"({len(rows)} of them; Apache-2.0)",
                "llm-inferno/model-trainer commit 047f0ae0b9, experiments/exp1, 112 points (Apache-2.0)",
            ],
            "what": "Fitted numbers and ranges only, no measurements. Intervals: leave one architecture out.",
        },
    )
    learned_from_mapping(content)
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{options.out}: {len(rows)} rows, {len(learned.domains)} kinds of deployments")


if __name__ == "__main__":
    main()
