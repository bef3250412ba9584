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
from array import array
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sizing.calibration.intervals import OWN_STEP_90
from sizing.calibration.measurement import COEFFICIENTS, ObservedPoint, StepTerms, check_point, implied_lane_batch
from sizing.calibration.packed_points import PackedPoints
from sizing.calibration.posterior import Calibration, Correction, Prediction, place
from sizing.errors import InvalidInput
from sizing.replica.memory import Resolved, require_fit
from sizing.replica.step_time import StepCoefficients

__all__ = ["REFRESH_EVERY", "Calibration", "Calibrator", "Correction", "calibrated"]

#: New points are compared with a posterior that lacks at most so many of the points before them. The first so many are
#: all in it, and so is a point that lay farther than ``_NEWS_SDS`` from it: only what repeats what is known can wait.
REFRESH_EVERY, _NEWS_SDS = 10, 2.0


class Calibrator:
    """Learns one deployment online: ``update`` with every window that has a load and latencies, ask ``calibration``.

    ``forgetting`` in (0, 1]: each update multiplies the weight of earlier points by it. At most ``max_points`` are
    remembered: a new one takes the place of the nearest older one once its memory is full, so loads seen long ago are
    not pushed out by what repeats.

    Raises:
        InvalidInput: forgetting or the number of points is out of range.
    """

    def __init__(
        self,
        resolved: Resolved,
        *,
        prior: StepCoefficients | None = None,
        forgetting: float = 0.995,
        max_points: int = 48,
        entry_ratio: float = 1.0,
    ) -> None:
        if not 0 < forgetting <= 1 or max_points < 1:
            raise InvalidInput(
                f"forgetting must be in (0, 1] and max_points at least 1, not {forgetting!r} and {max_points!r}"
            )
        self.resolved = resolved
        self.prior = prior or StepCoefficients()
        self._forgetting = forgetting
        self._max_points = max_points
        self._entry_ratio = entry_ratio
        self._updates = 0
        self._step_terms = StepTerms(resolved, self.prior)
        # Of every remembered point: itself, the number of its update, what an earlier posterior predicted for it, its
        # terms and its place.
        self._points = PackedPoints()
        self._updated = array("q")
        self._predictions: list[Prediction | None] = []
        self._terms = np.zeros((0, len(COEFFICIENTS)))
        self._places = np.zeros((0, 3))
        #: Points that were predicted before they were learned, and how many of them lay within the 90 % interval.
        self.asked = 0
        self.inside = 0
        self._found: Calibration | None = None
        #: Points that ``_found`` lacks, and whether one of them was news to it.
        self._missing = 0
        self._news = False

    def update(self, point: ObservedPoint, *, score: bool = True) -> None:
        """Learn one point; with ``score`` it is predicted first, for ``coverage_ratio``.

        Raises:
            InvalidInput: a number of the point is not positive and finite.
            DoesNotFit: the deployment cannot run it.
        """
        check_point(point)
        batch = implied_lane_batch(self.resolved, point, self.prior)
        workload = point.workload
        terms, where = self._step_terms.at(workload, batch), place(workload, batch)
        if score and self._points:
            self._score(point, terms, where)
        if len(self._points) < self._max_points:
            self._terms = np.concatenate((self._terms, [terms]))
            self._places = np.concatenate((self._places, where[None, :]))
        else:
            apart = self._places - where
            nearest = int(np.argmin(np.einsum("ij,ij->i", apart, apart)))
            self._points.remove(nearest)
            del self._updated[nearest], self._predictions[nearest]
            for rows, row in ((self._terms, terms), (self._places, where)):
                rows[nearest:-1] = rows[nearest + 1 :]
                rows[-1] = row
        self._points.append(point)
        self._updated.append(self._updates)
        self._predictions.append(None)
        self._updates += 1
        self._missing += 1

    def surprise(self, point: ObservedPoint) -> tuple[float, float | None]:
        """Return how far a point lies from ``recent``, as ``Calibration.surprise``; learns nothing.

        Raises:
            InvalidInput: a number of the point is not positive and finite.
            DoesNotFit: the deployment cannot run it.
        """
        check_point(point)
        return self.recent.surprise(point)

    def is_near(self, point: ObservedPoint) -> bool:
        """Return whether a point lies near one of ``recent``: each length and the batch within about a factor of 2.

        Raises:
            InvalidInput: a number of the point is not positive and finite.
            DoesNotFit: the deployment cannot run it.
        """
        check_point(point)
        return self.recent.at(point.workload, implied_lane_batch(self.resolved, point, self.prior)).near

    @property
    def updates(self) -> int:
        """Points learned so far, forgotten ones too."""
        return self._updates

    @property
    def load_spread(self) -> float:
        """Log of the largest over the smallest lane batch among the remembered points."""
        return float(np.ptp(self._places[:, 2])) if self._points else 0.0

    @property
    def coverage_ratio(self) -> float | None:
        """Share of the points that lay within the 90 % interval predicted before each was learned; None before."""
        return self.inside / self.asked if self.asked else None

    def _score(self, point: ObservedPoint, terms: Sequence[float], where: NDArray[np.float64]) -> None:
        error, deviation = self.recent.step_error(point, terms, where)
        self.asked += 1
        self.inside += abs(error) <= OWN_STEP_90 * deviation
        self._news = self._news or abs(error) > _NEWS_SDS * deviation

    @property
    def recent(self) -> Calibration:
        """What the points so far taught, but for the newest few where these repeated it (``REFRESH_EVERY``)."""
        if self._found is None or (
            self._missing and (self._news or self._missing >= REFRESH_EVERY or self._updates <= REFRESH_EVERY)
        ):
            return self.calibration
        return self._found

    @property
    def calibration(self) -> Calibration:
        """What the points so far taught; worked out when first asked for."""
        if self._found is None or self._missing:
            ages = np.array([self._updates - 1 - update for update in self._updated], dtype=np.float64)
            self._found = Calibration(
                self.resolved,
                self._points,
                self.prior,
                self._step_terms,
                self._terms,
                self._places.copy(),
                # Capped, so that a point of long ago weighs nothing without making the sums inexact.
                np.minimum(self._forgetting ** (-ages / 2), 1e3),
                self._predictions,
                self._entry_ratio,
            )
            self._predictions = list(self._found.predictions)
            self._missing, self._news = 0, False
        return self._found


def calibrated(
    resolved: Resolved, points: Sequence[ObservedPoint], *, prior: StepCoefficients | None = None
) -> Calibration:
    """Return what ``points`` (a load test, say) teach about a deployment; nothing is forgotten, order is irrelevant.

    A ``max_num_seqs`` that the test exceeded does no harm. Where the points contradict
    the catalogue's entry (``Calibration.contradicts_entry``), all coefficients are scaled towards them first, so that
    what is learned keeps the shape of the physics over the load.

    Raises:
        InvalidInput: a number of a point is not positive and finite.
        DoesNotFit: the deployment cannot run at all.
    """
    # Places cost memory in the sampling step: the KV cache stays that of the places that there are.
    kv_tokens = max(math.floor(require_fit(resolved).kv_tokens), 1)
    deployment = replace(resolved.deployment, max_num_seqs=10_000_000, observed_kv_tokens=kv_tokens)
    roomy = replace(resolved, deployment=deployment)
    prior = prior or StepCoefficients()

    def learned(prior: StepCoefficients, entry_ratio: float) -> Calibration:
        most = max(len(points), 1)
        learner = Calibrator(roomy, prior=prior, forgetting=1.0, max_points=most, entry_ratio=entry_ratio)
        for point in points:
            learner.update(point, score=False)
        return learner.calibration

    found = learned(prior, 1.0)
    if not found.contradicts_entry:
        return found
    ratio = found.entry_ratio
    return learned(replace(prior, **{name: getattr(prior, name) * ratio for name in COEFFICIENTS}), ratio)
