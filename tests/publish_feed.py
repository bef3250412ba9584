"""A synthetic fleet for the tests of pipeline.publish: a LiveState fed minute by minute, and a reader beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

from msgspec import structs

from pipeline.alerts.types import Alert, AlertKind
from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings
from pipeline.engine.advice_scores import SCORE_SPANS
from pipeline.engine.slo_record import SPANS
from pipeline.engine.types import Scorecard, StepOutput, TenantDemand
from pipeline.forecast.types import LEVELS, Forecast, Score, SeriesKey, Signal
from pipeline.publish.health import PipelineHealth
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.testing import closed_window
from pipeline.windows.fleet import FleetReport
from pipeline.windows.service import Quantiles, Service, ServiceCounts
from pipeline.windows.types import REST, Breakdown, ClosedWindow, Part, PoolKey
from pipeline.windows.unknown_models import UnknownDemand, UnknownModel
from sizing.types import Confidence, Constraint, Counterfactual, Reason, Recommendation, RecommendationState
from tests.money_feed import PRICE, uses

START = 1_700_000_000 // 60 * 60
HORIZONS = (60, 300, 900, 1800, 3600)
Z = dict(zip(LEVELS, (-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326), strict=True))
PER_REPLICA = 3.0
POOLS = (
    PoolSettings(model="llama-3.1-8b-instruct", pool="chat", profile="llama-3.1-8b", accelerator="L40S"),
    PoolSettings(model="llama-3.1-8b-instruct", pool="batch", profile="llama-3.1-8b", accelerator="L40S"),
    PoolSettings(
        model="meta-llama/Llama-3.3-70B-Instruct",
        pool="chat",
        profile="llama-3.3-70b",
        accelerator="H100-SXM",
        tensor_parallel=4,
    ),
)


def demand(index: int, elapsed: float) -> float:
    """Requests per second of pool ``index``: a slow wave; pool 0 rises after hour 3:25, pool 2 jumps at 2:50."""
    base = (14.0, 6.0, 4.0)[index] * (1.0 + 0.3 * math.sin(elapsed / 9_000.0 + index))
    if index == 0:
        base *= 1.0 + 1.6 / (1.0 + math.exp(-(elapsed - 3 * 3600 - 1_500) / 90.0))
    if index == 2 and elapsed >= 3 * 3600 - 600:
        base *= 2.8
    return base * (1.0 + 0.03 * math.sin(elapsed * 7.1 + index))


def _by_tenant(requests: int) -> tuple[Breakdown, ...]:
    counts = {"acme": requests // 4, "bolt": requests // 10}
    counts[REST] = requests - sum(counts.values())
    return (Breakdown("tenant", 40, tuple(Part(v, n, 900 * n, 112 * n, 240 * n) for v, n in counts.items())),)


class Feed:
    """Owns the clock, the live state and the rows that a store would hold."""

    def __init__(self, pools: tuple[PoolSettings, ...] = POOLS, start: int = START) -> None:
        self.start = start
        self.clock = ManualClock(start)
        self.settings = pools
        self.live = LiveState(self.clock, pools, "c0ffee123456")
        self.live.set_prices({PoolKey(p.model, p.pool): PRICE for p in pools})
        self.windows: dict[tuple[str, str], list[ClosedWindow]] = {(p.model, p.pool): [] for p in pools}
        self.advice: dict[tuple[str, str], list[Recommendation]] = {(p.model, p.pool): [] for p in pools}
        self.said: dict[tuple[str, str, str, int], list[Forecast]] = {}
        self.episodes: dict[str, Alert] = {}
        self.as_of = start
        self.generation = 0
        self.requests = 0
        self.fail: Exception | None = None

    def rate(self, index: int, elapsed: float) -> float:
        """Requests per second of pool ``index``, ``elapsed`` seconds after the start."""
        return demand(index % 3, elapsed)

    def step(self, minutes: int = 1, delay_seconds: float = 65.0) -> None:
        for _ in range(minutes):
            self.as_of += 60
            self.clock.set(self.as_of + delay_seconds)
            output = self._output()
            self.live.update(output)
            if self.live.fleet is not None:  # as the controller does
                self.live.fleet.take(output.recommendations)
                self.live.fleet.split(self.as_of)
        self._health()

    def _output(self) -> StepOutput:
        windows, forecasts, scores, advice = [], [], [], []
        for index, pool in enumerate(self.settings):
            rate = self.rate(index, self.as_of - self.start - 30)
            windows.append(self._window(pool, rate, index))
            for horizon in HORIZONS:
                forecasts += self._forecasts(pool, index, horizon)
                series = SeriesKey(pool.model, pool.pool, Signal.REQUESTS)
                scores.append(Score(series, horizon, 120, 0.05 + horizon / 40_000, 0.9, 0.95, 0.3, 0.93, 0.91, 0.01))
            advice.append(self._recommendation(pool, index, rate))
        for window, given in zip(windows, advice, strict=True):
            self.windows[window.model, window.pool].append(window)
            self.advice[window.model, window.pool].append(given)
        for forecast in forecasts:
            self.said.setdefault((*forecast.series, forecast.horizon_seconds), []).append(forecast)
        alerts = self._alerts()
        self.episodes |= {alert.alert_id: alert for alert in alerts}
        return StepOutput(
            self.as_of,
            tuple(windows),
            tuple(forecasts),
            tuple(scores),
            tuple(advice),
            tuple(alerts),
            tenants=self._tenants(windows[0], forecasts),
            scorecards=tuple(
                Scorecard(pool.model, pool.pool, span, 900, 0.08, 0.55, 0.91, 1.5, 40.0, 120.0, 0.95, 0.9)
                for pool in self.settings
                for span in SCORE_SPANS
            ),
            uses=uses(self.settings),
        )

    def _tenants(self, window: ClosedWindow, forecasts: list[Forecast]) -> tuple[TenantDemand, ...]:
        """The first pool is forecast by tenant: one has a series, the others none."""
        said = [f for f in forecasts if f.series == SeriesKey(window.model, window.pool, Signal.REQUESTS)]
        found = []
        for tenant, share in (("acme", 0.25), (REST, 0.75)):
            own = tuple(structs.replace(f, quantiles=tuple(share * value for value in f.quantiles)) for f in said)
            rate = share * window.requests / 60
            found.append(TenantDemand(window.model, window.pool, tenant, rate, share, own))
        return tuple(found)

    def _window(self, pool: PoolSettings, rate: float, index: int) -> ClosedWindow:
        requests = round(rate * 60)
        self.requests += requests
        return closed_window(
            self.as_of - 60,
            requests,
            model=pool.model,
            pool=pool.pool,
            input_tokens=900,
            output_tokens=240,
            e2e_milliseconds=7_000,
            ok=requests - 2,
            rejected=1,
            completeness=0.98,
            current_replicas=self.current(index),
            ready_replicas=self.current(index),
            breakdown=_by_tenant(requests) if index == 0 else (),
            servers=self.current(index),
            fleet=FleetReport(self.as_of - 5.0, 2, round(requests / 60 * 7), ()),
            service=Service(*[Quantiles(0.1, 0.4, 0.8)] * 4, ServiceCounts(requests - 9, 3, 2, 1, 0, 2, 1)),
        )

    def current(self, index: int) -> int:
        return max(1, math.ceil(self.rate(index, self.as_of - self.start - 660) * 1.15 / PER_REPLICA))

    def _forecasts(self, pool: PoolSettings, index: int, horizon: int) -> list[Forecast]:
        median = self.rate(index, self.as_of - self.start + horizon - 30)
        spread = median * (0.05 + 0.15 * math.sqrt(horizon / 3600))
        scales = {
            Signal.REQUESTS: 1.0,
            Signal.PREFILL_TOKENS: 700.0,
            Signal.DECODE_TOKENS: 240.0,
            Signal.KV_TOKENS: 6_000.0,
        }
        return [
            Forecast(
                SeriesKey(pool.model, pool.pool, signal),
                float(self.as_of),
                horizon,
                tuple(max(0.0, (median + Z[level] * spread) * scale) for level in LEVELS),
            )
            for signal, scale in scales.items()
        ]

    def _recommendation(self, pool: PoolSettings, index: int, rate: float) -> Recommendation:
        ahead = self.rate(index, self.as_of - self.start + 900 - 30) * 1.12
        current = self.current(index)
        desired = max(1, math.ceil(ahead / PER_REPLICA))
        direction = "up" if desired > current else "down" if desired < current else "hold"
        before = self.advice[pool.model, pool.pool]
        generation = before[-1].generation if before else 1
        if before and before[-1].desired != desired:
            generation += 1
        return Recommendation(
            recommendation_id=f"{pool.model}|{pool.pool}|{generation}",
            model=pool.model,
            pool=pool.pool,
            generation=generation,
            issued_at=float(self.as_of),
            expires_at=float(self.as_of + pool.ttl_seconds),
            horizon_seconds=900.0,
            accelerator=pool.accelerator,
            accelerators_per_replica=pool.tensor_parallel,
            desired=desired,
            lower=max(1, desired - 1),
            upper=desired + 2,
            min_replicas=1,
            max_replicas=64,
            current=current,
            direction=direction,
            reason={"up": Reason.FORECAST_UP, "down": Reason.FORECAST_DOWN, "hold": Reason.WITHIN_BAND}[direction],
            message=(
                f"15-min-ahead p90 of {ahead:.1f} req/s needs {desired} replicas "
                f"(decode latency binds at {PER_REPLICA:.1f} req/s each); now {current}"
            ),
            constraint=Constraint.DECODE_LATENCY,
            clamped_by=(),
            state=RecommendationState.FRESH,
            confidence=Confidence.CALIBRATED,
            confidence_ratio=0.88,
            evidence={
                "capacity_requests_per_second_per_replica": PER_REPLICA,
                "capacity_prefill_tokens_per_second_per_replica": PER_REPLICA * 700.0,
                "capacity_decode_tokens_per_second_per_replica": PER_REPLICA * 240.0,
                "capacity_kv_tokens_per_replica": 60_000.0,
                "forecast_p90_requests_per_second": ahead,
                "lead_time_seconds": 900.0,
                "start_up_p90_seconds": 835.0,
                "predicted_ttft_seconds": 0.4,
                "predicted_tpot_seconds": 0.03,
                "slo_percentile": 0.95,
                **{f"slo_attainment_{span}_ratio": 0.97 for span in SPANS},
                "observed_requests_per_second": rate,
                "demand_requests_per_second": ahead,
                "replicas_needed_by_requests": ahead / PER_REPLICA,
                "replicas_needed_by_observed_requests": rate / PER_REPLICA,
            },
            config_hash="c0ffee123456",
            counterfactuals=(
                Counterfactual("kv_precision", "fp8", desired, 0, 0, "FP8 KV cache: nothing", "quality is not judged"),
                Counterfactual("max_num_seqs", "512", None, None, None, "max_num_seqs 512: does not fit"),
            ),
        )

    def _alerts(self) -> list[Alert]:
        model, pool = self.settings[0].model, self.settings[0].pool
        found = []
        if self.as_of == self.start + 3 * 3600 - 5 * 60:
            found.append(
                Alert(
                    f"spike_forecast|{model}|{pool}|{self.as_of}",
                    AlertKind.SPIKE_FORECAST,
                    model,
                    pool,
                    float(self.as_of),
                    float(self.start + 3 * 3600 + 1_500),
                    None,
                    "warning",
                    1.7,
                    0.93,
                    "demand is expected to exceed what 7 replicas serve in 30 min",
                )
            )
        if len(self.settings) > 2 and self.as_of == self.start + 3 * 3600 - 8 * 60:
            model, pool = self.settings[2].model, self.settings[2].pool
            found.append(
                Alert(
                    f"spike_observed|{model}|{pool}|{self.as_of}",
                    AlertKind.SPIKE_OBSERVED,
                    model,
                    pool,
                    float(self.as_of),
                    float(self.start + 3 * 3600 - 600),
                    None,
                    "critical",
                    2.8,
                    None,
                    "demand rose to 2.8 times the recent level",
                )
            )
        ended = self.episodes.get("test-ended")
        if ended is None and self.as_of >= self.start + 1800:
            found.append(
                Alert(
                    "test-ended",
                    AlertKind.TELEMETRY_GAP,
                    model,
                    pool,
                    float(self.as_of - 900),
                    float(self.as_of - 900),
                    float(self.as_of - 300),
                    "warning",
                    None,
                    None,
                    "no telemetry for 10 min; advice was held",
                )
            )
        return found

    def tell_bridged(self, *pools: PoolSettings) -> None:
        """From now until the next step these pools are counted by a bridge alone."""
        health = self.live.health()
        counted = {f"{pool.model}|{pool.pool}": 120 for pool in pools}
        self.live.set_health(replace(health, event_notes={**health.event_notes, "bridge_counted": counted}))

    def _health(self) -> None:
        rejected = {"malformed": 7, "negative": 2}
        self.live.set_health(
            PipelineHealth(
                ready=True,
                watermark=float(self.as_of),
                records=self.requests + 25 + 9,
                event_records=self.requests + 25,
                event_notes={
                    "codec": {"otlp_json": 7},
                    "unknown": {"ttft_seconds": 2},
                    "bridge_counted": {"llama-3.1-8b|chat": 120},
                    "bridge_ignored": {"llama-3.1-8b|chat": 30},
                },
                events=self.requests,
                duplicates=25,
                dead_letters=rejected,
                late=3,
                unknown_models=UnknownDemand(
                    0.2,
                    (
                        UnknownModel("sql-lora", "chat", 0.15, PoolKey("llama-3.1-8b", "chat")),
                        UnknownModel("whisper", "speech", 0.05, None),
                    ),
                ),
                deltas_applied=4_000,
                lag_records={("inference.requests.v1", p): p * 3 for p in range(2)},
                last_success={"store": float(self.as_of + 60), "advise": float(self.as_of + 61)},
                store_write_seconds=0.012,
                exogenous_rows={"taken": 12, "after_target": 1},
            )
        )

    def end_alert(self, alert_id: str) -> None:
        ended = replace(self.episodes[alert_id], ended_at=float(self.as_of))
        self.episodes[alert_id] = ended
        self.live.update(StepOutput(self.as_of, alerts=(ended,)))

    # What the API asks of a store.
    def history(self, model: str, pool: str, start: float, end: float, grain_seconds: int) -> list[Any]:
        self._maybe_fail()
        known = self.windows.get((model, pool), [])
        found = [replace(w, fleet=None, service=None) for w in known if start <= w.start < end]  # not in history
        rows = [{"end": w.end, "closed": 1, **asdict(w)} for w in found]
        if found and found[-1].end == self.as_of < end:  # the window that is still filling
            open_ = replace(found[-1], start=self.as_of, requests=3, completeness=1.0)
            rows.append({"end": open_.end, **asdict(open_), "closed": 0, "current_replicas": None})
        return rows

    def one_state(self, read: Callable[[], Any]) -> Any:
        return read()

    def history_span(self) -> tuple[int, int] | None:
        known = [window for windows in self.windows.values() for window in windows]
        return (min(w.start for w in known), max(w.end for w in known) + 60) if known else None

    def latencies(self, model: str, pool: str, start: float, end: float, grain_seconds: int) -> dict[int, Any]:
        percentiles = {"p50": 0.4, "p90": 0.7, "p95": 0.8, "p99": 1.1}
        found = self.windows.get((model, pool), [])
        return {w.start: {"statuses": "ok", "ttft_seconds": {"told": w.ok, "mean": 0.45, **percentiles}} for w in found}

    def forecasts_at(
        self, model: str, pool: str, signal: str, horizon_seconds: int, start: float, end: float
    ) -> list[dict[str, Any]]:
        self._maybe_fail()
        said = self.said.get((model, pool, signal, horizon_seconds), [])
        return [
            {"target_at": f.target_at, "q05": f.quantiles[0], "q50": f.quantiles[3], "q95": f.quantiles[6]}
            for f in said
            if start <= f.target_at <= end
        ]

    def recommendations(self, model: str, pool: str, limit: int, before: tuple[float, int] | None = None) -> list[Any]:
        self._maybe_fail()
        found = self.advice.get((model, pool), [])[::-1]
        return [r for r in found if before is None or (r.issued_at, r.generation) < tuple(before)][:limit]

    def alerts(self, since: float) -> list[Any]:
        self._maybe_fail()
        return [a for a in self.episodes.values() if a.raised_at >= since]

    def pools(self) -> list[tuple[str, str]]:
        return list(self.windows)

    def samples(self, *_: Any) -> dict[Any, Any]:
        self._maybe_fail()
        return {}

    def forecast_paths(self, *_: Any) -> dict[Any, Any]:
        self._maybe_fail()
        return {}

    def full_matches(self, pattern: str, values: Any) -> set[str]:
        return {value for value in values if re.fullmatch(pattern, value)}

    def _maybe_fail(self) -> None:
        if self.fail is not None:
            raise self.fail


#: What the API asks of a store.
READS = ("one_state", "history", "latencies", "recommendations", "alerts", "pools", "samples", "forecast_paths",
         "full_matches")  # fmt: skip


def recorded(feed: Feed, store: Store, reads: Iterable[str] = READS) -> None:
    """Record every step of a feed in a store, as the controller does, and answer ``reads`` from there."""
    update = feed.live.update

    def record(output: StepOutput) -> None:
        store.record_step(output)
        update(output)

    feed.live.update = record  # type: ignore[method-assign, assignment]
    for name in reads:
        setattr(feed, name, getattr(store, name))
