"""Bad telemetry never takes replicas away: seeded faults in every input of a decision, forecasts by the last value."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from pipeline.alerts.rule_evaluation import RuleSet
from pipeline.config.settings import PoolSettings, load
from pipeline.engine.pool_advisor import PoolAdvisor
from pipeline.engine.types import Reading
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey, Signal
from pipeline.testing import closed_window
from pipeline.windows.fleet import CountedRequests, FleetReport, ReplicaCount
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.types import Reason, RecommendationState

KEY = PoolKey("m", "p")
RULES = RuleSet(())
START, GRAIN = 1_700_000_040, 60
POOL = PoolSettings(model="m", pool="p", profile="llama-3.1-8b", accelerator="H100", initial_replicas=8)
#: Chosen so that the need lies in the middle between two whole numbers of replicas.
REQUESTS = 12_600
RUNS, WINDOWS, WARM = 64, 20, 4
PAIRS = 96


class LastValue:
    """Forecasts that every horizon is as the last window was: the quickest to believe a wrong one."""

    def __init__(self, signal: Signal) -> None:
        self._series, self._rate = SeriesKey("m", "p", signal), 0.0

    def step(self, end: float, rate: float | None, *_: object) -> tuple[Forecast, ...]:
        self._rate = self._rate if rate is None else rate
        band = tuple(self._rate * (0.98 + 0.04 * level) for level in LEVELS)
        return tuple(Forecast(self._series, end, horizon, band) for horizon in (60, 300))


class LastValues:
    """All signals of a pool, each by its last value."""

    contexts = ()

    def __init__(self) -> None:
        self._signals = [LastValue(signal) for signal in Signal]

    def step(self, end: float, rates: Sequence[float | None], *_: object) -> tuple[tuple[Forecast, ...], ...]:
        return tuple(one.step(end, rate) for one, rate in zip(self._signals, rates, strict=True))

    def scores(self) -> tuple[()]:
        return ()


class NoOutlooks:
    outlooks = ((),) * len(Signal)

    def step(self, *_: object) -> bool:
        return False


class NoSpikes:
    def step(self, *_: object, **__: object) -> tuple[None, None, None]:
        return None, None, None


def advisor() -> PoolAdvisor:
    made = PoolAdvisor(KEY, POOL, load(), "hash")
    made._forecasters = LastValues()  # type: ignore[assignment]
    made._outlooks = NoOutlooks()  # type: ignore[assignment]
    made._spikes = NoSpikes()  # type: ignore[assignment]
    made._learned = 30
    return made


@cache
def fresh() -> bytes:
    return pickle.dumps(advisor())


@dataclass
class Fleet:
    """Follows the advice a window later; every replica serves its share and names itself."""

    replicas: int = 8
    reports_in_flight: bool = True
    names_servers: bool = True
    reports_late: bool = False  # the newest report is of after the end of the window
    counts: bool = False  # the fleet counts its requests, whatever becomes of events

    def window(self, index: int, count: int) -> ClosedWindow:
        end = START + GRAIN * (index + 1)
        at = end + 58.0 if self.reports_late else end - 5.0
        seen = ReplicaCount(at, self.replicas, self.replicas)
        running = round(count * 4.0 / GRAIN) if self.reports_in_flight else None
        counted = CountedRequests(count, round(0.75 * count), 45.0, idle=True) if self.counts else None
        return closed_window(
            end - GRAIN,
            count,
            current_replicas=self.replicas,
            ready_replicas=self.replicas,
            servers=self.replicas if self.names_servers else None,
            fleet=FleetReport(at, 0 if self.reports_in_flight else None, running, (seen,), counted),
            closed_after_seconds=63.0,
            preemptions=1,  # so that nothing is learned of the replicas: this is about the decisions
        )


def part_of(window: ClosedWindow, share: float) -> ClosedWindow:
    """The window without the events that did not come."""
    sums = {
        name: round(getattr(window, name) * share)
        for name in (
            "requests", "ok", "input_tokens", "cached_input_tokens", "output_tokens", "input_tokens_squared",
            "output_tokens_squared", "input_output_product", "kv_token_milliseconds", "inflight_milliseconds",
        )
    }  # fmt: skip
    return replace(window, **sums)


Fault = Callable[[ClosedWindow, np.random.Generator], ClosedWindow]


def missing(window: ClosedWindow, random: np.random.Generator) -> ClosedWindow:
    return replace(part_of(window, 0.0), servers=None)


def frozen(window: ClosedWindow, random: np.random.Generator) -> ClosedWindow:
    """Events do not come, and what reports of the fleet repeats what it saw last, or begins to count anew."""
    assert window.fleet is not None
    repeated = CountedRequests(0, 0, 45.0, idle=False)
    anew = CountedRequests(None, None, 45.0, idle=True)
    told = window.fleet._replace(counted=repeated if random.random() < 0.5 else anew)
    return replace(missing(window, random), fleet=told)


def late(window: ClosedWindow, random: np.random.Generator) -> ClosedWindow:
    """Half and more come after the window has closed, without the latencies having told so."""
    return part_of(window, random.uniform(0.05, 0.45))


def duplicated(window: ClosedWindow, random: np.random.Generator) -> ClosedWindow:
    return part_of(window, 2.0)


def zero(window: ClosedWindow, random: np.random.Generator) -> ClosedWindow:
    names = [["input_tokens", "input_tokens_squared", "cached_input_tokens"], ["output_tokens"], ["current_replicas"]]
    found = names[random.integers(3)]
    return replace(window, **dict.fromkeys(found, 0))


def not_a_number(window: ClosedWindow, random: np.random.Generator) -> ClosedWindow:
    name = ["completeness", "input_tokens", "kv_token_milliseconds", "inflight_milliseconds"][random.integers(4)]
    return replace(window, **{name: float("nan")})


def partial_silence(window: ClosedWindow, random: np.random.Generator) -> ClosedWindow:
    servers = window.ready_replicas or 8
    talking = int(random.integers(1, max(2, int(0.75 * servers))))
    told = None if window.servers is None else talking
    return replace(part_of(window, talking / servers), servers=told)


def clock_skew(window: ClosedWindow, random: np.random.Generator) -> ClosedWindow:
    """The clock of the fleet is wrong: its reports are of long ago, or still of the future and so not known."""
    old = FleetReport(START - 4_000.0, None, None, (ReplicaCount(START - 4_000.0, 2, 2),))
    return replace(window, current_replicas=None, ready_replicas=None, fleet=old if random.random() < 0.5 else None)


def restart(window: ClosedWindow, random: np.random.Generator) -> ClosedWindow:
    """Collectors restart again and again: windows are seen in part, or not at all."""
    return part_of(window, random.choice([0.0, 0.1, 0.4]))


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (missing, frozen, late, duplicated, zero, not_a_number, partial_silence, clock_skew, restart)
}


def readings(window: ClosedWindow) -> Iterator[tuple[int, Reading]]:
    """What the fleet of a window goes on to report until the next one, and at how many seconds after its end."""
    told = (window.current_replicas, window.ready_replicas)
    for after in (15, 30, 45):
        fleet = window.fleet
        if fleet is not None:
            counted = fleet.counted
            if counted is not None and counted.inside is not None:
                more = round(counted.inside / 45.0 * (60 + after))
                counted = counted._replace(
                    after=more, after_seconds=60.0 + after, newest=more, newest_seconds=60.0 + after
                )
            fleet = fleet._replace(reported_at=fleet.reported_at + after, counted=counted)
        yield after, Reading(KEY, fleet, *told)


def run(
    seed: int, fault: Fault | None, *, restarts: bool = False, revised: bool = False, **fleet: bool
) -> Iterator[tuple[int, bool]]:
    """Yield what is advised after each window of a steady demand, and whether it may be followed down.

    ``revised``: also what is advised between two windows.
    """
    random = np.random.default_rng([seed, 0])
    chance = np.random.default_rng([seed, 1])
    begins, lasts = int(chance.integers(WARM, 8)), int(chance.integers(1, 11))
    subject, serving = pickle.loads(fresh()), Fleet(**fleet)
    for index in range(WINDOWS):
        window = serving.window(index, int(random.poisson(REQUESTS)))
        if fault is not None and begins <= index < begins + lasts:
            window = fault(window, chance)
        if restarts and index % 3 == 0:
            subject = pickle.loads(pickle.dumps(subject))
        said = subject.step(window, RULES).recommendation
        assert said is not None
        serving.replicas = said.desired
        yield said.desired, said.state is RecommendationState.FRESH
        for after, reading in readings(window) if revised else ():
            raised = subject.revise(window.end + after, window.end, reading, window.end + after + 60.0)
            if raised is not None:
                assert raised.desired > serving.replicas
                serving.replicas = raised.desired
                yield raised.desired, raised.state is RecommendationState.FRESH


@pytest.mark.slow
@pytest.mark.parametrize("revised", [False, True])
@pytest.mark.parametrize("name", [*FAULTS, "nothing"])
def test_no_fault_takes_replicas_away(name: str, revised: bool) -> None:
    fault = FAULTS.get(name)
    lowest = 8
    assert min(desired for desired, _ in run(0, None)) == lowest, "the demand is steady"
    for seed in range((RUNS // 4 if revised else RUNS) if fault else 3):
        # Late events look like fewer requests, unless servers or the requests in flight tell what is missing.
        sources = {"reports_in_flight": name in ("late", "restart") or seed % 2 == 0, "names_servers": seed % 4 < 3}
        sources["reports_late"] = seed % 8 >= 4
        sources["counts"] = seed % 3 < 2 or name == "frozen"
        if name == "partial_silence" and not sources["reports_in_flight"]:
            sources["names_servers"] = True
        told = list(run(seed, fault, revised=revised, **sources))
        assert min(desired for desired, _ in told) >= lowest, (name, seed, told)
        assert all(after >= before for (before, _), (after, fresh) in pairwise(told) if not fresh), (name, seed, told)
        if seed % 16 == 0:
            assert told == list(run(seed, fault, restarts=True, revised=revised, **sources))


@pytest.mark.slow
def test_no_two_faults_at_once_take_replicas_away() -> None:
    for seed in range(PAIRS):
        random = np.random.default_rng([seed, 2])
        # What others read of a window must still be there.
        names = sorted(
            random.choice(list(FAULTS), 2, replace=False),
            key=lambda name: {"clock_skew": 1, "not_a_number": 2}.get(name, 0),
        )
        first, second = (FAULTS[name] for name in names)
        begins = random.integers(0, 6, 2)
        count = 0

        def both(window: ClosedWindow, chance: np.random.Generator) -> ClosedWindow:
            nonlocal count
            count += 1
            for fault, begin in zip((first, second), begins, strict=True):  # noqa: B023  called before the next seed
                window = fault(window, chance) if count > begin else window
            return window

        counts, named = "frozen" in names or seed % 2 == 0, "partial_silence" in names or seed % 4 < 3
        told = list(run(seed, both, reports_late=seed % 8 >= 4, counts=counts, names_servers=named))
        assert min(desired for desired, _ in told) >= 8, (names, seed, told)
        assert all(after >= before for (before, _), (after, fresh) in pairwise(told) if not fresh), (names, seed, told)


def test_reports_that_are_gone_hold_the_advice() -> None:
    """A fleet that has reported and does not any more is not one that never has: nothing tells late events then."""

    def gone(window: ClosedWindow, _: np.random.Generator) -> ClosedWindow:
        return replace(part_of(window, 0.3), current_replicas=None, ready_replicas=None, fleet=None)

    told = list(run(3, gone))
    assert min(desired for desired, _ in told) >= 8, told
    assert [fresh for _, fresh in told].count(False) >= 2, "one for the first window, and those without reports"


@pytest.mark.parametrize("names_servers", [True, False])
def test_a_gap_is_raised_by_what_the_fleet_counts(names_servers: bool) -> None:
    """Collectors lose every event while demand doubles."""
    subject, serving = pickle.loads(fresh()), Fleet(counts=True, names_servers=names_servers, reports_late=True)
    before = [subject.step(serving.window(index, REQUESTS), RULES).recommendation for index in range(WARM)]
    assert before[-1] is not None
    crowd = serving.window(WARM, 2 * REQUESTS)
    said = subject.step(replace(part_of(crowd, 0.0), servers=None), RULES).recommendation
    assert said is not None
    assert (said.state, said.reason) == (RecommendationState.DEGRADED, Reason.OBSERVED_UP)
    assert said.desired >= 1.5 * before[-1].desired
    assert said.evidence["observed_requests_per_second"] == pytest.approx(2 * REQUESTS / GRAIN, rel=0.01)


@pytest.mark.parametrize("names_servers", [True, False])
def test_silence_that_the_fleet_has_counted_does(names_servers: bool) -> None:
    def silence(window: ClosedWindow, _: np.random.Generator) -> ClosedWindow:
        assert window.fleet is not None
        none = CountedRequests(0, 0, 45.0, idle=True)
        servers = None if window.servers is None else 0
        told = window.fleet._replace(counted=none, running_requests=0)
        return replace(part_of(window, 0.0), fleet=told, servers=servers)

    told = list(run(2, silence, counts=True, names_servers=names_servers))  # ten silent windows
    assert min(desired for desired, _ in told) < 8, told
    assert all(fresh for _, fresh in told[1:]), told
    assert min(desired for desired, _ in run(2, silence, names_servers=names_servers)) == 8, "nothing is counted"
