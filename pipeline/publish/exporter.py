"""``/metrics``: the live state as Prometheus text, written at every step and served from memory.

The text is written from the state directly rather than from gauge objects: what has expired is simply not there, and an
absent series is safe (autoscalers hold), while a frozen gauge is not; and a thousand pools are over a hundred thousand
series, for which the objects of prometheus_client take seconds. Histories live in Prometheus.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from pipeline.alerts.rule import AlertRule, SpikeLabels
from pipeline.alerts.rule_registry import alert_rules, builtin_rules, engine_kinds
from pipeline.alerts.types import Alert, AlertKind
from pipeline.forecast.rates import counted_seconds, signal_rates
from pipeline.forecast.types import LEVELS, Signal
from pipeline.publish.autoscaler import autoscaler_samples, current_replicas
from pipeline.publish.counters import Counters
from pipeline.publish.exposition import Group, PoolText, Sample, Writer, lines_of
from pipeline.publish.kept_views import KeptViews
from pipeline.publish.metric_catalogue import BANDS
from pipeline.publish.money import money_samples
from pipeline.publish.packed_text import PackedText, text_of
from pipeline.publish.process_metrics import process_samples
from pipeline.publish.service_metrics import evidence_samples, score_samples, service_samples
from pipeline.publish.state import LiveState
from pipeline.publish.views import PoolView
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.types import Constraint, Reason, Recommendation, RecommendationState

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

#: Sets of series that are no pool's: the totals and the process, with some more or fewer of them.
_NO_POOL = 16
#: So many lines of pools, about 9 MB, are kept from scrape to scrape; with more, a scrape makes them of the values.
_MOST_KEPT_LINES = 64_000

_BAND_INDEX = {band: LEVELS.index(level) for band, level in BANDS.items()}
_TOKEN_SIGNALS = {Signal.PREFILL_TOKENS: "uncached_input", Signal.DECODE_TOKENS: "output"}


class _Shown(NamedTuple):
    """What was written of each pool, by name; the lines of the totals; both as they were packed for a scrape; when
    something expires (epoch seconds).
    """

    pools: list[tuple[PoolKey, PoolText]]
    totals: dict[int, bytes]
    packed: PackedText
    valid_until: float


class Exporter:
    """Writes the metrics of a LiveState; any thread may call it.

    The values of each pool are kept as text, and written anew when a step has changed it or something of it has
    expired. Their names and labels, nine parts in ten of a line, are the same for most pools and kept once. Lines are
    made ahead of the next scrape by ``prepare`` and kept, while they are few; else a scrape makes them. A scrape that
    comes while another thread writes gets what was there before, unless something of that has expired: it does not
    wait for all of a part of a step.
    """

    def __init__(self, live: LiveState, rules: Sequence[AlertRule] | None = None) -> None:
        self._live = live
        #: The alert rules in force; None: the built-in ones.
        self.rules = tuple(alert_rules() if rules is None else rules)
        self._no_rule_errors = {rule.name: 0 for rule in engine_kinds(self.rules)}
        self._lock = threading.Lock()
        self._writer = Writer()
        self._pools = KeptViews(live, self._written, with_counters=True)
        self._packing = threading.Lock()
        # Of all pools, by name, the totals, and what is packed of both.
        self._sorted: tuple[list[tuple[PoolKey, PoolText]], dict[int, bytes], PackedText] | None = None
        self._keeps_lines = False
        self._shown: _Shown | None = None  # replaced as a whole

    def refresh(self) -> None:
        """Write anew what has changed since the last time."""
        with self._lock:
            self._refresh()

    def prepare(self) -> None:
        """Write anew what has changed, sort the pools, and make the lines that are kept."""
        with self._lock:
            shown = self._show()
        if self._keeps_lines:
            for key, text in shown.pools:
                self._lines(key, text)

    def render(self) -> bytes:
        """Return the exposition (text format 0.0.4, UTF-8): every family that has a sample, in catalogue order."""
        shown = self._now_shown()
        return text_of(self._lasting(shown), self._rest(shown))

    def render_packed(self) -> bytes:
        """Return what ``render`` does, in gzip."""
        shown = self._now_shown()
        with self._packing:
            return shown.packed.packed(lambda: self._lasting(shown), self._rest(shown))

    def _rest(self, shown: _Shown) -> dict[int, bytes]:
        """Lines of the process by family, which differ from scrape to scrape."""
        # A writer of its own: that of the pools belongs to the thread that has the lock.
        return Writer().blocks(process_samples(self._live, len(shown.pools), self._no_rule_errors))

    def _lasting(self, shown: _Shown) -> dict[int, list[bytes]]:
        """Lines of the pools and the totals by family."""
        families: dict[int, list[bytes]] = defaultdict(list)
        for key, text in shown.pools:
            for family, lines in self._lines(key, text).items():
                families[family].append(lines)
        return dict(families) | {family: [lines] for family, lines in shown.totals.items()}

    def _now_shown(self) -> _Shown:
        shown = self._shown
        if not self._lock.acquire(blocking=shown is None or shown.valid_until <= self._live.now()):
            assert shown is not None
            return shown
        try:
            return self._show()
        finally:
            self._lock.release()

    def _show(self) -> _Shown:
        self._refresh()
        shown = self._shown = _Shown(*self._of_pools(), self._pools.valid_until)
        return shown

    def _refresh(self) -> None:
        before = self._pools.version
        changed = self._pools.refresh()
        if changed or self._pools.version != before:  # a step may change nothing but the totals
            self._sorted = None
        if changed:
            self._writer.share_no_more_than(len(self._pools.made) + _NO_POOL)

    def _written(self, view: PoolView) -> PoolText:
        return PoolText(self._writer.written(_pool(view), _groups(view), _members))

    def _lines(self, key: PoolKey, text: PoolText) -> dict[int, bytes]:
        lines = text.lines
        if lines is None:
            lines = lines_of(text.written, key)
            if self._keeps_lines:
                text.lines = lines
        return lines

    def _of_pools(self) -> tuple[list[tuple[PoolKey, PoolText]], dict[int, bytes], PackedText]:
        if self._sorted is None:
            counters = self._pools.counters
            assert counters is not None  # since the pools were looked at
            totals = self._writer.blocks(_totals(counters))
            by_name = sorted(self._pools.made.items(), key=lambda of_pool: of_pool[0])
            self._sorted = by_name, totals, PackedText()
            of_pools = sum(len(text.written.series.heads) for text in self._pools.made.values())
            self._keeps_lines = of_pools <= _MOST_KEPT_LINES
            if len(self._writer) > of_pools + sum(lines.count(b"\n") + 1 for lines in totals.values()):
                self._writer.forget()
        return self._sorted


def _pool(view: PoolView) -> Iterator[Sample]:
    if view.settings is not None:
        yield "pool_info", (view.settings.accelerator, view.settings.profile), 1
    if view.window is not None:
        yield from _window(view.window)
        if view.settings is not None:
            missing = any(alert.kind == AlertKind.TELEMETRY_GAP for alert in view.alerts)
            yield "telemetry_gap", (), int(missing or view.window.gap)
        for told in view.window.breakdown:
            yield "dimension_values", (told.dimension,), told.values
    for tenant in view.tenants:
        yield "tenant_demand_ratio", (tenant.tenant,), tenant.share
    yield "forecast_issued_timestamp_seconds", (), max((f.issued_at for f in view.forecasts), default=None)
    if view.recommendation is not None:
        yield from _recommendation(view.recommendation)
    yield from score_samples(view.scorecards)
    yield from money_samples(view)
    yield "current_replicas", (), current_replicas(view)
    yield from autoscaler_samples(view)
    if view.window is not None or view.alerts:
        for label, alerts in _spikes(view.alerts).items():
            ratios = [alert.ratio for alert in alerts]
            yield "spike_active", (label,), int(bool(ratios))
            yield "spike_ratio", (label,), max((r for r in ratios if r is not None), default=None)
    for kind in sorted({str(alert.kind) for alert in view.alerts}):
        yield "alert_active", (kind,), 1


@cache
def _spike_labels() -> dict[str, SpikeLabels]:
    """The labels of spikes in their metrics, by kind of alert."""
    rules = engine_kinds(tuple(builtin_rules().values()))
    return {rule.name: rule.engine.spike for rule in rules if rule.engine is not None and rule.engine.spike is not None}


def _spikes(alerts: Iterable[Alert]) -> dict[str, list[Alert]]:
    """Sort spikes by label; what the replicas hold has labels of its own: nothing to page for.

    It is ``foreseen`` when it was warned of and is there, ``rise`` when it is forecast.
    """
    kinds = _spike_labels()
    labels = [*(kind.spike for kind in kinds.values()), *(kind.held for kind in kinds.values())]
    found: dict[str, list[Alert]] = {label: [] for label in labels}
    for alert in alerts:
        kind = kinds.get(alert.kind)
        if kind is not None:
            found[kind.held if alert.severity == "info" else kind.spike].append(alert)
    return found


def _window(window: ClosedWindow) -> Iterator[Sample]:
    yield "window_end_timestamp_seconds", (), window.end
    rates = signal_rates(window)
    requests = rates[Signal.REQUESTS.value]
    if requests is None:
        return
    seconds = counted_seconds(window)
    yield "demand_requests_per_second", (), requests
    yield "demand_tokens_per_second", ("uncached_input",), rates[Signal.PREFILL_TOKENS.value]
    yield "demand_tokens_per_second", ("cached_input",), window.cached_input_tokens / seconds
    yield "demand_tokens_per_second", ("output",), rates[Signal.DECODE_TOKENS.value]
    yield "demand_kv_tokens", (), rates[Signal.KV_TOKENS.value]
    yield "demand_concurrency", (), window.inflight_milliseconds / 1000 / seconds
    yield "demand_completeness_ratio", (), window.completeness
    yield from service_samples(window, seconds)


def _groups(view: PoolView) -> Iterator[Group]:
    """Forecasts and scores: most of a pool's samples, so that they are written without a tuple for each."""
    for forecast in view.forecasts:
        quantiles = forecast.quantiles
        name = ("forecast", forecast.series.signal, str(forecast.horizon_seconds))
        yield name, [quantiles[index] for index in _BAND_INDEX.values()]
    for score in view.scores:
        values = (
            score.wape,
            score.coverage_90,
            score.coverage_95,
            score.coverage_95_busy,
            score.coverage_95_after_spike,
            score.regret,
        )
        yield ("score", score.series.signal, str(score.horizon_seconds)), values


def _members(group: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names and labels of a group's samples, in the order of its values."""
    kind, signal, horizon = group
    if kind == "score":
        at = (str(signal), horizon)
        yield "forecast_error_ratio", at
        for interval in ("p05_p95", "p95", "p95_busy", "p95_after_spike"):
            yield "forecast_coverage_ratio", (*at, interval)
        yield "forecast_regret_ratio", at
        return
    for band in _BAND_INDEX:
        if signal == Signal.REQUESTS:
            yield "forecast_requests_per_second", (horizon, band)
        elif signal == Signal.KV_TOKENS:
            yield "forecast_kv_tokens", (horizon, band)
        else:
            yield "forecast_tokens_per_second", (horizon, band, _TOKEN_SIGNALS[Signal(signal)])


def _recommendation(advice: Recommendation) -> Iterator[Sample]:
    yield "recommended_replicas", (), advice.desired
    yield "recommended_replicas_lower", (), advice.lower
    yield "recommended_replicas_upper", (), advice.upper
    yield "recommended_replicas_min", (), advice.min_replicas
    yield "recommended_replicas_max", (), advice.max_replicas
    accelerators = advice.desired * advice.accelerators_per_replica
    yield "recommended_accelerators", (advice.accelerator,), accelerators
    yield "recommendation_timestamp_seconds", (), advice.issued_at
    yield "recommendation_expiry_timestamp_seconds", (), advice.expires_at
    yield "recommendation_horizon_seconds", (), advice.horizon_seconds
    yield "recommendation_generation", (), advice.generation
    yield "recommendation_confidence_ratio", (), advice.confidence_ratio
    for state in RecommendationState:
        yield "recommendation_state", (state.value,), int(advice.state == state)
    yield "recommendation_reason", (str(advice.reason),), 1
    if advice.constraint is not None:
        yield "recommendation_constraint", (str(advice.constraint),), 1
    for limit in dict.fromkeys(advice.clamped_by):
        yield "recommendation_clamped", (limit,), 1
    yield (
        "slo_infeasible",
        (),
        int(advice.constraint == Constraint.SLO_INFEASIBLE or advice.reason == Reason.SLO_INFEASIBLE),
    )
    yield from evidence_samples(advice.evidence)
    per_replica = advice.evidence.get(CAPACITY_EVIDENCE)
    if per_replica is not None:
        yield "recommended_capacity_requests_per_second", (), advice.desired * per_replica
    if advice.current is not None:
        for name, labels, evidence in _CAPACITIES:
            if evidence in advice.evidence:
                yield name, labels, advice.current * advice.evidence[evidence]


def _totals(counters: Counters) -> Iterator[Sample]:
    for labels, count in sorted(counters.requests.items()):
        yield "requests_total", labels, count
    for labels, count in sorted(counters.tokens.items()):
        yield "tokens_total", labels, count
    for dimension, count in sorted(counters.unnamed_values.items()):
        yield "dimension_values_unnamed_total", dimension, count
    for change, count in sorted(counters.recommendation_changes.items()):
        yield "recommendation_changes_total", change, count
    for key, count in sorted(counters.revisions.items()):
        yield "recommendation_revisions_total", key, count
    spikes = _spike_labels()
    for (model, pool, kind), count in sorted(counters.alerts.items()):
        yield "alerts_total", (model, pool, kind), count
        if kind in spikes:
            yield "spikes_total", (model, pool, spikes[kind].spike), count
    yield "steps_total", (), counters.steps
