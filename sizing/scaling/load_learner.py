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

#: What was learned is planned with from so many loads on, as many as make an odd one believed; the first so many are
#: taken over one by one, later ones so many at a time, so that advice does not tremble. Loads need not differ: what one
#: shows moves all terms together, and the prior and the error of what was learned say how far
#: (benchmarks/sizing/results.md has them by the number of points).
_TRUSTED_LOADS, _TAKE_OVER_EVERY = 5, 10
#: A load that lies no farther than this from what one near it made expected confirms it: then fewer are enough. In
#: simulated fleets 1.4 and 1.6 times slower than the prior, loads from the second on lie within 0.4. Under bursts of
#: seconds, where the rate of a window says little of the batch, they lie up to 3.9 off (benchmarks/decisions: llm-d
#: ramp, Azure 2023 conversation, Mooncake, and Azure 2023 code; 2026-12-01).
_CONFIRMED_SDS = 0.5
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
        self._trusted = False  # whether plans are made with what was learned

    @property
    def learned_prior(self) -> Learned:
        """``learned`` of the coefficients that learning began with."""
        return self._learner.prior.learned

    def learn(self, load: ObservedLoad) -> bool:
        """Learn what one window of telemetry says about a replica; return whether it taught anything.

        Plans are made with what was learned once a load confirmed what one near it taught, or after enough loads.
        Impossible loads teach nothing.
        """
        try:
            replica = self._calibration.replica(load.workload) if self._calibration else None
            coefficients = self._calibration.coefficients if self._calibration else self._learner.prior
            point = point_of_load(self._learner.resolved, load, coefficients, replica)
            if point is None:
                return False
            step, first = self._learner.surprise(point)
            believed = self._believed(point, step, first)
            if believed is None:
                return False
            confirms = not self._trusted and self._confirms(point, step)
            self._learner.update(believed)
        except SizingError:
            return False
        updates = self._learner.updates
        self._trusted = self._trusted or confirms or updates >= _TRUSTED_LOADS
        if self._trusted and (updates <= _TAKE_OVER_EVERY or updates % _TAKE_OVER_EVERY == 0):
            self._calibration = self._learner.calibration
            self._planner.calibrate(self._calibration)
        return True

    def _believed(self, point: ObservedPoint, step: float, first: float | None) -> ObservedPoint | None:
        """Return what of a point may be learned: nothing, or no time to first token, while these are odd.

        ``step`` and ``first`` are its surprises, in standard deviations (``Calibrator.surprise``).
        """
        self._odd_steps = self._odd_steps + 1 if abs(step) > _ODD_SDS else 0
        if 0 < self._odd_steps < _ODD_LOADS:
            return None
        if first is None:
            return point
        self._odd_firsts = self._odd_firsts + 1 if abs(first) > _ODD_SDS else 0
        return replace(point, ttft_seconds=None) if 0 < self._odd_firsts < _ODD_LOADS else point

    def _confirms(self, point: ObservedPoint, step: float) -> bool:
        """Whether a point lies where one near it made it expected, after none that lay outside its interval."""
        expected = abs(step) <= _CONFIRMED_SDS and self._learner.inside == self._learner.asked
        return expected and self._learner.is_near(point)

    def evidence(self) -> dict[str, float]:
        """What a recommendation says about what was learned; nothing before the first load."""
        if not self._learner.updates:
            return {}
        evidence = {"calibration_loads": float(self._learner.updates)}
        if self._learner.coverage_ratio is not None:
            evidence["interval_coverage_ratio"] = self._learner.coverage_ratio
        return evidence
