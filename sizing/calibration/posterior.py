"""The posterior of a deployment's step time and TTFT, given measured points: solved exactly, asked in microseconds.

See ``sizing.calibration.calibrator`` for the model. The matrices of the points are inverted once, when the posterior is
made, so that a question costs a few products with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sizing.calibration.measurement import COEFFICIENTS, ObservedPoint, StepTerms, implied_lane_batch
from sizing.calibration.packed_points import PackedPoints
from sizing.calibration.small_arrays import column_ranges, median
from sizing.calibration.symmetric import SymmetricHalf
from sizing.errors import InvalidInput
from sizing.replica.memory import Memory, Resolved, require_fit
from sizing.replica.replica_model import ReplicaModel
from sizing.replica.step_time import StepCoefficients, step_model
from sizing.types import Workload

__all__ = ["Calibration", "Correction", "Prediction", "place"]

#: Prior standard deviations of log coefficients (together, apart), of the discrepancy and of a measurement, and the
#: discrepancy's reach in log units. Chosen on the end-to-end rows of ai-dynamo/aiconfigurator (commit 095f58a51c) such
#: that errors after 1, 3 and 5 points have the spread that is claimed: benchmarks/sizing/results.md.
_TOGETHER, _APART, _DISCREPANCY, _NOISE, _REACH = 0.20, 0.40, 0.20, 0.07, 1.2
#: The same for TTFT, where clients' start, engines and proxies differ far more.
_TTFT_TOGETHER, _TTFT_DISCREPANCY, _TTFT_NOISE = 0.80, 0.60, 0.25
_SEPARABLE_SHARE = 0.15
_CLAMP = math.log(2.0)
#: Points whose input and output lengths differ by less than this are of one traffic shape.
_ONE_SHAPE = math.log(1.5)
#: A question is near an observation when each length and the batch are within about a factor of 2 of it together.
_NEAR = math.log(2.0)
_NEAR_LIKENESS = math.exp(-(_NEAR**2) / (2.0 * _REACH**2)) * (1.0 - 1e-12)
#: Room to saturation below which predictions of a rate are no vaguer.
_LEAST_ROOM = 0.1
#: A TTFT that was predicted with other coefficients is scaled with the step time until that has moved by so much in the
#: logarithm; then it is predicted anew. At a given batch all its terms but a few milliseconds are steps.
_STALE_LOG = 0.05

#: Steps of the log coefficients that are rounding errors.
_SETTLED = 1e-13

Floats = NDArray[np.float64]
_IDENTITY: Floats = np.eye(len(COEFFICIENTS))


class Prediction(NamedTuple):
    """The median TTFT predicted for a point, and the step time there that it was predicted with; seconds."""

    step_seconds: float
    ttft_seconds: float | None


class Correction(NamedTuple):
    """What calibration says about one question: factors on predicted times, log standard deviations, nearness.

    ``step_seconds`` is the corrected time of a mean step there.
    """

    step_ratio: float
    step_log_sd: float
    ttft_ratio: float
    ttft_log_sd: float
    near: bool
    step_seconds: float


class _Ttft(NamedTuple):
    """The process of log TTFT ratios: which points it has, their weights in a mean, the inverse of their covariance."""

    points: NDArray[np.intp]
    weights: Floats
    inverse: SymmetricHalf


def place(workload: Workload, lane_batch: float) -> Floats:
    """Return where a load lies: the logarithms of input tokens, output tokens and decoding sequences of a lane."""
    values = (workload.input_tokens, workload.output_tokens, max(lane_batch, 1.0))
    return np.array([math.log(max(value, 1.0)) for value in values])


class Calibration:
    """What the points of one deployment taught; its answers never change. Build with ``calibrated`` or ``Calibrator``.

    ``coefficients`` are the posterior mean for every load, ``log_spread`` the standard deviations of their logarithms
    by name. ``at`` says more about a given load. Without points it is the prior with its spread.

    Args:
        resolved: the deployment.
        points: what was measured.
        prior: the coefficients before any measurement.
        step_terms: of the deployment and the prior.
        terms: ``step_terms`` at every point, shape (points, coefficients), seconds.
        places: ``place`` of every point, shape (points, 3).
        noise_ratio: by how much the noise of each point is inflated for its age.
        predictions: TTFTs of points as earlier posteriors predicted them; None: not predicted yet.
        entry_ratio: by how much ``prior`` was scaled already towards the measurements.
    """

    def __init__(
        self,
        resolved: Resolved,
        points: Sequence[ObservedPoint],
        prior: StepCoefficients,
        step_terms: StepTerms,
        terms: Floats,
        places: Floats,
        noise_ratio: Floats,
        predictions: Sequence[Prediction | None],
        entry_ratio: float = 1.0,
    ) -> None:
        self.resolved = resolved
        #: What was measured; made anew from packed numbers when asked for.
        self.points = PackedPoints(points)
        self.prior = prior
        self._step_terms = step_terms
        self._places = places
        self._replica: tuple[Workload, ReplicaModel] | None = None
        self._memory: Memory | None = None
        start = np.array([getattr(prior, name) for name in COEFFICIENTS])
        measured = np.log(np.array(self.points.tpot_seconds()))
        #: Measured step times over those that the catalogue's entry and the global coefficients predict, in the median.
        self.entry_ratio = entry_ratio
        if len(points):
            self.entry_ratio *= float(np.exp(median(measured - np.log(terms @ start))))
        count = len(COEFFICIENTS)
        shift = np.zeros(count)
        several = len(points) > 0 and bool(column_ranges(places[:, :2]).max() >= _ONE_SHAPE)
        likeness = _likeness(places[:, None, :] - places[None, :, :])
        within = _DISCREPANCY**2 * likeness + np.diag((_NOISE * noise_ratio) ** 2)
        certain = np.linalg.inv(within) if len(points) else within
        # Gauss–Newton: the log of a sum is nearly linear in the logs of its terms. The points enter by the inverse of
        # their own covariance (Woodbury), so that every round solves for the coefficients alone.
        for _ in range(6):
            values = start * np.exp(shift)
            predicted, shares = _shares(terms, values)
            spread = column_ranges(shares) if len(points) else np.zeros(count)
            free = (spread >= _SEPARABLE_SHARE) & several
            cover = np.full((count, count), _TOGETHER**2)
            cover.reshape(-1)[:: count + 1] += np.where(free, _APART**2, 0.0)
            if not len(points):
                break
            weighed = shares.T @ certain
            residual = measured - np.log(predicted) + shares @ shift
            before = shift
            inner = _IDENTITY + weighed @ shares @ cover
            shift = cover @ np.linalg.solve(inner, weighed @ residual)
            shift = np.minimum(np.maximum(shift, -_CLAMP, out=shift), _CLAMP, out=shift)
            if np.abs(shift - before).max() < _SETTLED:
                break
        self._values = start * np.exp(shift)
        predicted, self._shares = _shares(terms, self._values)
        self._cover = cover
        #: Variance of what moved only together and may differ apart.
        self._apart = np.where(free, 0.0, _APART**2)
        posterior = cover
        self._seen = np.zeros(count)
        if len(points):
            self._seen = np.add.reduce(self._shares, axis=0) / len(points)
            self._left = certain @ (measured - np.log(predicted))
            weighed = self._shares.T @ certain
            inner = np.linalg.solve(_IDENTITY + weighed @ self._shares @ cover, weighed)
            inverse = certain - weighed.T @ cover @ inner
            self._inverse = SymmetricHalf(inverse)
            gain = cover @ self._shares.T
            posterior = cover - gain @ inverse @ gain.T
        deviations = np.sqrt(np.maximum(np.diag(posterior), 0.0) + self._apart)
        self.coefficients = self.scaled(1.0)
        self._step = step_model(resolved, self.coefficients)
        self.log_spread = dict(zip(COEFFICIENTS, deviations.tolist(), strict=True))
        self._ttft: _Ttft | None = None
        self.predictions: tuple[Prediction | None, ...] = ()
        if len(points):
            ratios = np.exp(_DISCREPANCY**2 * likeness @ self._left)
            self.predictions = self._predicted(predicted * ratios, ratios, predictions)
            self._ttft = self._learn_ttft(likeness, noise_ratio)

    def __getstate__(self) -> dict[str, Any]:
        """The replica that was asked for last and the memory are made again."""
        return self.__dict__ | {"_replica": None, "_memory": None}

    def _predicted(
        self, steps: Floats, ratios: Floats, earlier: Sequence[Prediction | None]
    ) -> tuple[Prediction | None, ...]:
        """Return the TTFT of every point that has a measured one; ``steps`` are the predicted step times there."""
        found: list[Prediction | None] = []
        for index, (ttft, kept) in enumerate(zip(self.points.ttft_seconds(), earlier, strict=True)):
            step = float(steps[index])
            if ttft is None:
                found.append(None)
            elif kept is not None and abs(math.log(step / kept.step_seconds)) <= _STALE_LOG:
                found.append(kept)
            else:
                lane_batch = math.exp(self._places[index, 2])
                predicted = self._predicted_ttft(self.points[index], lane_batch, float(ratios[index]))
                found.append(Prediction(step, predicted))
        self._steps = steps
        return tuple(found)

    def _learn_ttft(self, likeness: Floats, noise_ratio: Floats) -> _Ttft | None:
        """Return the process on measured over predicted TTFT of the points whose TTFT can be predicted."""
        index, ratios = [], []
        for number, (ttft, told) in enumerate(zip(self.points.ttft_seconds(), self.predictions, strict=True)):
            if told is None or told.ttft_seconds is None or ttft is None:
                continue
            predicted = told.ttft_seconds * (float(self._steps[number]) / told.step_seconds)
            index.append(number)
            ratios.append(math.log(ttft / predicted))
        if not index:
            return None
        at = np.array(index)
        cover = _TTFT_TOGETHER**2 + _TTFT_DISCREPANCY**2 * likeness[np.ix_(at, at)]
        inverse = np.linalg.inv(cover + np.diag((_TTFT_NOISE * noise_ratio[at]) ** 2))
        return _Ttft(at, inverse @ np.array(ratios), SymmetricHalf(inverse))

    @property
    def ttft_points(self) -> int:
        """Points whose TTFT was measured and can be predicted."""
        return 0 if self._ttft is None else len(self._ttft.points)

    def _predicted_ttft(self, point: ObservedPoint, lane_batch: float, step_ratio: float) -> float | None:
        """Return the median TTFT that the calibrated step time predicts; None beyond saturation."""
        try:
            replica = ReplicaModel(
                self.resolved,
                point.workload,
                dispersion=0.0 if point.closed_loop else 1.0,
                coefficients=self.coefficients,
                step=self._step.scaled(step_ratio),
                memory=self._fitting(),
            )
        except InvalidInput:
            return None
        batch = min(lane_batch, replica.max_lane_batch)
        if point.closed_loop and point.concurrency is not None:
            ttft = replica.closed_loop_ttft_seconds(batch, point.concurrency)
        else:
            ttft = replica.latency(batch, 0.5, waiting=not point.closed_loop).ttft_seconds
        return ttft if 0 < ttft < math.inf else None

    @property
    def contradicts_entry(self) -> bool:
        """Whether the measurements are further from the catalogue's entry than coefficients may move: it is wrong."""
        return abs(math.log(self.entry_ratio)) >= _CLAMP

    @property
    def entry_warning(self) -> str | None:
        """One sentence on a catalogue entry that the measurements contradict; None where they do not."""
        if not self.contradicts_entry:
            return None
        factor = math.exp(abs(math.log(self.entry_ratio)))
        times = "" if self.entry_ratio > 1 else "1/"
        return (
            f"this catalogue entry is off by about {factor:.2g}×: a step of {self.resolved.model.name} on "
            f"{self.resolved.gpu.name} takes {times}{factor:.2g} times as long as it predicts"
        )

    def replica(self, workload: Workload) -> ReplicaModel:
        """Return a replica under Poisson arrivals with ``coefficients``; the last one asked for is kept.

        Raises:
            InvalidInput: the workload is invalid.
            DoesNotFit: the deployment cannot run it.
        """
        if self._replica is None or self._replica[0] != workload:
            self._replica = workload, self.replica_of(self.resolved, workload)
        return self._replica[1]

    def replica_of(self, resolved: Resolved, workload: Workload, dispersion: float = 1.0) -> ReplicaModel:
        """Return a new replica of a deployment with ``coefficients``; of that of the calibration, most is known.

        Raises:
            InvalidInput: the workload or the dispersion is invalid.
            DoesNotFit: the deployment cannot run it.
        """
        own = resolved is self.resolved
        return ReplicaModel(
            resolved,
            workload,
            dispersion=dispersion,
            coefficients=self.coefficients,
            step=self._step if own else None,
            memory=self._fitting() if own else None,
        )

    def _fitting(self) -> Memory:
        """Return the memory of the deployment, the same for every workload; worked out when first asked for."""
        if self._memory is None:
            self._memory = require_fit(self.resolved)
        return self._memory

    def surprise(self, point: ObservedPoint) -> tuple[float, float | None]:
        """Return how far a point's times per output token and to first token lie from what its rate would bring.

        In standard deviations of a measurement there, above or below, wider where little room is left, since there a
        small error of the step is a large one of the batch. Where the rate is not sustained by what is known, the step
        is compared at the batch that the measured times imply, and nothing is said of the first token. Nor is it where
        prompts would wait without end. (0, None): the rate is unknown.
        """
        rate, workload = point.requests_per_second, point.workload
        if rate is None:
            return 0.0, None
        replica = self.replica(workload)
        batch = replica.lane_batch(rate)
        if batch is None:
            return self._step_surprise(point), None
        known = self.at(workload, batch)
        replica = replica.scaled(known.step_ratio)
        batch = replica.lane_batch(rate)
        if batch is None:
            return self._step_surprise(point), None
        room = max(1.0 - rate / replica.saturation_requests_per_second, _LEAST_ROOM)
        step = math.log(point.tpot_seconds / replica.step_seconds(batch)) * room
        step /= max(known.step_log_sd, _NOISE)
        if point.ttft_seconds is None:
            return step, None
        seen = replica.latency(batch, 0.5)
        if seen.ttft_seconds == math.inf:  # the queue for prefill grows without end, by what is known
            return step, None
        first = math.log(point.ttft_seconds / (seen.ttft_seconds * known.ttft_ratio)) * room
        return step, first / max(known.ttft_log_sd, _TTFT_NOISE)

    def _step_surprise(self, point: ObservedPoint) -> float:
        batch = implied_lane_batch(self.resolved, point, self.prior)
        workload = point.workload
        error, deviation = self.step_error(point, self._step_terms.at(workload, batch), place(workload, batch))
        return error / max(deviation, _NOISE)

    def step_error(self, point: ObservedPoint, terms: Sequence[float], at: Floats) -> tuple[float, float]:
        """Return the log of the measured over the predicted time per output token, and its standard deviation.

        ``terms`` as ``StepTerms.at`` has them for the workload of the point and its batch, ``at`` is their ``place``.
        """
        step, ratio, deviation, _ = self._ask(terms, at)
        return math.log(point.tpot_seconds / (step * ratio)), deviation

    def scaled(self, step_ratio: float) -> StepCoefficients:
        """Return the posterior coefficients with every step time multiplied by ``step_ratio``."""
        values = (self._values * step_ratio).tolist()
        return replace(self.prior, **dict(zip(COEFFICIENTS, values, strict=True)))

    def _ask(self, terms: Sequence[float], at: Floats) -> tuple[float, float, float, Floats]:
        """Return a step time by ``coefficients``, the local factor on it, its log standard deviation, the likeness."""
        parts = np.array(terms) * self._values
        step = float(np.add.reduce(parts))
        shares = parts / step
        weighed = self._cover @ shares
        variance = float(shares @ weighed) + _DISCREPANCY**2 + _NOISE**2
        log_ratio = 0.0
        likeness = _likeness(self._places - at)
        if self.points:
            near = _DISCREPANCY**2 * likeness
            log_ratio = float(near @ self._left)
            gain = self._shares @ weighed + near
            variance -= self._inverse.form(gain)
        # What moved only together may differ apart, as far as this load weighs the terms otherwise.
        variance += float((shares - self._seen) ** 2 @ self._apart)
        return step, math.exp(log_ratio), math.sqrt(max(variance, 0.0)), likeness

    def at(self, workload: Workload, lane_batch: float) -> Correction:
        """Return what is known about a load of ``lane_batch`` decoding sequences per lane.

        The factors apply to predictions made with ``coefficients``.
        """
        terms = self._step_terms.at(workload, max(lane_batch, 1.0))
        where = place(workload, lane_batch)
        step, ratio, deviation, likeness = self._ask(terms, where)
        log_ratio, variance = 0.0, _TTFT_TOGETHER**2 + _TTFT_DISCREPANCY**2 + _TTFT_NOISE**2
        if self._ttft is not None:
            index, weights, inverse = self._ttft
            gain = _TTFT_TOGETHER**2 + _TTFT_DISCREPANCY**2 * likeness[index]
            variance -= inverse.form(gain)
            if self.contradicts_entry:
                # Beyond what was measured the factor stays what it is at the edge: fading, it would undo the load.
                edge = np.clip(where, self._places.min(axis=0), self._places.max(axis=0))
                gain = _TTFT_TOGETHER**2 + _TTFT_DISCREPANCY**2 * _likeness(self._places - edge)[index]
            log_ratio = float(gain @ weights)
        near = bool(self.points) and float(likeness.max()) >= _NEAR_LIKENESS and not self.contradicts_entry
        return Correction(ratio, deviation, math.exp(log_ratio), math.sqrt(variance), near, step * ratio)


def _likeness(apart: Floats) -> Floats:
    """Return the correlation of places so far ``apart`` (last axis): 1 at the same place, 0 far away."""
    alike: Floats = np.exp(np.einsum("...i,...i->...", apart, apart) / (-2.0 * _REACH**2))
    return alike


def _shares(terms: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return the step times of rows of terms, and the share of every term in them."""
    parts = terms * values
    total = np.add.reduce(parts, axis=-1)
    return total, parts / total[..., None]
