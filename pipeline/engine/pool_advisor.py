"""Advice for one pool: its forecasters, what its requests look like, its spikes, its controller."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.alerts.episodes import Episode
from pipeline.alerts.feedback import AlertFeedback
from pipeline.alerts.rule import PoolFacts
from pipeline.alerts.rule_evaluation import RuleSet
from pipeline.alerts.spike_alerts import SpikeAlerts
from pipeline.config.settings import PoolSettings, Settings
from pipeline.engine.advice_scores import AdviceScores
from pipeline.engine.decisions.announced import announced_at, at_least_forecast
from pipeline.engine.decisions.decision_experts import Asking
from pipeline.engine.decisions.pool_decisions import PoolDecisions, provision
from pipeline.engine.decisions.together import Stepping, step_together
from pipeline.engine.demand_ahead import Ahead, demand_ahead
from pipeline.engine.in_flight import InFlight, LiveDemand
from pipeline.engine.input_health import MISSING, InputHealth, Judgement
from pipeline.engine.lead_time import LeadTime, lead_time
from pipeline.engine.live_demand import counted_demand, live_rate
from pipeline.engine.load_samples import LoadObserver
from pipeline.engine.pool_outcome import PoolOutcome
from pipeline.engine.replica_use import ReplicaUseRecord
from pipeline.engine.revision import Basis, newer_inputs
from pipeline.engine.slo_record import SloRecord
from pipeline.engine.start_ups import StartUps
from pipeline.engine.telemetry_gaps import GapGuard
from pipeline.engine.tenants import PoolTenants
from pipeline.engine.types import Reading
from pipeline.engine.workload_moments import ArrivalDispersion, LengthMoments
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.exogenous.known import NOTHING, KnownExogenous
from pipeline.forecast.experts.registry import expert_factory
from pipeline.forecast.outlook import OutlookForecaster
from pipeline.forecast.rates import signal_rates
from pipeline.forecast.series import GroupMember
from pipeline.forecast.series_group import SeriesGroup
from pipeline.forecast.types import LEVELS, Forecast, Score, SeriesKey, Signal
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.catalog import Catalog
from sizing.scaling.controller import ReplicaController
from sizing.scaling.situation import Situation
from sizing.types import Demand, Provision, Recommendation

__all__ = ["PoolAdvisor"]

#: Windows learned before the forecasters' bands mean anything.
_WARM_WINDOWS = 30
#: Windows learned before advice is lowered: competing rules need no bands, but a slow fleet must have been calibrated.
_ADVISED_WINDOWS = 20
_SIGNALS = tuple(Signal)
_REQUESTS = _SIGNALS.index(Signal.REQUESTS)
#: The evidence that holds what a replica serves at most.
_SATURATION = "saturation_requests_per_second_per_replica"
#: Hourly outlooks appear within this long after the hour.
_OUTLOOK_SPREAD_SECONDS = 900.0


class PoolAdvisor:
    """State of one pool. Pickles, and continues identically afterwards."""

    def __init__(
        self,
        key: PoolKey,
        configured: PoolSettings | None,
        settings: Settings,
        config_hash: str,
        catalog: Catalog | None = None,
    ) -> None:
        forecast = settings.forecast
        grain = settings.windows.grain_seconds
        self.key = key
        self._forecasters = SeriesGroup(
            [SeriesKey(key.model, key.pool, signal) for signal in _SIGNALS],
            horizons_seconds=forecast.horizons_seconds,
            grain_seconds=grain,
            season_seconds=forecast.season_seconds,
            experts=expert_factory(forecast.experts),
            suspect_silence=False,  # the gap guard judges, by the count of requests
            signal_count=len(forecast.signals),
        )
        # By tenant the request rate has forecasters beside the total's.
        self._requests = GroupMember(self._forecasters, _REQUESTS)
        self._tenants = PoolTenants(key, settings, self._requests) if PoolTenants.wanted(settings) else None
        # Pools learn their hours at different minutes, so that no step has to do the work of all.
        delay = grain * (zlib.crc32("|".join(key).encode()) % max(1, int(_OUTLOOK_SPREAD_SECONDS // grain)))
        self._outlooks = OutlookForecaster([SeriesKey(key.model, key.pool, signal) for signal in Signal], delay)
        self._gaps = GapGuard(settings.advise.gap_min_expected_requests, settings.advise.gap_accept_seconds)
        self._lengths = LengthMoments()
        self._loads = LoadObserver()
        self._health = InputHealth(settings.advise.gap_accept_seconds)
        self._start_ups = StartUps()
        self._in_flight = InFlight()
        self._saturation = 0.0  # requests/s of one replica, by the newest plan
        self._served = SloRecord()
        self._advice = AdviceScores(key)
        self._use = ReplicaUseRecord(key)
        self._desired = None if configured is None else configured.initial_replicas
        self._dispersion = ArrivalDispersion()
        self._spikes = SpikeAlerts(
            key, settings.advise.false_alerts_per_day, settings.advise.forecast_alert_probability, grain
        )
        self._episodes: dict[str, Episode] = {}  # by alert rule
        self._controller: ReplicaController | None = None
        self._configured = configured
        if configured is not None:
            self._controller = ReplicaController(
                key.model,
                key.pool,
                configured.deployment(),
                configured.slo(),
                configured.policy(),
                config_hash=config_hash,
                catalog=catalog,
                initial_replicas=configured.initial_replicas,
            )
        self._learned = 0
        self._asked: tuple[Asking | None, bool] = None, False  # in the newest step; whether an announced event acts
        self._basis: Basis | None = None
        self._decisions: PoolDecisions | None = None
        if configured is not None and configured.decision_rules:
            season_steps = round(forecast.season_seconds / grain)
            level = configured.policy().demand_quantile
            self._decisions = PoolDecisions(configured.decision_rules, season_steps, level)

    def share(self, configured: PoolSettings | None) -> None:
        """Hold these settings in place of equal ones, which came with a state that was read."""
        if self._configured == configured:
            self._configured = configured

    def misses(self, window: ClosedWindow) -> bool:
        """Whether the telemetry of a window is missing; ``step`` comes to the same."""
        return self._gaps.would_be_gap(window)

    def mark(self, mark: AlertFeedback) -> None:
        """Take what an operator says of an alert of this pool."""
        self._spikes.mark(mark.raised_at, mark.verdict)

    def step(
        self,
        window: ClosedWindow,
        rules: RuleSet,
        calendar: Sequence[CalendarRecord] = (),
        known: KnownExogenous | None = None,
    ) -> PoolOutcome:
        """Learn one closed window and say what follows; the same as ``stepping`` alone."""
        return step_together([self.stepping(window, rules, calendar, known)])[0]

    def stepping(
        self,
        window: ClosedWindow,
        rules: RuleSet,
        calendar: Sequence[CalendarRecord] = (),
        known: KnownExogenous | None = None,
    ) -> Stepping[PoolOutcome]:
        """Learn one closed window and say what follows, side by side with other pools (``step_together``).

        ``rules`` are the alert rules in force, ``calendar`` the announced events near the window, ``known`` what is
        known from outside at its end.
        """
        gap = self._gaps.is_gap(window)
        if window.gap != gap:
            window = replace(window, gap=gap)
        told, live = window, self._in_flight.learn(window)
        window = live.window
        judged = self._health.judge(
            window,
            self._desired,
            live.before,
            silent=self._gaps.silent,
            counted=live.counted.in_window,
            reported_at=self._start_ups.reported_at,
        )
        counted: dict[str, float | None] = signal_rates(window)
        rates = counted if judged.learnable else dict.fromkeys(counted)
        issued = self._issue(window, rates, calendar, known)
        if self._decisions is not None:
            yield self._decisions.learning(window, rates)
        self._outlooks.step(float(window.end), [rates[signal] for signal in _SIGNALS], float(window.grain_seconds))
        if judged.learnable:
            self._learned += 1
            self._lengths.learn(window)
        load = self._loads.load(window) if judged.learnable or gap else None
        if load is not None and self._controller is not None:
            self._controller.observe(load)
        self._dispersion.learn(float(window.requests) if judged.learnable else None)
        live_rates, rate = counted, counted[Signal.REQUESTS]
        now = live_rate(rate, live, window, self._saturation)
        if rate and now is not None and judged.learnable:
            live_rates = {signal: None if value is None else value * now / rate for signal, value in live_rates.items()}
        observed_rates = live_rates if judged.learnable else {}
        recommendation = yield from self._recommend(window, issued, now, judged, observed_rates, calendar, live)
        self._advice.step(window, rates, recommendation)
        self._use.step(window, recommendation)
        replicas, warm = window.current_replicas, self._learned >= _WARM_WINDOWS
        observed, ahead, drop = self._spikes.step(window, rates, issued, recommendation, replicas, calendar, warm=warm)
        missing = tuple(text for name, text in judged.problems.items() if name in MISSING)
        configured = self._configured is not None
        facts = PoolFacts(window, rates, issued, recommendation, calendar, configured, observed, ahead, missing, drop)
        alerts = rules.step(self.key, self._episodes, facts)
        return PoolOutcome(
            window=told,
            forecasts=tuple(f for per_signal in issued.values() for f in per_signal),
            scores=self._scores(),
            recommendation=recommendation,
            alerts=alerts,
            outlooks=tuple(outlook for of_signal in self._outlooks.outlooks for outlook in of_signal),
            tenants=self._tenants.told if self._tenants is not None else (),
            scorecards=self._advice.scorecards(window.end),
            uses=self._use.told(window.end),
        )

    def revise(self, as_of: int, after: int | None, reading: Reading, until: float) -> Recommendation | None:
        """Return advice at ``as_of``, between two windows, if what the fleet has reported by ``until`` raises it.

        ``after`` is the step before, None: there was none. While advice stays nothing changes, and nothing is learned.
        """
        pool, controller, basis = self._configured, self._controller, self._basis
        if pool is None or controller is None or (None if basis is None else basis.end) != after:
            return None
        newer = newer_inputs(reading, basis, as_of, until, pool, self._start_ups, controller.queue, self._desired)
        if newer is None:
            return None
        demand, situation, counted, full = newer
        said = controller.revise(
            float(as_of), demand, reading.current_replicas, situation=situation, counted=counted, saturated=full
        )
        if said is not None:
            self._desired = said.desired
            self._advice.revised(said)
        return said

    def _issue(
        self,
        window: ClosedWindow,
        rates: Mapping[str, float | None],
        calendar: Sequence[CalendarRecord],
        known: KnownExogenous | None,
    ) -> dict[Signal, tuple[Forecast, ...]]:
        """Forecasts by signal, in the order of ``Signal``."""
        values = [rates[signal] for signal in _SIGNALS]
        exogenous = () if known is None else [known.of(series) for series in self._forecasters.series]
        end = float(window.end)
        if self._tenants is None:
            return dict(zip(_SIGNALS, self._forecasters.step(end, values, calendar, exogenous), strict=True))
        self._requests.expect(values, exogenous)
        of_total = exogenous[_REQUESTS] if exogenous else NOTHING
        total = self._tenants.step(window, values[_REQUESTS], calendar, of_total)
        return dict(zip(_SIGNALS, self._requests.told, strict=True)) | {Signal.REQUESTS: total}

    def _scores(self) -> tuple[Score, ...]:
        """How good the matured forecasts have been, by signal and horizon."""
        scores = self._forecasters.scores()
        if self._tenants is None:
            return scores
        of_total, after = self._tenants.scores(), (_REQUESTS + 1) * len(self._forecasters.horizons_seconds)
        return (*scores[: after - len(of_total)], *of_total, *scores[after:])

    def _recommend(
        self,
        window: ClosedWindow,
        issued: dict[Signal, tuple[Forecast, ...]],
        rate: float | None,
        judged: Judgement,
        observed: Mapping[str, float | None],
        calendar: Sequence[CalendarRecord],
        live: LiveDemand,
    ) -> Stepping[Recommendation | None]:
        self._basis = None
        if self._controller is None or self._configured is None:
            return None
        self._start_ups.learn(window)
        self._served.learn(window)
        self._dispersion.missed = self._served.shortfall(window.end, self._configured.slo_percentile)
        problems, gap = judged.problems, window.gap
        # A report that contradicts what was served says nothing about the replicas.
        current = None if "replica_reports" in problems else window.current_replicas
        if not judged.whole and not self._controller.knows_replicas(current):
            return None  # nothing is known that could be held
        pool = self._configured
        lead = lead_time(
            self._start_ups, window, pool.lead_time_seconds, pool.lead_time_floor_seconds or pool.lead_time_seconds
        )
        fleet = window.fleet if window.current_replicas is not None else None
        start_up = pool.lead_time_seconds if lead.start_up_seconds is None else lead.start_up_seconds
        if gap:
            lengths, index = self._lengths.workload(), self._dispersion.index()
            demand = counted_demand(window, live.counted, lengths, index, lead.seconds)
        else:
            demand = yield from self._demand(issued, rate, lead, window, observed, calendar)
        situation = Situation(
            problems=tuple(problems.values()),
            whole=judged.whole,
            ready=window.ready_replicas,
            queued_requests=None if fleet is None else fleet.queued_requests,
            starting_seconds=() if fleet is None else self._start_ups.starting_seconds(start_up),
            start_up_seconds=start_up,
            newest_requests_per_second=live.counted.newest_per_second,
            interval_ratio=self._advice.interval.ratio,
            window_seconds=float(window.grain_seconds),
            known_after_seconds=live.known_after_seconds,
            evidence=self._evidence(lead, window, problems),
        )
        warm = self._learned >= _ADVISED_WINDOWS
        said = self._controller.decide(float(window.end), demand, current, gap=gap, warm=warm, situation=situation)
        if "replica_reports" not in problems:
            asking, announced = (None, False) if gap else self._asked
            counts = self._in_flight.counting.agrees
            self._basis = Basis(window.end, demand, situation, asking, announced, window.fleet, counts)
        self._desired = said.desired
        self._saturation = said.evidence.get(_SATURATION, self._saturation)
        return said

    def _evidence(self, lead: LeadTime, window: ClosedWindow, problems: Collection[str]) -> dict[str, float]:
        attained = self._served.attainment(window.end)
        return (
            lead.evidence()
            | self._advice.interval.evidence()
            | {f"input_problem_{name}": 1.0 for name in problems}
            | {f"slo_attainment_{span}_ratio": share for span, share in attained.items()}
        )

    def _demand(
        self,
        issued: dict[Signal, tuple[Forecast, ...]],
        rate: float | None,
        lead: LeadTime,
        window: ClosedWindow,
        observed: Mapping[str, float | None],
        calendar: Sequence[CalendarRecord],
    ) -> Stepping[Demand | None]:
        """The peak of the demand from when a replica ordered now serves until one of the next decision does.

        ``observed`` is what is live of each signal; nothing: the window may not be learned from.
        """
        workload = self._lengths.workload()
        if workload is None or not issued[Signal.REQUESTS]:
            return None
        ahead = {
            signal: demand_ahead(
                issued[signal],
                outlooks,
                float(window.end),
                lead.seconds,
                lead.seconds + window.grain_seconds,
            )
            for signal, outlooks in zip(_SIGNALS, self._outlooks.outlooks, strict=True)
        }
        requests = ahead[Signal.REQUESTS]
        provisioned = yield from self._provision(window, lead, observed, ahead, calendar)
        return Demand(
            levels=LEVELS,
            requests_per_second=requests.quantiles,
            prefill_tokens_per_second=ahead[Signal.PREFILL_TOKENS].quantiles,
            decode_tokens_per_second=ahead[Signal.DECODE_TOKENS].quantiles,
            kv_tokens=ahead[Signal.KV_TOKENS].quantiles,
            workload=workload,
            horizon_seconds=lead.seconds,
            observed_requests_per_second=rate,
            dispersion=self._dispersion.index(),
            note=requests.note(lead.seconds),
            provision=provisioned,
        )

    def _provision(
        self,
        window: ClosedWindow,
        lead: LeadTime,
        observed: Mapping[str, float | None],
        ahead: Mapping[Signal, Ahead],
        calendar: Sequence[CalendarRecord],
    ) -> Stepping[Provision | None]:
        """What the rules that have cost least say; None where they may not, or cannot, say anything."""
        if self._decisions is None or self._configured is None:
            return None
        quantiles = {signal: found.quantiles for signal, found in ahead.items()}
        asking = self._decisions.asking(
            window,
            lead.seconds,
            observed,
            quantiles,
            {
                signal: context
                for signal, context in zip(_SIGNALS, self._forecasters.contexts, strict=False)
                if signal is not Signal.REQUESTS or self._tenants is None  # else the tenants have it
            },
            self._learned,
        )
        self._asked = asking, announced_at(calendar, self.key, window.end + lead.seconds)
        said = None
        if asking is not None:
            said = provision((yield asking))
        if self._asked[1]:
            return at_least_forecast(said, quantiles, self._configured.policy().demand_quantile)
        return said
