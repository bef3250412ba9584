"""A catalogue entry for a device from load tests of it: bandwidth, FLOP/s and overheads, each with its uncertainty.

The fit is a maximum a posteriori one in logarithms: the replica physics (``sizing.replica.replica_model``) predicts
TPOT and TTFT of every point, and Gauss–Newton with a damped step moves five numbers of the entry until the weighted
residuals are least. Weak log-normal priors keep apart what the tests do not: bandwidth and the fixed time of a step are
both "the same for every batch" to tests of one model, and only tests of models of different size separate them. The
posterior is taken as Gaussian around the mode (Laplace), and its standard deviations are the uncertainties.

Overheads beyond the global coefficients (``sizing.catalog.gpus.Overheads``): seconds of every step on the host, seconds
of every request before its prompt is computed, and the share of every other client's prompt that a prompt waits for in
a closed loop. Where n prompts arrive together and are served one after the other, a prompt waits for half of the others
on average: the prior of that share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sizing.calibration.measurement import ObservedPoint, check_point
from sizing.catalog import Catalog, GpuSpec
from sizing.catalog.gpus import Overheads
from sizing.errors import InvalidInput
from sizing.replica.memory import Resolved, resolve
from sizing.replica.replica_model import ReplicaModel
from sizing.types import Deployment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FittedValue", "HardwareFit", "PointFit", "fit_hardware"]

#: Standard deviations of the logarithm of a measured TPOT and TTFT around what an entry predicts: those that
#: ``sizing.calibration.calibrator`` uses, which were chosen on other measurements (the step model's discrepancy of 0.20
#: with a measurement's noise of 0.07; the noise of a TTFT).
_TPOT_SD, _TTFT_SD = math.hypot(0.20, 0.07), 0.25
#: Prior medians and log standard deviations, weak but for the share (see above). Bandwidth: 90 % between one channel of
#: DDR4-2133 (JEDEC JESD79-4: 17 GB/s) and the fastest built-in entries (8 TB/s).
_PRIORS = {
    "memory_bandwidth_bytes_per_second": (3.7e11, 1.9),
    "flops_per_second": (3e12, 3.5),
    "step_seconds": (1e-3, 1.5),
    "request_seconds": (0.02, 1.0),
    "prompt_wait_share": (0.5, 0.3),
}
_NAMES = (
    "memory_bandwidth_bytes_per_second",
    "flops_per_second",
    "step_seconds",
    "request_seconds",
    "prompt_wait_share",
)
_ROUNDS = 40
_DIFFERENCE = 1e-4
#: Standard normal quantile at 95 %: the bounds of a 90 % interval.
_Z90 = 1.645
#: The tests allow a bandwidth at its lower bound when their squared weighted residuals grow by no more than this.
_ALLOWED_COST = 1.0
#: A value whose 90 % interval spans more than this factor either way is called unknown from these tests.
_VAGUE = 2.0


@dataclass(frozen=True, slots=True)
class FittedValue:
    """One number of the entry with the bounds of its 90 % interval; ``determined``: within a factor of 2 either way."""

    name: str
    value: float
    lower: float
    upper: float

    @property
    def determined(self) -> bool:
        """Whether the tests say the value within a factor of 2."""
        return self.upper / self.value <= _VAGUE


@dataclass(frozen=True, slots=True)
class PointFit:
    """One measured point and what the fitted entry predicts for it; seconds, None: not measured."""

    tpot_seconds: float
    predicted_tpot_seconds: float
    ttft_seconds: float | None
    predicted_ttft_seconds: float


@dataclass(frozen=True, slots=True)
class HardwareFit:
    """A fitted entry, how well each number is known, and how far it is from every point."""

    gpu: GpuSpec
    values: tuple[FittedValue, ...]
    points: tuple[PointFit, ...]
    models: tuple[str, ...]

    def fields(self) -> dict[str, Any]:
        """Return the entry as a user catalogue writes it (``gpus: {name: fields}``)."""
        gpu = self.gpu
        assert gpu.overheads is not None
        return {
            "memory_bytes": _short(gpu.memory_bytes),
            "memory_bandwidth_bytes_per_second": _short(gpu.memory_bandwidth_bytes_per_second),
            "flops_per_second": {name: _short(value) for name, value in gpu.flops_per_second.items()},
            "compute_efficiency": dict(gpu.compute_efficiency),
            "other_reserve_bytes": _short(gpu.other_reserve_bytes),
            "overheads": {
                "step_seconds": _short(gpu.overheads.step_seconds),
                "request_seconds": _short(gpu.overheads.request_seconds),
                "prompt_wait_share": _short(gpu.overheads.prompt_wait_share),
            },
            "source": gpu.source,
            "as_of": gpu.as_of,
        }

    def notes(self) -> tuple[str, ...]:
        """Return what the tests leave open, one sentence each."""
        vague = {value.name for value in self.values if not value.determined}
        found = []
        if {"memory_bandwidth_bytes_per_second", "step_seconds"} & vague:
            found.append(
                "these tests do not separate bandwidth from the fixed time of a step, and the entry has a cautious "
                f"bandwidth: add tests of a larger model before sizing one (tested: {', '.join(self.models)})"
            )
        if "flops_per_second" in vague:
            found.append("the FLOP/s are vague: add a test with longer prompts or more clients")
        worst = max((abs(math.log(p.predicted_tpot_seconds / p.tpot_seconds)) for p in self.points), default=0.0)
        if worst > 3 * _TPOT_SD:
            found.append(f"one test's TPOT is a factor {math.exp(worst):.2g} off the fit: was it the same set-up?")
        return tuple(found)


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def fit_hardware(
    name: str,
    tests: Sequence[tuple[Deployment, ObservedPoint]],
    *,
    memory_bytes: float,
    as_of: str,
    catalog: Catalog | None = None,
    reserve_bytes: float = 0.0,
) -> HardwareFit:
    """Fit the entry of a single device to measured points of it.

    Args:
        name: of the new entry.
        tests: deployments (one device each; their ``gpu`` is not read) and what was measured on them.
        memory_bytes: memory of the device that an engine may use, which no load test tells.
        as_of: month of the tests, such as "2026-11".
        catalog: where the models are.
        reserve_bytes: memory that the engine keeps for other things than weights and KV cache.

    Raises:
        InvalidInput: fewer than two different loads, more than one device, or a number makes no sense.
        DoesNotFit: a tested model does not fit into the memory that was given.
    """
    import numpy as np

    if not 0 < memory_bytes < math.inf or not 0 <= reserve_bytes < memory_bytes:
        raise InvalidInput(
            f"memory_bytes must be positive and above reserve_bytes, got {memory_bytes!r}, {reserve_bytes!r}"
        )
    for deployment, point in tests:
        check_point(point)
        if deployment.gpus != 1:
            raise InvalidInput(f"a device is fitted from tests on one device, not on {deployment.gpus}")
    if len({_load(point) for _, point in tests}) < 2:
        raise InvalidInput("at least two tests at different loads are needed, such as concurrency 1 and 8")
    problem = _Problem(name, list(tests), memory_bytes, reserve_bytes, as_of, catalog or Catalog())
    logs = problem.solved(problem.start(), np.ones(len(_NAMES), dtype=bool))
    _, slopes = problem.linear(logs)
    deviations = np.sqrt(np.diag(np.linalg.inv(slopes.T @ slopes)))
    values = tuple(
        FittedValue(key, math.exp(log), math.exp(log - _Z90 * sd), math.exp(log + _Z90 * sd))
        for key, log, sd in zip(_NAMES, logs.tolist(), deviations.tolist(), strict=True)
    )
    gpu = problem.entry(_cautious(problem, logs, values[0]))
    models = tuple(sorted({resolved.model.name.rpartition("/")[2] for resolved in problem.resolved(gpu)}))
    spreads = ", ".join(f"{_LABELS[v.name]} ×/÷ {v.upper / v.value:.2g}" for v in values)
    source = f"fitted to {len(tests)} load tests of {', '.join(models)} (90 %: {spreads})"
    gpu = replace(gpu, source=source)
    points = tuple(
        PointFit(point.tpot_seconds, tpot, point.ttft_seconds, ttft)
        for (_, point), (tpot, ttft) in zip(tests, problem.predict(gpu), strict=True)
    )
    return HardwareFit(gpu, values, points, models)


def _cautious(problem: _Problem, logs: NDArray[np.float64], bandwidth: FittedValue) -> NDArray[np.float64]:
    """Return the numbers of the entry; a bandwidth that the tests do not determine stands at its lower bound.

    A larger model would otherwise be sized by the prior's bandwidth, in the direction that is not safe. The others are
    fitted again beside it; where the tests speak against the bound, the mode stays.
    """
    import numpy as np

    if bandwidth.determined:
        return logs
    free = np.array([name != bandwidth.name for name in _NAMES])
    careful = problem.solved(np.where(free, logs, math.log(bandwidth.lower)), free)
    prior = ((np.stack([careful, logs])[:, 0] - math.log(_PRIORS[bandwidth.name][0])) / _PRIORS[bandwidth.name][1]) ** 2
    worse = (problem.cost(careful) - float(prior[0])) - (problem.cost(logs) - float(prior[1]))
    return careful if worse <= _ALLOWED_COST else logs


_LABELS = dict(zip(_NAMES, ("bandwidth", "FLOP/s", "step overhead", "request overhead", "wait share"), strict=True))


def _load(point: ObservedPoint) -> tuple[float, ...]:
    load = point.concurrency if point.concurrency is not None else point.requests_per_second
    return (
        round(math.log(load or 1.0), 1),
        round(math.log(point.input_tokens), 1),
        round(math.log(point.output_tokens), 1),
    )


@dataclass(frozen=True, slots=True)
class _Problem:
    """The points to fit, and residuals and slopes of the logarithms in the order of ``_NAMES``."""

    name: str
    tests: list[tuple[Deployment, ObservedPoint]]
    memory_bytes: float
    reserve_bytes: float
    as_of: str
    catalog: Catalog

    def entry(self, logs: NDArray[np.float64]) -> GpuSpec:
        bandwidth, flops, step, request, share = (math.exp(value) for value in logs.tolist())
        return GpuSpec(
            name=self.name,
            memory_bytes=self.memory_bytes,
            memory_bandwidth_bytes_per_second=bandwidth,
            # Effective FLOP/s: what a test shows is what large products reach.
            flops_per_second={"bf16": flops},
            compute_efficiency={"bf16": 1.0},
            gpus_per_node=1,
            topology="single",
            links={},
            inter_node_bandwidth_bytes_per_second=math.inf,
            other_reserve_bytes=self.reserve_bytes,
            comm_reserve_bytes={1: 0.0},
            source="fitted",
            as_of=self.as_of,
            overheads=Overheads(step, request, min(share, 1.0)),
        )

    def start(self) -> NDArray[np.float64]:
        """Begin where the longest prompt's compute makes half of its TTFT."""
        import numpy as np

        flops = 1e12
        for deployment, point in self.tests:
            if point.ttft_seconds is not None:
                active = 2.0 * self.catalog.model(deployment.model).active_parameters * point.input_tokens
                flops = active / (0.5 * point.ttft_seconds)
                break
        values = [flops if name == "flops_per_second" else _PRIORS[name][0] for name in _NAMES]
        return np.array([math.log(value) for value in values])

    def resolved(self, gpu: GpuSpec) -> list[Resolved]:
        extended = Catalog({gpu.name: gpu}, {d.model: self.catalog.model(d.model) for d, _ in self.tests})
        return [resolve(replace(deployment, gpu=gpu.name), extended) for deployment, _ in self.tests]

    def predict(self, gpu: GpuSpec) -> list[tuple[float, float]]:
        """TPOT and TTFT of every point, as ``sizing.calibration.table`` predicts them."""
        return [_predicted(r, point) for r, (_, point) in zip(self.resolved(gpu), self.tests, strict=True)]

    def residuals(self, logs: NDArray[np.float64]) -> NDArray[np.float64]:
        import numpy as np

        found = []
        for (tpot, ttft), (_, point) in zip(self.predict(self.entry(logs)), self.tests, strict=True):
            found.append(math.log(tpot / point.tpot_seconds) / _TPOT_SD)
            if point.ttft_seconds is not None:
                found.append(math.log(ttft / point.ttft_seconds) / _TTFT_SD)
        values = dict(zip(_NAMES, logs.tolist(), strict=True))
        found += [(values[name] - math.log(mean)) / sd for name, (mean, sd) in _PRIORS.items()]
        return np.array(found)

    def solved(self, start: NDArray[np.float64], free: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the mode from ``start`` on, moving only what is ``free`` (Levenberg–Marquardt)."""
        import numpy as np

        logs, cost, damping = start, self.cost(start), 1e-2
        for _ in range(_ROUNDS):
            residuals, slopes = self.linear(logs)
            slopes = slopes[:, free]
            normal = slopes.T @ slopes
            step = np.zeros(len(logs))
            step[free] = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -slopes.T @ residuals)
            tried = logs + np.clip(step, -1.0, 1.0)
            lower = self.cost(tried)
            if lower >= cost:
                damping *= 4.0
                if damping > 1e8:
                    break
                continue
            done = cost - lower < 1e-9 * (1.0 + cost)
            logs, cost, damping = tried, lower, max(damping / 3.0, 1e-9)
            if done:
                break
        return logs

    def cost(self, logs: NDArray[np.float64]) -> float:
        residuals = self.residuals(logs)
        return float(residuals @ residuals)

    def linear(self, logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the residuals and their slopes by central differences."""
        import numpy as np

        columns = []
        for i in range(len(logs)):
            away = np.zeros(len(logs))
            away[i] = _DIFFERENCE
            columns.append((self.residuals(logs + away) - self.residuals(logs - away)) / (2 * _DIFFERENCE))
        return self.residuals(logs), np.stack(columns, axis=1)


def _predicted(resolved: Resolved, point: ObservedPoint) -> tuple[float, float]:
    replica = ReplicaModel(resolved, point.workload, dispersion=0.0 if point.closed_loop else 1.0)
    if point.closed_loop and point.concurrency is not None:
        batch = replica.closed_loop_lane_batch(point.concurrency)
        return replica.step_seconds(batch), replica.closed_loop_ttft_seconds(batch, point.concurrency)
    rate = point.requests_per_second or 0.0
    batch = replica.lane_batch(rate) or replica.max_lane_batch  # beyond saturation: a full batch
    latency = replica.mean_latency(batch) if batch < replica.max_lane_batch else None
    return replica.step_seconds(batch), latency.ttft_seconds if latency else replica.service_seconds(
        batch, point.input_tokens
    )
