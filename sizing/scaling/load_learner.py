"""Learns from telemetry what one replica carries, and tells the planner once it is to be believed."""

from __future__ import annotations

from dataclasses import replace

from sizing.calibration.calibrator import Calibration, Calibrator
from sizing.calibration.global_fit import Learned
from sizing.calibration.measurement import ObservedLoad, ObservedPoint, point_of_load
from sizing.errors import SizingError
from sizing.planning.plan import Planner
from sizing.replica.step_time import StepCoefficients

__all__ = ["LoadLearner"]

#: What was learned is planned with from so many loads on, as many as make an odd one believed, and taken over every so
#: many, so that advice does not tremble. Loads need not differ: what one shows moves all terms together, and the prior
#: and the error of what was learned say how far (benchmarks/sizing/results.md has them by the number of points).
_TRUSTED_LOADS, _TAKE_OVER_EVERY = 5, 10
#: A load so many standard deviations from what is predicted is believed when it lasts for so many windows: one odd
#: window (a stalled collector, a clock, a unit) must not move a fleet, a real change is learned within minutes.
_ODD_SDS, _ODD_LOADS = 4.0, 5


class LoadLearner:
    """Calibrates one planner with what windows say about a replica. Pickles, and continues identically afterwards."""

    def __init__(self, planner: Planner, coefficients: StepCoefficients | None) -> None:
        self._planner = planner
        self._learner = Calibrator(planner.resolved, prior=coefficients)
        self._calibration: Calibration | None = None
        # How many loads in a row were odd in their time per output token, and to first token.
        self._odd_steps = 0
        self._odd_firsts = 0

    @property
    def learned_prior(self) -> Learned:
        """``learned`` of the coefficients that learning began with."""
        return self._learner.prior.learned

    def learn(self, load: ObservedLoad) -> bool:
        """Learn what one window of telemetry says about a replica; return whether it taught anything.

        After enough loads, plans are made with what was learned. Impossible loads teach nothing.
        """
        try:
            replica = self._calibration.replica(load.workload) if self._calibration else None
            coefficients = self._calibration.coefficients if self._calibration else self._learner.prior
            point = point_of_load(self._learner.resolved, load, coefficients, replica)
            if point is None:
                return False
            believed = self._believed(point)
            if believed is None:
                return False
            self._learner.update(believed)
        except SizingError:
            return False
        updates = self._learner.updates
        if updates == _TRUSTED_LOADS or updates % _TAKE_OVER_EVERY == 0:
            self._calibration = self._learner.calibration
            self._planner.calibrate(self._calibration)
        return True

    def _believed(self, point: ObservedPoint) -> ObservedPoint | None:
        """Return what of a point may be learned: nothing, or no time to first token, while these are odd."""
        step, first = self._learner.surprise(point)
        self._odd_steps = self._odd_steps + 1 if abs(step) > _ODD_SDS else 0
        if 0 < self._odd_steps < _ODD_LOADS:
            return None
        if first is None:
            return point
        self._odd_firsts = self._odd_firsts + 1 if abs(first) > _ODD_SDS else 0
        return replace(point, ttft_seconds=None) if 0 < self._odd_firsts < _ODD_LOADS else point

    def evidence(self) -> dict[str, float]:
        """What a recommendation says about what was learned; nothing before the first load."""
        if not self._learner.updates:
            return {}
        evidence = {"calibration_loads": float(self._learner.updates)}
        if self._learner.coverage_ratio is not None:
            evidence["interval_coverage_ratio"] = self._learner.coverage_ratio
        return evidence
