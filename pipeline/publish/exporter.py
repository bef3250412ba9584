"""``/metrics``: the live state as Prometheus text, built anew at every scrape.

The text is written from the state directly rather than from gauge objects: what has expired is simply not there, and an
absent series is safe (autoscalers hold), while a frozen gauge is not; and a thousand pools are over a hundred thousand
series, for which the objects of prometheus_client take seconds. Histories live in Prometheus.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

import pipeline
from pipeline.advise.model import Alert, AlertKind
from pipeline.forecast.model import LEVELS, Forecast, Score, Signal
from pipeline.forecast.rates import counted_seconds, signal_rates
from pipeline.publish.catalogue import BANDS, CATALOGUE, Metric
from pipeline.publish.counters import Counters
from pipeline.publish.state import LiveState, PipelineHealth, PoolView, Snapshot
from pipeline.windows.model import ClosedWindow
from sizing.model import Constraint, Reason, Recommendation, RecommendationState

__all__ = ["CAPACITY_EVIDENCE", "CONTENT_TYPE", "Exporter"]

#: What ``Exporter.render`` returns.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

#: Name of the evidence that holds what one replica can serve.
CAPACITY_EVIDENCE = "capacity_requests_per_second_per_replica"

_CAPACITIES = (
    ("capacity_requests_per_second", (), CAPACITY_EVIDENCE),
    ("capacity_tokens_per_second", ("uncached_input",), "capacity_prefill_tokens_per_second_per_replica"),
    ("capacity_tokens_per_second", ("output",), "capacity_decode_tokens_per_second_per_replica"),
    ("capacity_kv_tokens", (), "capacity_kv_tokens_per_replica"),
)

#: One sample: metric name without the prefix, label values in catalogue order, value (None and non-finite: left out).
Sample = tuple[str, tuple[str, ...], float | None]

#: The name and label values of a sample.
Series = tuple[str, tuple[str, ...]]

#: Line heads kept per sample of a scrape, before all are made anew.
_KEPT_PER_SAMPLE = 2

_BAND_INDEX = {band: LEVELS.index(level) for band, level in BANDS.items()}
_SPIKES = {AlertKind.SPIKE_OBSERVED: "observed", AlertKind.SPIKE_FORECAST: "forecast"}
#: ... and of severity ``info``.
_HELD = {AlertKind.SPIKE_OBSERVED: "foreseen", AlertKind.SPIKE_FORECAST: "rise"}
_TOKEN_SIGNALS = {Signal.PREFILL_TOKENS: "uncached_input", Signal.DECODE_TOKENS: "output"}


class Exporter:
    """Writes the metrics of a LiveState."""

    def __init__(self, live: LiveState) -> None:
        self._live = live
        # What comes before the value, by series: from scrape to scrape only the value differs.
        self._heads: dict[Series, str] = {}

    def render(self) -> bytes:
        """Return the exposition (text format 0.0.4, UTF-8): every family that has a sample, in catalogue order."""
        lines: dict[str, list[str]] = {short: [] for short in _HEADS}
        isfinite = math.isfinite
        heads = self._heads
        count = 0
        for short, labels, value in _samples(self._live.snapshot()):
            if value is not None and isfinite(value):
                series = short, labels
                head = heads.get(series)
                if head is None:
                    head = heads[series] = _head(short, labels)
                lines[short].append(f"{head}{float(value)!r}")
                count += 1
        if len(heads) > _KEPT_PER_SAMPLE * count:  # those of tenants and pools that went away
            self._heads = {}
        text = [line for short, found in lines.items() if found for line in (_INTRODUCTIONS[short], *found)]
        return "\n".join([*text, ""]).encode()


def _head(short: str, labels: tuple[str, ...]) -> str:
    """What comes before the value in a line."""
    return _HEADS[short] % tuple(map(_escape, labels))


def _escape(label: str) -> str:
    """A label value between quotes, whatever a producer wrote as a model name: valid UTF-8, escaped."""
    text = label.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _template(metric: Metric) -> str:
    """A line up to its value, with %s for every label's value."""
    labels = ",".join(f'{label}="%s"' for label in metric.labels)
    return f"{metric.name}{{{labels}}} " if labels else f"{metric.name} "


_HEADS = {metric.name.removeprefix("tokentide_"): _template(metric) for metric in CATALOGUE}
_INTRODUCTIONS = {
    metric.name.removeprefix("tokentide_"): f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}"
    for metric in CATALOGUE
}


def _samples(snapshot: Snapshot) -> Iterator[Sample]:
    for view in snapshot.pools:
        yield from _pool(view)
    yield from _totals(snapshot.counters)
    yield from _health(snapshot.health)
    yield "clock_timestamp_seconds", (), snapshot.now
    if snapshot.health.watermark is not None:
        yield "watermark_lag_seconds", (), max(0.0, snapshot.now - snapshot.health.watermark)
    yield "pools", (), len(snapshot.pools)
    yield "build_info", (pipeline.__version__,), 1
    yield "config_info", (snapshot.config_hash,), 1


def _pool(view: PoolView) -> Iterator[Sample]:
    key = tuple(view.key)
    if view.settings is not None:
        yield "pool_info", (*key, view.settings.accelerator, view.settings.profile), 1
    if view.window is not None:
        yield from _window(key, view.window)
        missing = any(alert.kind == AlertKind.TELEMETRY_GAP for alert in view.alerts)
        yield "telemetry_gap", key, int(missing or view.window.gap)
        for told in view.window.breakdown:
            yield "dimension_values", (*key, told.dimension), told.values
    for tenant in view.tenants:
        yield "tenant_demand_ratio", (*key, tenant.tenant), tenant.share
    for forecast in view.forecasts:
        yield from _forecast(key, forecast)
    yield "forecast_issued_timestamp_seconds", key, max((f.issued_at for f in view.forecasts), default=None)
    for score in view.scores:
        yield from _score(key, score)
    if view.recommendation is not None:
        yield from _recommendation(key, view.recommendation)
    current = view.window.current_replicas if view.window is not None else None
    if current is None and view.recommendation is not None:
        current = view.recommendation.current
    yield "current_replicas", key, current
    if view.window is not None or view.alerts:
        for label, alerts in _spikes(view.alerts).items():
            ratios = [alert.ratio for alert in alerts]
            yield "spike_active", (*key, label), int(bool(ratios))
            yield "spike_ratio", (*key, label), max((r for r in ratios if r is not None), default=None)


def _spikes(alerts: Iterable[Alert]) -> dict[str, list[Alert]]:
    """Sort spikes by label; what the replicas hold has labels of its own: nothing to page for.

    It is ``foreseen`` when it was warned of and is there, ``rise`` when it is forecast.
    """
    found: dict[str, list[Alert]] = {label: [] for label in (*_SPIKES.values(), *_HELD.values())}
    for alert in alerts:
        label = (_HELD if alert.severity == "info" else _SPIKES).get(alert.kind)
        if label is not None:
            found[label].append(alert)
    return found


def _window(key: tuple[str, ...], window: ClosedWindow) -> Iterator[Sample]:
    yield "window_end_timestamp_seconds", key, window.end
    rates = signal_rates(window)
    requests = rates[Signal.REQUESTS.value]
    if requests is None:
        return
    seconds = counted_seconds(window)
    yield "demand_requests_per_second", key, requests
    yield "demand_tokens_per_second", (*key, "uncached_input"), rates[Signal.PREFILL_TOKENS.value]
    yield "demand_tokens_per_second", (*key, "cached_input"), window.cached_input_tokens / seconds
    yield "demand_tokens_per_second", (*key, "output"), rates[Signal.DECODE_TOKENS.value]
    yield "demand_kv_tokens", key, rates[Signal.KV_TOKENS.value]
    yield "demand_concurrency", key, window.inflight_milliseconds / 1000 / seconds
    yield "demand_completeness_ratio", key, window.completeness


def _forecast(key: tuple[str, ...], forecast: Forecast) -> Iterator[Sample]:
    horizon = str(forecast.horizon_seconds)
    signal = Signal(forecast.series.signal)
    for band, index in _BAND_INDEX.items():
        value = forecast.quantiles[index]
        if signal is Signal.REQUESTS:
            yield "forecast_requests_per_second", (*key, horizon, band), value
        elif signal is Signal.KV_TOKENS:
            yield "forecast_kv_tokens", (*key, horizon, band), value
        else:
            yield "forecast_tokens_per_second", (*key, horizon, band, _TOKEN_SIGNALS[signal]), value


def _score(key: tuple[str, ...], score: Score) -> Iterator[Sample]:
    at = (*key, str(score.series.signal), str(score.horizon_seconds))
    yield "forecast_error_ratio", at, score.wape
    yield "forecast_coverage_ratio", (*at, "p05_p95"), score.coverage_90
    yield "forecast_coverage_ratio", (*at, "p95"), score.coverage_95
    yield "forecast_coverage_ratio", (*at, "p95_busy"), score.coverage_95_busy
    yield "forecast_coverage_ratio", (*at, "p95_after_spike"), score.coverage_95_after_spike
    yield "forecast_regret_ratio", at, score.regret


def _recommendation(key: tuple[str, ...], advice: Recommendation) -> Iterator[Sample]:
    yield "recommended_replicas", key, advice.desired
    yield "recommended_replicas_lower", key, advice.lower
    yield "recommended_replicas_upper", key, advice.upper
    yield "recommended_replicas_min", key, advice.min_replicas
    yield "recommended_replicas_max", key, advice.max_replicas
    accelerators = advice.desired * advice.accelerators_per_replica
    yield "recommended_accelerators", (*key, advice.accelerator), accelerators
    yield "recommendation_timestamp_seconds", key, advice.issued_at
    yield "recommendation_expiry_timestamp_seconds", key, advice.expires_at
    yield "recommendation_horizon_seconds", key, advice.horizon_seconds
    yield "recommendation_generation", key, advice.generation
    yield "recommendation_confidence_ratio", key, advice.confidence_ratio
    for state in RecommendationState:
        yield "recommendation_state", (*key, state.value), int(advice.state == state)
    yield "recommendation_reason", (*key, str(advice.reason)), 1
    if advice.constraint is not None:
        yield "recommendation_constraint", (*key, str(advice.constraint)), 1
    for limit in dict.fromkeys(advice.clamped_by):
        yield "recommendation_clamped", (*key, limit), 1
    yield (
        "slo_infeasible",
        key,
        int(advice.constraint == Constraint.SLO_INFEASIBLE or advice.reason == Reason.SLO_INFEASIBLE),
    )
    per_replica = advice.evidence.get(CAPACITY_EVIDENCE)
    if per_replica is not None:
        yield "recommended_capacity_requests_per_second", key, advice.desired * per_replica
    if advice.current is not None:
        for name, labels, evidence in _CAPACITIES:
            if evidence in advice.evidence:
                yield name, (*key, *labels), advice.current * advice.evidence[evidence]


def _totals(counters: Counters) -> Iterator[Sample]:
    for labels, count in sorted(counters.requests.items()):
        yield "requests_total", labels, count
    for labels, count in sorted(counters.tokens.items()):
        yield "tokens_total", labels, count
    for dimension, count in sorted(counters.unnamed_values.items()):
        yield "dimension_values_unnamed_total", dimension, count
    for change, count in sorted(counters.recommendation_changes.items()):
        yield "recommendation_changes_total", change, count
    for (model, pool, kind), count in sorted(counters.alerts.items()):
        if AlertKind(kind) in _SPIKES:
            yield "spikes_total", (model, pool, _SPIKES[AlertKind(kind)]), count
    yield "steps_total", (), counters.steps
    yield "step_errors_total", (), counters.step_errors


def _health(health: PipelineHealth) -> Iterator[Sample]:
    yield "ready", (), int(health.ready)
    yield "events_consumed_total", (), health.records
    yield "events_accepted_total", (), health.events
    for reason, count in sorted(health.dead_letters.items()):
        yield "events_rejected_total", (reason,), count
    yield "events_duplicate_total", (), health.duplicates
    yield "events_late_total", (), health.late
    yield "events_lost_total", (), health.lost
    yield "events_unknown_model_total", (), health.unknown_model_events
    yield "deltas_total", ("applied",), health.deltas_applied
    yield "deltas_total", ("dropped",), health.deltas_dropped
    yield "delta_gaps_total", (), health.delta_gaps
    yield "watermark_timestamp_seconds", (), health.watermark
    for (topic, partition), records in sorted(health.lag_records.items()):
        yield "consumer_lag_records", (topic, str(partition)), records
    yield "store_write_duration_seconds", (), health.store_write_seconds
    for stage, at in sorted(health.last_success.items()):
        yield "stage_last_success_timestamp_seconds", (stage,), at
