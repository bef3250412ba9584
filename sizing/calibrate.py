"""What measurements of a deployment teach the step model: a small Bayesian update with an honest error.

Model, in logarithms: measured TPOT = Σ coefficient · term, times a smooth local discrepancy, times noise. The log
coefficients have a normal prior around the global fit, shifting together and apart; the discrepancy is a Gaussian
process over (input, output, batch), so what was learned fades with the distance from what was seen (Kennedy and
O'Hagan 2001, "Bayesian calibration of computer models"). TTFT gets such a process of its own on measured over
predicted. Everything is solved exactly from the remembered points, a matrix of their number; forgetting inflates the
noise of older ones.

Guards: a coefficient whose share of the step differs by less than 0.15 between the points cannot be told from the
others and only moves with them; from one traffic shape alone (lengths within a factor 1.5) all move together, since
what one shape teaches about single terms fails on the next (docs/sizing-accuracy.md); coefficients stay within
[0.5, 2] of the prior (as ai-dynamo's planner clamps its corrections).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sizing.errors import InvalidInput
from sizing.memory import Resolved
from sizing.model import Workload
from sizing.observed import COEFFICIENTS, ObservedPoint, check_point, implied_lane_batch, step_terms
from sizing.replica import ReplicaModel
from sizing.steptime import StepCoefficients

__all__ = ["Calibration", "Calibrator", "Correction", "calibrated"]

#: Prior standard deviations of log coefficients (together, apart), of the discrepancy and of a measurement, and the
#: discrepancy's reach in log units. Chosen on the end-to-end rows of ai-dynamo/aiconfigurator (commit 095f58a51c) such
#: that errors after 1, 3 and 5 points have the spread that is claimed: benchmarks/sizing/results.md.
_TOGETHER, _APART, _DISCREPANCY, _NOISE, _REACH = 0.20, 0.40, 0.20, 0.07, 1.2
#: The same for TTFT, where clients' start, engines and proxies differ far more.
_TTFT_TOGETHER, _TTFT_DISCREPANCY, _TTFT_NOISE = 0.80, 0.60, 0.25
_SEPARABLE_SHARE = 0.15
#: Standard normal quantile at 95 %: the bounds of a 90 % interval.
_Z90 = 1.645
_CLAMP = math.log(2.0)
#: Points whose input and output lengths differ by less than this are of one traffic shape.
_ONE_SHAPE = math.log(1.5)
#: A question is near an observation when each length and the batch are within about a factor of 2 of it together.
_NEAR = math.log(2.0)
#: Room to saturation below which predictions of a rate are no vaguer.
_LEAST_ROOM = 0.1


@dataclass(frozen=True, slots=True)
class Correction:
    """What calibration says about one question: factors on predicted times, log standard deviations, nearness."""

    step_ratio: float
    step_log_sd: float
    ttft_ratio: float
    ttft_log_sd: float
    near: bool


def _place(workload: Workload, lane_batch: float) -> NDArray[np.float64]:
    values = (workload.input_tokens, workload.output_tokens, max(lane_batch, 1.0))
    return np.array([math.log(max(value, 1.0)) for value in values])


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    distance = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    cover: NDArray[np.float64] = deviation**2 * np.exp(-distance / (2 * _REACH**2))
    return cover


class Calibration:
    """What the points of one deployment taught; immutable. Build with ``calibrated`` or ``Calibrator``.

    ``coefficients`` are the posterior mean for every load, ``log_spread`` the standard deviations of their logarithms
    by name. ``at`` says more about a given load. Without points it is the prior with its spread.
    """

    def __init__(
        self,
        resolved: Resolved,
        points: Sequence[ObservedPoint],
        prior: StepCoefficients,
        terms: NDArray[np.float64],
        places: NDArray[np.float64],
        noise_ratio: NDArray[np.float64],
    ) -> None:
        self.resolved = resolved
        self.points = tuple(points)
        self.prior = prior
        self._terms, self._places, self._noise_ratio = terms, places, noise_ratio
        start = np.array([getattr(prior, name) for name in COEFFICIENTS])
        measured = np.log(np.array([point.tpot_seconds for point in points]))
        count = len(COEFFICIENTS)
        shift = np.zeros(count)
        several = len(points) > 0 and bool(np.ptp(places[:, :2], axis=0).max() >= _ONE_SHAPE)
        self._within = _kernel(places, places, _DISCREPANCY) + np.diag((_NOISE * noise_ratio) ** 2)
        # Gauss–Newton: the log of a sum is nearly linear in the logs of its terms.
        for _ in range(6):
            values = start * np.exp(shift)
            predicted, shares = _shares(terms, values)
            spread = np.ptp(shares, axis=0) if len(points) else np.zeros(count)
            self._free = (spread >= _SEPARABLE_SHARE) & several
            cover = np.full((count, count), _TOGETHER**2) + np.diag(np.where(self._free, _APART**2, 0.0))
            if not len(points):
                break
            joint = shares @ cover @ shares.T + self._within
            residual = measured - np.log(predicted) + shares @ shift
            shift = np.clip(cover @ shares.T @ np.linalg.solve(joint, residual), -_CLAMP, _CLAMP)
        self._values = start * np.exp(shift)
        predicted, self._shares = _shares(terms, self._values)
        self._cover = cover
        if len(points):
            joint = self._shares @ cover @ self._shares.T + self._within
            self._joint = joint
            self._left = np.linalg.solve(self._within, measured - np.log(predicted))
            gain = cover @ self._shares.T
            posterior = cover - gain @ np.linalg.solve(joint, gain.T)
        else:
            posterior = cover
        apart = np.where(self._free, 0.0, _APART**2)
        deviations = np.sqrt(np.maximum(np.diag(posterior), 0.0) + apart)
        self.coefficients = self.scaled(1.0)
        self.log_spread = dict(zip(COEFFICIENTS, deviations.tolist(), strict=True))

    @cached_property
    def _ttft(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
        """Places, log ratios measured over predicted and covariance of the points whose TTFT can be predicted."""
        places, ratios, noise = [], [], []
        for point, place, ratio in zip(self.points, self._places, self._noise_ratio, strict=True):
            predicted = self._predicted_ttft(point, math.exp(place[2]))
            if point.ttft_seconds is not None and predicted is not None:
                places.append(place)
                ratios.append(math.log(point.ttft_seconds / predicted))
                noise.append((_TTFT_NOISE * ratio) ** 2)
        if not places:
            return None
        at = np.array(places)
        cover = _TTFT_TOGETHER**2 + _kernel(at, at, _TTFT_DISCREPANCY) + np.diag(noise)
        return at, np.array(ratios), cover

    @property
    def ttft_points(self) -> int:
        """Points whose TTFT was measured and can be predicted."""
        return 0 if self._ttft is None else len(self._ttft[1])

    def _predicted_ttft(self, point: ObservedPoint, lane_batch: float) -> float | None:
        """Return the median TTFT that the calibrated step time predicts, as ``sizing.points`` does; None beyond it."""
        if point.ttft_seconds is None:
            return None
        step_ratio = self.step_correction(point.workload, lane_batch)[0]
        try:
            replica = ReplicaModel(
                self.resolved,
                point.workload,
                dispersion=0.0 if point.closed_loop else 1.0,
                coefficients=self.scaled(step_ratio),
            )
        except InvalidInput:
            return None
        batch = min(lane_batch, replica.max_lane_batch)
        if point.closed_loop and point.concurrency is not None:
            ttft = replica.closed_loop_ttft_seconds(batch, point.concurrency)
        else:
            ttft = replica.latency(batch, 0.5, waiting=not point.closed_loop).ttft_seconds
        return ttft if 0 < ttft < math.inf else None

    def surprise(self, point: ObservedPoint) -> tuple[float, float | None]:
        """Return how far a point's times per output token and to first token lie from what its rate would bring.

        In standard deviations of a measurement there, above or below, wider where little room is left, since there a
        small error of the step is a large one of the batch. Where the rate is not sustained by what is known, the step
        is compared at the batch that the measured times imply, and nothing is said of the first token. (0, None): the
        rate is unknown.
        """
        rate, workload = point.requests_per_second, point.workload
        if rate is None:
            return 0.0, None
        replica = ReplicaModel(self.resolved, workload, coefficients=self.coefficients)
        batch = replica.lane_batch(rate)
        if batch is None:
            return self._step_surprise(point), None
        known = self.at(workload, batch)
        replica = ReplicaModel(self.resolved, workload, coefficients=self.scaled(known.step_ratio))
        batch = replica.lane_batch(rate)
        if batch is None:
            return self._step_surprise(point), None
        room = max(1.0 - rate / replica.saturation_requests_per_second, _LEAST_ROOM)
        seen = replica.latency(batch, 0.5)
        step = math.log(point.tpot_seconds / replica.mean_latency(batch).tpot_seconds) * room
        step /= max(known.step_log_sd, _NOISE)
        if point.ttft_seconds is None:
            return step, None
        first = math.log(point.ttft_seconds / (seen.ttft_seconds * known.ttft_ratio)) * room
        return step, first / max(known.ttft_log_sd, _TTFT_NOISE)

    def _step_surprise(self, point: ObservedPoint) -> float:
        batch = implied_lane_batch(self.resolved, point, self.prior)
        error, deviation = self.step_error(point, batch, step_terms(self.resolved, point.workload, batch, self.prior))
        return error / max(deviation, _NOISE)

    def step_error(self, point: ObservedPoint, lane_batch: float, terms: NDArray[np.float64]) -> tuple[float, float]:
        """Return the log of the measured over the predicted time per output token, and its standard deviation.

        ``terms`` as ``step_terms`` has them at ``lane_batch``.
        """
        ratio, deviation = self.step_correction(point.workload, lane_batch)
        return math.log(point.tpot_seconds / (float(terms @ self._values) * ratio)), deviation

    def scaled(self, step_ratio: float) -> StepCoefficients:
        """Return the posterior coefficients with every step time multiplied by ``step_ratio``."""
        values = (self._values * step_ratio).tolist()
        return replace(self.prior, **dict(zip(COEFFICIENTS, values, strict=True)))

    def step_correction(self, workload: Workload, lane_batch: float) -> tuple[float, float]:
        """Return the local factor on the step time and the log standard deviation of a measurement there."""
        terms = step_terms(self.resolved, workload, max(lane_batch, 1.0), self.prior)
        _, shares = _shares(terms[None, :], self._values)
        variance = float((shares @ self._cover @ shares.T)[0, 0]) + _DISCREPANCY**2 + _NOISE**2
        log_ratio = 0.0
        seen = np.zeros(len(COEFFICIENTS))
        if self.points:
            near = _kernel(_place(workload, lane_batch)[None, :], self._places, _DISCREPANCY)
            log_ratio = float((near @ self._left)[0])
            gain = shares @ self._cover @ self._shares.T + near
            variance -= float((gain @ np.linalg.solve(self._joint, gain.T))[0, 0])
            seen = self._shares.mean(axis=0)
        # What moved only together may differ apart, as far as this load weighs the terms otherwise.
        variance += float(((shares[0] - seen) ** 2 * np.where(self._free, 0.0, _APART**2)).sum())
        return math.exp(log_ratio), math.sqrt(max(variance, 0.0))

    def at(self, workload: Workload, lane_batch: float) -> Correction:
        """Return what is known about a load of ``lane_batch`` decoding sequences per lane.

        The factors apply to predictions made with ``coefficients``.
        """
        step_ratio, step_sd = self.step_correction(workload, lane_batch)
        place = _place(workload, lane_batch)[None, :]
        log_ratio, variance = 0.0, _TTFT_TOGETHER**2 + _TTFT_DISCREPANCY**2 + _TTFT_NOISE**2
        if self._ttft is not None:
            places, ratios, cover = self._ttft
            gain = _TTFT_TOGETHER**2 + _kernel(place, places, _TTFT_DISCREPANCY)
            log_ratio = float((gain @ np.linalg.solve(cover, ratios))[0])
            variance -= float((gain @ np.linalg.solve(cover, gain.T))[0, 0])
        distance = np.sqrt(((self._places - place) ** 2).sum(axis=1)).min() if self.points else math.inf
        return Correction(step_ratio, step_sd, math.exp(log_ratio), math.sqrt(variance), bool(distance <= _NEAR))


def _shares(terms: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    parts = terms * values
    total = parts.sum(axis=1)
    return total, parts / total[:, None]


class Calibrator:
    """Learns one deployment online: ``update`` with every window that has a load and latencies, ask ``calibration``.

    ``forgetting`` in (0, 1]: each update multiplies the weight of earlier points by it. At most ``max_points`` are
    remembered: a new one takes the place of the nearest older one once its memory is full, so loads seen long ago are
    not pushed out by what repeats.

    Raises:
        InvalidInput: forgetting or the number of points cannot be.
    """

    def __init__(
        self,
        resolved: Resolved,
        *,
        prior: StepCoefficients | None = None,
        forgetting: float = 0.995,
        max_points: int = 48,
    ) -> None:
        if not 0 < forgetting <= 1 or max_points < 1:
            raise InvalidInput(f"forgetting {forgetting!r} with {max_points!r} points cannot be")
        self.resolved = resolved
        self.prior = prior or StepCoefficients()
        self._forgetting = forgetting
        self._max_points = max_points
        self._updates = 0
        self._memory: list[tuple[ObservedPoint, int, NDArray[np.float64], NDArray[np.float64]]] = []
        #: Points that were predicted before they were learned, and how many of them lay within the 90 % interval.
        self.asked = 0
        self.inside = 0
        self._found: Calibration | None = None

    def update(self, point: ObservedPoint, *, score: bool = True) -> None:
        """Learn one point; with ``score`` it is predicted first, for ``coverage_ratio``.

        Raises:
            InvalidInput: the point cannot be.
            DoesNotFit: the deployment cannot run it.
        """
        check_point(point)
        batch = implied_lane_batch(self.resolved, point, self.prior)
        terms = step_terms(self.resolved, point.workload, batch, self.prior)
        if score and self._memory:
            self._score(point, batch, terms)
        place = _place(point.workload, batch)
        entry = (point, self._updates, terms, place)
        self._updates += 1
        if len(self._memory) >= self._max_points:
            nearest = min(range(len(self._memory)), key=lambda i: float(((self._memory[i][3] - place) ** 2).sum()))
            del self._memory[nearest]
        self._memory.append(entry)
        self._found = None

    def surprise(self, point: ObservedPoint) -> tuple[float, float | None]:
        """Return how far a point lies from what has been learned, as ``Calibration.surprise``; learns nothing.

        Raises:
            InvalidInput: the point cannot be.
            DoesNotFit: the deployment cannot run it.
        """
        check_point(point)
        return self.calibration.surprise(point)

    @property
    def updates(self) -> int:
        """Points learned so far, forgotten ones too."""
        return self._updates

    @property
    def load_spread(self) -> float:
        """Log of the largest over the smallest lane batch among the remembered points."""
        batches = [place[2] for _, _, _, place in self._memory]
        return float(max(batches) - min(batches)) if batches else 0.0

    @property
    def coverage_ratio(self) -> float | None:
        """Share of the points that lay within the 90 % interval predicted before each was learned; None before."""
        return self.inside / self.asked if self.asked else None

    def _score(self, point: ObservedPoint, lane_batch: float, terms: NDArray[np.float64]) -> None:
        error, deviation = self.calibration.step_error(point, lane_batch, terms)
        self.asked += 1
        self.inside += abs(error) <= _Z90 * deviation

    @property
    def calibration(self) -> Calibration:
        """What the points so far taught; worked out when first asked for."""
        if self._found is None:
            ages = np.array([self._updates - 1 - update for _, update, _, _ in self._memory], dtype=np.float64)
            self._found = Calibration(
                self.resolved,
                [point for point, _, _, _ in self._memory],
                self.prior,
                np.array([terms for _, _, terms, _ in self._memory]).reshape(-1, len(COEFFICIENTS)),
                np.array([place for _, _, _, place in self._memory]).reshape(-1, 3),
                # Capped, so that a point of long ago weighs nothing without making the sums inexact.
                np.minimum(self._forgetting ** (-ages / 2), 1e3),
            )
        return self._found


def calibrated(
    resolved: Resolved, points: Sequence[ObservedPoint], *, prior: StepCoefficients | None = None
) -> Calibration:
    """Return what ``points`` (a load test, say) teach about a deployment; nothing is forgotten, order is irrelevant.

    KV capacity plays no part, so a ``max_num_seqs`` that the test exceeded does no harm.

    Raises:
        InvalidInput: a point cannot be.
        DoesNotFit: the deployment cannot run at all.
    """
    roomy = replace(resolved, deployment=replace(resolved.deployment, max_num_seqs=10_000_000))
    learner = Calibrator(roomy, prior=prior, forgetting=1.0, max_points=max(len(points), 1))
    for point in points:
        learner.update(point, score=False)
    return learner.calibration
