"""Many pools, each with a day of its own, for the tests and pictures of the board."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, replace
from typing import Any

from pipeline.alerts.types import Alert, AlertKind
from pipeline.config.settings import PoolSettings
from pipeline.engine.types import StepOutput
from pipeline.forecast.outlook import HOUR_HORIZONS, Grain, Outlook
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey, Signal
from pipeline.windows.rollup import CLOSED_MEASURES
from pipeline.windows.types import ClosedWindow
from sizing.types import Recommendation, RecommendationState
from tests.publish_feed import PER_REPLICA, START, Feed, Z

MODELS = (
    *("llama-3.1-8b-instruct", "llama-3.3-70b-instruct", "qwen3-32b", "mistral-small-3.2", "gemma-3-27b-it"),
    *("deepseek-v3.2", "gpt-oss-120b", "meta-llama/Llama-4-Maverick-17B-128E-Instruct", "qwen3-coder-480b"),
)
USES = ("chat", "batch", "agents", "search", "code", "support", "voice", "summaries", "eval", "internal")


def pools(count: int) -> tuple[PoolSettings, ...]:
    """Settings of ``count`` pools, the same in every run."""
    found = []
    for n in range(count):
        use, region = USES[n % len(USES)], f"{('eu', 'us', 'ap')[n // 10 % 3]}{n // 90 + 1}"
        model = MODELS[n // len(USES) % len(MODELS)]
        found.append(PoolSettings(model=model, pool=f"{use}-{region}-{n}", profile="llama-3.1-8b", accelerator="L40S"))
    return tuple(found)


class Fleet(Feed):
    """``count`` pools; some rise, some jump, most are quiet. ``past_hours`` of demand lie before the first step."""

    def __init__(self, count: int, past_hours: int = 0) -> None:
        chance = random.Random(20_261_130)
        self._shape = [
            (chance.lognormvariate(2.2, 0.9), chance.random() * 6.28, chance.random(), chance.randint(-300, 2_700))
            for _ in range(count)
        ]
        super().__init__(pools(count), START + 20 * 3600)
        past = range(self.start - past_hours * 3600, self.start, 180)
        self.live.recall_demand(
            (pool.model, pool.pool, start, self.rate(index, start - self.start))
            for start in past
            for index, pool in enumerate(self.settings)
        )

    def rate(self, index: int, elapsed: float) -> float:
        base, phase, kind, onset = self._shape[index]
        day = 1.0 + 0.45 * math.sin(elapsed / 13_750.0 + phase)
        jitter = (int(elapsed // 60) * 2_654_435_761 + index * 40_503) % 4_096 / 4_096 - 0.5
        noise = 1.0 + 0.10 * jitter + 0.03 * math.sin(elapsed / 700.0 + 5 * phase)
        rise = 1.4 / (1.0 + math.exp(-(elapsed - onset) / 150.0)) if kind < 0.04 else 0.0
        return base * day * noise * (1.0 + rise)

    def _window(self, pool: PoolSettings, rate: float, index: int) -> ClosedWindow:
        window = super()._window(pool, rate, index)
        return replace(window, servers=None, fleet=None, breakdown=())

    def _recommendation(self, pool: PoolSettings, index: int, rate: float) -> Recommendation:
        advice = super()._recommendation(pool, index, rate)
        own = {f"replicas_needed_by_{name}": advice.desired * share for name, share in
               (("requests", 0.96), ("prefill_tokens", 0.55), ("decode_tokens", 0.9), ("kv_tokens", 0.7))}  # fmt: skip
        attained = 0.999 - 0.02 * self._shape[index][2] ** 6
        evidence = advice.evidence | own | {f"slo_attainment_{span}_ratio": attained for span in ("5m", "1h", "1d")}
        ahead = advice.evidence["demand_requests_per_second"]
        evidence |= {
            "capacity_prefill_tokens_per_second_per_replica": PER_REPLICA * 1_800.0,
            "capacity_decode_tokens_per_second_per_replica": PER_REPLICA * 250.0,
            "usable_kv_tokens_per_replica": 54_000.0,
            "demand_prefill_tokens_per_second": ahead * 900.0,
            "demand_decode_tokens_per_second": ahead * 240.0,
            "demand_kv_tokens": ahead * 7_000.0,
            "demand_quantile": 0.9,
        }
        if index % 67 == 50:
            return replace(advice, evidence=evidence, state=RecommendationState.HOLD, clamped_by=("step_limit",))
        return replace(advice, evidence=evidence)

    def _alerts(self) -> list[Alert]:
        found = []
        for index, pool in enumerate(self.settings):
            _, _, kind, onset = self._shape[index]
            name = f"spike_forecast|{pool.model}|{pool.pool}"
            if kind < 0.04 and name not in self.episodes:
                at = float(self.start + onset)
                message = (
                    f"{pool.model}/{pool.pool}: demand is forecast to exceed what {self.current(index)} replicas serve "
                    f"in {max(0.0, at - self.as_of) / 60:.0f} min: P(demand > capacity) is 0.93, expected shortfall "
                    "31% of them; the same rise was seen on four of the last five working days"
                )
                found.append(
                    Alert(name, AlertKind.SPIKE_FORECAST, pool.model, pool.pool, float(self.as_of), at, None,
                          "critical" if onset < 600 else "warning", 1.4, 0.93, message)
                )  # fmt: skip
        return found

    def history(self, model: str, pool: str, start: float, end: float, grain_seconds: int) -> list[Any]:
        self._maybe_fail()
        index = next(i for i, one in enumerate(self.settings) if (one.model, one.pool) == (model, pool))
        oldest = max(start, self.start - 14 * 86_400)
        slots = range(int(oldest // grain_seconds) * grain_seconds, int(min(end, self.as_of)), grain_seconds)
        rows = []
        for slot in slots:
            window = self._window(self.settings[index], self.rate(index, slot - self.start + 30), index)
            known = asdict(replace(window, fleet=None, service=None))
            sums = {name: known[name] * grain_seconds // 60 for name in CLOSED_MEASURES}
            told = {"start": slot, "end": slot + grain_seconds, "closed": grain_seconds // 60}
            rows.append(known | sums | told | {"grain_seconds": grain_seconds})
        return rows

    def latencies(self, model: str, pool: str, start: float, end: float, grain_seconds: int) -> dict[int, Any]:
        def told(window: ClosedWindow, usual: float) -> dict[str, Any]:
            slow = usual * (0.7 + 0.3 * (window.start // 60 * 7_919 % 101) / 100)
            shares = {"mean": 0.5, "p50": 0.5, "p90": 0.9, "p95": 1.0, "p99": 1.4}
            return {"told": window.ok, **{name: share * slow for name, share in shares.items()}}

        return {
            w.start: {"statuses": "ok", "ttft_seconds": told(w, 0.62), "tpot_seconds": told(w, 0.034)}
            for w in self.windows.get((model, pool), [])
        }

    def tell_outlooks(self) -> None:
        """Add hours ahead of every pool and signal, as the engine says them."""
        found = []
        for index, pool in enumerate(self.settings):
            for signal, scale in zip(Signal, (1.0, 700.0, 240.0, 6_000.0), strict=True):
                series = SeriesKey(pool.model, pool.pool, signal)
                hours = []
                for hour in HOUR_HORIZONS:
                    median = self.rate(index, self.as_of - self.start + hour * 3_600)
                    spread = median * (0.08 + 0.02 * math.sqrt(hour))
                    values = tuple(max(0.0, scale * (median + Z[level] * spread)) for level in LEVELS)
                    hours.append(Forecast(series, float(self.as_of), hour * 3_600, values))
                found.append(Outlook(series, Grain.HOUR, float(self.as_of), tuple(hours)))
        self.live.update(StepOutput(self.as_of, outlooks=tuple(found)))
